"""The mirror writes to a real PostgreSQL, by way of a server and directly, what it writes to SQLite."""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from hushsweep.dashboards import mirror
from hushsweep.dashboards.server import without_password
from hushsweep.datasets.results import StoreError
from tests.dashboards.conftest import fill_folder
from tests.dashboards.test_tracking import COMMAND, assert_equals_rows, free_port, runs_of, server
from tests.postgres_support import PASSWORD, Postgres, binaries, postgres

pytestmark = pytest.mark.skipif(
    binaries() is None, reason="PostgreSQL's initdb is neither on the PATH nor in /usr/lib/postgresql/*/bin"
)
SWEEPS = ("both", "small")
OF_THE_STORE = ("hushsweep.store_id", "hushsweep.rows_digest", "mlflow.parentRunId")
"""Tags that name this store or a run of it; the digest is also of the description, which links to such a run."""
METRICS = """
SELECT name, key, step, timestamp, value FROM metrics JOIN runs USING (run_uuid)
WHERE key NOT LIKE 'system/%' ORDER BY name COLLATE "C", key, step
"""


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres(free_port()) as running:
        yield running


def shown(uri: str) -> list[Any]:
    """Everything of all runs but their ids and places, sorted."""
    client = MlflowClient(uri)
    return sorted(
        (
            sweep,
            run.info.run_name,
            run.info.status,
            run.info.start_time,
            run.info.end_time,
            sorted(run.data.params.items()),
            sorted(
                (key, re.sub(r"runs/[0-9a-f]{32}", "runs/ID", value))
                for key, value in run.data.tags.items()
                if key not in OF_THE_STORE
            ),
            sorted(
                (metric.key, metric.step, metric.timestamp, metric.value)
                for name in run.data.metrics
                for metric in client.get_metric_history(run.info.run_id, name)
            ),
            [(used.dataset.name, used.dataset.digest) for used in run.inputs.dataset_inputs],
            sorted(
                (artifact.path, artifact.file_size) for artifact in client.list_artifacts(run.info.run_id)
            ),
        )
        for sweep in SWEEPS
        for run in runs_of(uri, sweep)
    )


def test_postgres_shows_what_sqlite_shows_by_a_server_and_directly(
    tmp_path: Path, database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a database named by its address keeps artifacts in ./mlruns
    store, port = fill_folder(tmp_path / "results"), free_port()
    expected = shown(mirror(store.root).tracking_uri)
    assert len(expected) == 5

    direct = database.create("direct").replace("postgresql:", "postgresql+psycopg:")
    through = f"http://127.0.0.1:{port}"
    with server(tmp_path / "server", port, database.create("served")):
        for uri in (direct, through):
            report = mirror(store.root, tracking_uri=uri)
            assert (report.written, report.error) == (5, None)
            assert PASSWORD not in str(report)
            assert shown(uri) == expected
            report = mirror(store.root, tracking_uri=uri)
            assert (report.written, report.unchanged, report.deleted) == (0, 5, 0)
    for name in ("direct", "served"):
        assert database.ask(name, "SELECT count(*) FROM runs") == [(5 + len(SWEEPS),)]


def test_mirrors_that_start_at_once_on_an_empty_database_double_no_run(
    tmp_path: Path, database: Postgres
) -> None:
    uri = database.create("shared")
    stores = [fill_folder(tmp_path / name) for name in ("one", "two")]
    commands = [[*COMMAND, "--results", str(store.root), "--tracking-uri", uri] for store in stores]
    mirrors = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in (commands[0], commands[0], commands[1])
    ]
    outputs = [started.communicate(timeout=120)[0] for started in mirrors]
    codes = [started.returncode for started in mirrors]
    assert sorted(codes[:2]) in ([0, 0], [0, 2]), outputs  # of one folder the second waits, or is refused
    assert codes[2] == 0, outputs
    for command in commands:
        again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert "0 runs written, 5 unchanged, 0 outdated deleted" in again.stdout, again.stderr
    assert database.ask("shared", "SELECT count(*), count(DISTINCT run_uuid) FROM runs") == [(14, 14)]


def test_kill_9_of_postgres_in_the_middle_loses_and_doubles_nothing(
    tmp_path: Path, database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    port = free_port()
    uris = {"direct": database.create("killed"), "served": f"http://127.0.0.1:{port}"}
    stores = {name: fill_folder(tmp_path / name) for name in uris}
    names = {"direct": "killed", "served": "killed_served"}
    with ExitStack() as stack:
        stack.enter_context(server(tmp_path / "server", port, database.create("killed_served")))
        MlflowClient(uris["direct"]).search_experiments()  # the tables are there, as on any day but the first
        followers = {}
        for name, uri in uris.items():
            command = [*COMMAND, "--results", str(stores[name].root), "--sweep", "both"]
            followers[name] = stack.enter_context(
                subprocess.Popen(
                    [*command, "--follow", "--tracking-uri", uri],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
            stack.callback(followers[name].kill)
        deadline = time.monotonic() + 150
        while not all(database.ask(name, "SELECT 1 FROM metrics LIMIT 1") for name in names.values()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        database.kill()
        # a mirror by hand says so at once, and not after MLflow's 100 seconds
        started = time.monotonic()
        other = fill_folder(tmp_path / "other")
        command = [*COMMAND, "--results", str(other.root), "--tracking-uri", uris["direct"]]
        refused = subprocess.run(command, capture_output=True, text=True)
        assert time.monotonic() - started < 60
        assert refused.returncode == 1
        assert "the rows are safe, mirror again later" in refused.stdout
        assert "Traceback" not in refused.stdout + refused.stderr
        database.start()
        assert database.ask("killed", "SELECT count(*) FROM runs WHERE status = 'FINISHED'") < [(5,)]
        for name, follower in followers.items():
            output, _ = follower.communicate(timeout=200)
            assert follower.returncode == 0, output
            assert "Traceback" not in output
            assert PASSWORD not in output
            counted = database.ask(names[name], "SELECT count(*), count(DISTINCT name) FROM runs")
            assert counted == [(5, 5)], "a run was begun anew"  # four curves, and their sweep above them
    assert_equals_rows(stores["direct"], uris["direct"], "both")
    assert database.ask("killed", METRICS) == database.ask("killed_served", METRICS)


def test_a_database_without_its_driver_is_one_sentence(tmp_path: Path) -> None:
    store = fill_folder(tmp_path)
    uri = f"postgresql+pg8000://me:{PASSWORD}@127.0.0.1/none"
    with pytest.raises(
        StoreError, match=r"me:\*\*\*@.*: its driver 'pg8000' is not installed; .*\[postgres\]"
    ):
        mirror(store.root, tracking_uri=uri)


@pytest.mark.parametrize(
    ("address", "printed"),
    [
        ("postgresql://me:pw@db/x", "postgresql://me:***@db/x"),
        ("https://me:pw@mlflow.example.org:5000", "https://me:***@mlflow.example.org:5000"),
        (
            "postgresql:///x?user=me&password=pw&sslmode=require",
            "postgresql:///x?user=me&password=***&sslmode=require",
        ),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////results/mlflow.db", "sqlite:////results/mlflow.db"),
    ],
)
def test_passwords_are_not_printed(address: str, printed: str) -> None:
    assert without_password(address) == printed
