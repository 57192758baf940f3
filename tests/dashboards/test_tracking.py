"""The MLflow mirror equals the rows, whatever is killed when."""

import json
import math
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import mlflow
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from pyarrow import csv

from hushsweep.dashboards import MirrorReport, mirror, ui_address, ui_command
from hushsweep.dashboards.curves import read_curves
from hushsweep.dashboards.server import ensure_local_database, local_tracking_uri
from hushsweep.dashboards.tracking import follow
from hushsweep.datasets.results import LockHeldError, Store, StoreError
from tests.dashboards.conftest import (
    HCR,
    LEVELS,
    curve_id,
    failed,
    fill_folder,
    measurements,
    plan_of,
    point,
    points,
    write_trial,
)

COMMAND = [sys.executable, "-m", "hushsweep.dashboards.tracking"]


def runs_of(uri: str, sweep: str) -> list[Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(sweep)
    found = [] if experiment is None else client.search_runs([experiment.experiment_id])
    return [run for run in found if "hushsweep.curve_id" in run.data.tags]


def sweep_run(uri: str, sweep: str) -> Run:
    """The one run that stands for the sweep."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(sweep)
    (found,) = client.search_runs([experiment.experiment_id], f"tags.`hushsweep.sweep` = '{sweep}'")
    return found


def assert_equals_rows(store: Store, uri: str, sweep: str) -> None:
    """Every curve is one finished run whose metrics and artifact are the store's rows."""
    client = MlflowClient(uri)
    runs = {run.data.tags["hushsweep.curve_id"]: run for run in runs_of(uri, sweep)}
    assert len(runs) == len(runs_of(uri, sweep)), "duplicate runs"
    curves = read_curves(store.root, sweep)
    assert {curve.curve_id for curve in curves} == set(runs)
    whole = sweep_run(uri, sweep)
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {whole.info.run_id}
    key = [("point_id", "ascending"), ("measure_id", "ascending"), ("statistic", "ascending")]
    mlflow.set_tracking_uri(uri)
    for curve in curves:
        run = runs[curve.curve_id]
        assert run.info.status == "FINISHED"
        assert run.info.run_name == curve.name
        path = client.download_artifacts(run.info.run_id, "rows.parquet")
        stored = store.read("measurements")
        own = stored.filter([value == curve.curve_id for value in stored.column("curve_id").to_pylist()])
        assert pq.read_table(path).sort_by(key).equals(own.sort_by(key))
        rows = own.to_pylist()
        levels = sorted({row["level"] for row in rows})
        expected = {("level", step): level for step, level in enumerate(levels)}
        expected |= {("log10_level", step): math.log10(level) for step, level in enumerate(levels)}
        for row in rows:
            step = levels.index(row["level"])
            expected["applied_noise_std", step] = row["applied_noise_std"]
            expected[row["statistic"], step] = row["value"]
            if row["stderr"] is not None:
                expected[f"{row['statistic']}_stderr", step] = row["stderr"]
        rows_of_levels: list[dict[str, float | None]] = []
        for step, level in enumerate(levels):
            numbers = {row["statistic"]: row["value"] for row in rows if row["level"] == level}
            named = {"accuracy": numbers.get("top1"), "hcr_std": numbers.get("std_bound_median")}
            named["accuracy_loss"] = numbers["clean_top1"] - numbers["top1"] if "top1" in numbers else None
            expected |= {(name, step): value for name, value in named.items() if value is not None}
            rows_of_levels.append({"level": level, **named})
        for budget, called in ((0.01, "1pct"), (0.05, "5pct")):
            within = [one for one in rows_of_levels if (one["accuracy_loss"] or 0) <= budget]
            best = max(within, key=lambda one: one["hcr_std"] or 0, default={})
            expected |= {
                (f"best_{called}_{name}", step): value for name, value in best.items() if value is not None
            }
        history = [
            metric for name in run.data.metrics for metric in client.get_metric_history(run.info.run_id, name)
        ]
        assert len(history) == len(expected)
        assert {(metric.key, metric.step): metric.value for metric in history} == pytest.approx(
            expected, abs=1e-6
        )
        times = {int(row["computed_at"].timestamp() * 1000) for row in rows}
        assert {metric.timestamp for metric in history} <= times
        assert (run.info.start_time, run.info.end_time) == (min(times), max(times))
        artifacts = {artifact.path: artifact.file_size for artifact in client.list_artifacts(run.info.run_id)}
        assert artifacts["curve.png"] > 10_000


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without content, to be copied: making one takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    ensure_local_database(folder)
    return folder / "mlflow.db"


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, MirrorReport]:
    store = fill_folder(tmp_path_factory.mktemp("mirrored") / "with space")
    return store, mirror(store.root)


def test_every_curve_is_a_run_that_equals_its_rows(mirrored: tuple[Store, MirrorReport]) -> None:
    store, report = mirrored
    assert (report.written, report.unchanged, report.deleted, report.error) == (5, 0, 0, None)
    assert report.tracking_uri == local_tracking_uri(store.root)
    assert_equals_rows(store, report.tracking_uri, "both")
    assert_equals_rows(store, report.tracking_uri, "small")
    assert {path.name for path in store.root.iterdir()} >= {"mlflow.db", "mlartifacts"}
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_mlflow_finds_runs_by_parameters_tags_and_data_set(mirrored: tuple[Store, MirrorReport]) -> None:
    _, report = mirrored
    mlflow.set_tracking_uri(report.tracking_uri)
    query = "params.mechanism = 'laplace' and params.model = 'torchvision/resnet18' and metrics.top1 < 0.2"
    frame = mlflow.search_runs(experiment_names=["both"], filter_string=query)
    assert list(frame["tags.mlflow.runName"]) == ["resnet18 · laplace · seed 0"]
    assert frame["tags.hushsweep.caveat"][0] == "memorised, not validation"
    assert frame["tags.hushsweep.git_commit"][0] == "0" * 40
    assert {
        "tags.hushsweep.hushsweep_version",
        "tags.hushsweep.torch_version",
        "tags.hushsweep.device",
    } <= set(frame)
    assert frame["tags.hushsweep.weights"][0] == "prototype"
    assert frame["tags.hushsweep.model_family"][0] == "resnet"
    assert {name for name in frame if name.startswith("params.")} == {
        "params.dataset",
        "params.model",
        "params.mechanism",
    }
    frame = mlflow.search_runs(experiment_names=["both"], filter_string="datasets.name = 'imagefolder/val'")
    assert len(frame) == 4
    (data,) = mlflow.get_run(frame["run_id"][0]).inputs.dataset_inputs
    assert data.dataset.digest == "f" * 36
    assert '"data_fingerprint": "' + "f" * 64 in data.dataset.source


def test_mirroring_again_changes_nothing(mirrored: tuple[Store, MirrorReport]) -> None:
    store, report = mirrored
    before = {run.info.run_id for run in runs_of(report.tracking_uri, "both")}
    again = mirror(store.root)
    assert (again.written, again.unchanged, again.deleted) == (0, 5, 0)
    assert {run.info.run_id for run in runs_of(report.tracking_uri, "both")} == before


def test_a_sweep_is_a_run_above_its_curves(mirrored: tuple[Store, MirrorReport]) -> None:
    store, report = mirrored
    client = MlflowClient(report.tracking_uri)
    run = sweep_run(report.tracking_uri, "both")
    assert (run.info.run_name, run.info.status) == ("both", "FINISHED")
    assert {name: run.data.metrics[name] for name in ("points", "done", "failed", "missing")} == {
        "points": 20,
        "done": 20,
        "failed": 0,
        "missing": 0,
    }
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert names == {"sweep.yaml", "overview.csv", "best.csv", "tradeoff.png", "report.html"}
    table = csv.read_csv(client.download_artifacts(run.info.run_id, "overview.csv"))
    assert len(table) == 20
    note = run.data.tags["mlflow.note.content"]
    assert "20 of 20 points complete" in note
    assert "| torchvision/resnet18 | gaussian |" in note
    assert client.get_experiment(run.info.experiment_id).tags["mlflow.note.content"] == note
    (curve,) = [c for c in read_curves(store.root, "both") if c.name == "resnet18 · laplace · seed 0"]
    (own,) = [r for r in runs_of(report.tracking_uri, "both") if r.info.run_name == curve.name]
    described = json.loads(Path(client.download_artifacts(own.info.run_id, "curve.json")).read_text())
    assert described["curve_id"] == curve.curve_id
    assert [level[0]["parameters"]["noise_scale"] for level in described["levels"]] == list(LEVELS)
    assert described["measures"] == [{"name": "accuracy", "draws": 25}, {"name": "hcr", "images": 16}]
    points_of = csv.read_csv(client.download_artifacts(own.info.run_id, "points.csv"))
    assert points_of.column("level").to_pylist() == list(LEVELS)


def test_a_sweep_says_whether_more_will_come(tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    store, uri = Store(tmp_path), local_tracking_uri(tmp_path)
    first, second = points(levels=(0.5, 1.0))[:2]
    plan = {**plan_of("s", [first, second]), "spec": {"name": "s", "description": "<img src=x> **bold**"}}
    store.write_sweep("s", spec_text="", plan=plan)
    seen = []
    for step, running in ((None, None), (first, True), (None, False), (second, None)):
        if step is not None:
            write_trial(store, f"t{step['point_id']}", [step])
            write_trial(store, f"h{step['point_id']}", [step], HCR)
        assert mirror(tmp_path, "s", running=running).error is None
        run = sweep_run(uri, "s")
        seen.append((run.info.status, run.data.metrics["done"]))
    assert seen == [("KILLED", 0), ("RUNNING", 1), ("KILLED", 1), ("FINISHED", 2)]
    assert r"\<img src=x\> \*\*bold\*\*" in run.data.tags["mlflow.note.content"]


def test_weights_that_were_trained_are_models_in_mlflow(quickstart: Path, tmp_path: Path) -> None:
    shutil.copytree(
        quickstart, tmp_path / "results", ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts")
    )
    store = Store(tmp_path / "results")
    assert mirror(store.root).error is None
    assert mirror(store.root, rebuild=True).error is None  # linked once more, made once
    client = MlflowClient(local_tracking_uri(store.root))
    trained = {path.stem for path in store.models_dir.glob("*.safetensors")}
    found = {}
    for sweep in store.sweeps():
        experiment = client.get_experiment_by_name(sweep)
        models = client.search_logged_models([experiment.experiment_id])
        found |= {model.model_id: model.tags["hushsweep.weights_digest"] for model in models}
        for run in runs_of(local_tracking_uri(store.root), sweep):
            (curve,) = [
                c for c in read_curves(store.root, sweep) if c.curve_id == run.data.tags["hushsweep.curve_id"]
            ]
            linked = {found[output.model_id] for output in run.outputs.model_outputs}
            assert linked == set(curve.rows.column("weights_digest").to_pylist())
    assert sorted(found.values()) == sorted(trained)


def test_ui_address_is_the_view_with_the_curves(mirrored: tuple[Store, MirrorReport]) -> None:
    store, report = mirrored
    experiment = MlflowClient(report.tracking_uri).get_experiment_by_name("small")
    address = ui_address(store.root, 5000, "small")
    assert address.startswith(f"http://127.0.0.1:5000/#/experiments/{experiment.experiment_id}/runs?")
    assert ui_address(store.root, 5000, "none") == ui_address(store.root, 5000) == "http://127.0.0.1:5000"


def test_mlflow_follows_the_rows_as_they_change(tmp_path: Path, empty_database: Path) -> None:
    store = Store(tmp_path / "results")
    shutil.copy(empty_database, store.root / "mlflow.db")
    uri = local_tracking_uri(store.root)
    entries = points(levels=(0.5, 1.0))
    gaussian = curve_id("torchvision/resnet18", "gaussian")
    first = [entry for entry in entries if entry["curve_id"] == gaussian]
    store.write_sweep("s", spec_text="", plan=plan_of("s", entries))
    assert mirror(store.root).written == 0
    assert runs_of(uri, "s") == []

    write_trial(store, "a", first)
    assert mirror(store.root).written == 1
    (old,) = runs_of(uri, "s")

    write_trial(store, "b", entries[4:6])  # another curve: the first stays as it is
    report = mirror(store.root, "s")
    assert (report.written, report.unchanged, report.deleted) == (1, 1, 0)
    assert old.info.run_id in {run.info.run_id for run in runs_of(uri, "s")}

    more = point("torchvision/resnet18", "gaussian", 0.25)  # a level in front moves every step
    store.write_sweep("s", spec_text="", plan=plan_of("s", [*entries, more]))
    write_trial(store, "c", [more])
    report = mirror(store.root, "s")
    assert (report.written, report.unchanged, report.deleted) == (1, 1, 1)
    assert old.info.run_id not in {run.info.run_id for run in runs_of(uri, "s")}
    assert_equals_rows(store, uri, "s")

    store.write_sweep("s", spec_text="", plan=plan_of("s", entries[4:6]))  # the name is used for other points
    report = mirror(store.root, "s")
    assert (report.written, report.unchanged, report.deleted) == (0, 1, 1)

    report = mirror(store.root, "s", rebuild=True)
    assert (report.written, report.unchanged, report.deleted) == (1, 0, 1)
    assert len(runs_of(uri, "s")) == 1

    MlflowClient(uri).delete_experiment(MlflowClient(uri).get_experiment_by_name("s").experiment_id)
    assert mirror(store.root, "s").error is None
    assert len(runs_of(uri, "s")) == 1

    shutil.copytree(store.root, tmp_path / "moved")  # artifacts have to be found in the new place
    shutil.rmtree(store.root)
    moved = Store(tmp_path / "moved")
    assert mirror(moved.root).written == 1
    (run,) = runs_of(local_tracking_uri(moved.root), "s")
    assert run.info.artifact_uri.startswith((tmp_path / "moved").as_uri())


def test_failures_and_shared_statistics_are_told_apart(tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    store = Store(tmp_path)
    uri = local_tracking_uri(tmp_path)
    good, bad = points(levels=(0.5, 1.0))[:2]
    other = points(levels=(0.5,), mechanisms=("laplace",))[0]
    good["measures"][1] = {"measure_id": "c3" * 8, "name": "accuracy", "options": {"draws": 5}}
    store.write_sweep("s", spec_text="", plan=plan_of("s", [good, bad, other]))
    store.write("measurements", "t", [row for m in good["measures"] for row in measurements(good, m, "t")])
    store.write("measurements", "t.failed", failed(bad, bad["measures"][0], "t", "out of memory"))
    store.write("measurements", "u.failed", failed(other, other["measures"][0], "u", "no memory"))
    assert mirror(tmp_path).error is None
    runs = {run.data.tags["hushsweep.curve_id"]: run for run in runs_of(uri, "s")}
    run = runs[good["curve_id"]]
    assert {"top1.a1a1a1a1", "top1.c3c3c3c3", "top1_stderr"} & set(run.data.metrics) == {
        "top1.a1a1a1a1",
        "top1.c3c3c3c3",
    }
    assert (run.info.status, run.data.tags["hushsweep.failed_points"]) == ("FINISHED", "1")
    assert run.data.tags["hushsweep.failures"] == "out of memory"
    assert runs[other["curve_id"]].info.status == "FAILED"
    assert mirror(tmp_path).unchanged == 2


def test_two_folders_share_a_server_without_touching_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # a database named by its address keeps artifacts in ./mlruns
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = local_tracking_uri(tmp_path)
    entry = points()[0]
    stores = [Store(tmp_path / name) for name in ("one", "two")]
    for store in stores:
        store.write_sweep("s", spec_text="", plan=plan_of("s", [entry]))
        write_trial(store, store.root.name, [entry])
        assert mirror(store.root, tracking_uri=uri).written == 1
    for store in stores:
        report = mirror(store.root, tracking_uri=uri)
        assert (report.written, report.unchanged, report.deleted) == (0, 1, 0)
    assert len(runs_of(uri, "s")) == 2


def test_kill_9_of_the_mirror_twice_leaves_no_duplicate_and_no_gap(
    tmp_path: Path, empty_database: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    store = fill_folder(tmp_path)
    for killed_at in (2, 4):  # in the middle of the second and of the fourth run
        process = subprocess.Popen([*COMMAND, "--results", str(tmp_path)], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 90
        while _runs_with_metrics(tmp_path / "mlflow.db") < killed_at:
            assert process.poll() is None, "the mirror ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    unfinished = [run for name in ("both", "small") for run in runs_of(local_tracking_uri(tmp_path), name)]
    assert any(run.info.status == "RUNNING" for run in unfinished), "no run was hit in the middle"
    done = subprocess.run([*COMMAND, "--results", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_equals_rows(store, local_tracking_uri(tmp_path), "both")
    assert_equals_rows(store, local_tracking_uri(tmp_path), "small")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (7,)  # none was begun anew either
        assert database.execute("SELECT count(*) FROM inputs").fetchone() == (5,)


def _runs_with_metrics(database: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(DISTINCT run_uuid) FROM metrics").fetchone()[0])
    except sqlite3.OperationalError:  # locked for a moment
        return 0


def test_one_mirror_at_a_time(tmp_path: Path) -> None:
    from hushsweep.datasets.results.files import exclusive

    store = fill_folder(tmp_path)
    with (
        exclusive(tmp_path / ".mirror.lock", "x"),
        pytest.raises(LockHeldError, match=r"MLflow mirror of .* is in use"),
    ):
        mirror(store.root)
    with pytest.raises(StoreError, match="no sweep 'none'; known: both, small"):
        mirror(store.root, "none")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(folder: Path, port: int, database: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """An MLflow server, started as the product starts it; its whole process group is ours to end."""
    folder.mkdir(exist_ok=True)
    command, environment = ui_command(folder, port)
    if database is not None:
        command[command.index("--backend-store-uri") + 1] = database
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    break
            except OSError:
                assert process.poll() is None, (folder / "server.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_server_that_is_down_is_reported_and_caught_up_with_when_it_is_back(tmp_path: Path) -> None:
    store = fill_folder(tmp_path / "results")
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    started = time.monotonic()
    report = mirror(store.root, tracking_uri=uri)
    assert time.monotonic() - started < 15, "MLflow's own retries blocked"
    assert (report.written, report.error is None) == (0, False)
    assert "the rows are safe, mirror again later" in str(report)

    ended = threading.Event()
    ended.set()
    report = follow(
        store.root, "small", ended=ended, tracking_uri=uri, patience_s=1
    )  # gives up, raises nothing
    assert report.error is not None

    command = [*COMMAND, "--results", str(store.root), "--sweep", "both", "--tracking-uri", uri, "--follow"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as follower:
        try:
            with server(tmp_path / "server", port):
                _wait(lambda: len(runs_of(uri, "both")) > 0)
            time.sleep(1)  # the server was killed in the middle; nobody is there
            with server(tmp_path / "server", port):
                assert follower.stdin is not None
                follower.stdin.close()  # the driver ends; the mirror first completes its work
                assert follower.wait(60) == 0
                assert_equals_rows(store, uri, "both")
        finally:
            follower.kill()


def test_kill_9_while_the_database_is_made_does_no_harm(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_sweep("s", spec_text="", plan=plan_of("s", points()[:1]))
    write_trial(store, "t", points()[:1])
    process = subprocess.Popen([*COMMAND, "--results", str(tmp_path)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 100_000 for path in tmp_path.glob(".mlflow.*/mlflow.db")):
        assert process.poll() is None, "the mirror ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (tmp_path / "mlflow.db").exists()
    process = subprocess.Popen([*COMMAND, "--results", str(tmp_path)], stdout=subprocess.DEVNULL)
    ui_command(tmp_path, free_port())  # makes sure of the same database at the same time
    assert process.wait(60) == 0
    assert list(tmp_path.glob(".mlflow.*/")) == []
    assert_equals_rows(store, local_tracking_uri(tmp_path), "s")


def test_follow_sees_rows_as_they_come_and_survives_the_death_of_its_driver(
    tmp_path: Path, empty_database: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    store = Store(tmp_path)
    uri = local_tracking_uri(tmp_path)
    entries = points()
    store.write_sweep("s", spec_text="", plan=plan_of("s", entries))
    # A driver that is killed cannot close the pipe; its death does.
    driver = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time\n"
            "p = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)\n"
            "print(p.pid, flush=True)\n"
            "time.sleep(600)",
            *COMMAND,
            *("--results", str(tmp_path), "--sweep", "s", "--follow"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    follower = int(driver.stdout.readline())
    try:
        write_trial(store, "a", entries[:10])
        _wait(lambda: len(runs_of(uri, "s")) == 2)
        write_trial(store, "b", entries[10:])
        write_trial(store, "c", entries, HCR)
        driver.kill()
        driver.wait()
        _wait(lambda: not _is_running(follower))
    finally:
        driver.kill()
        driver.wait()
        driver.stdout.close()
        if _is_running(follower):
            os.kill(follower, signal.SIGKILL)
    assert_equals_rows(store, uri, "s")
    whole = sweep_run(uri, "s")
    assert whole.info.status == "FINISHED"
    assert 0 <= whole.data.metrics[f"system/{socket.gethostname()}/cpu_utilization_percentage"] <= 100


def _is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    try:
        return "State:\tZ" not in status.read_text()
    except FileNotFoundError:
        return False


def _wait(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_ui_address_of_a_database_that_mlflow_cannot_read_is_plain(tmp_path: Path) -> None:
    for folder in ("newer", "elsewhere", "damaged"):
        (tmp_path / folder).mkdir()
    ensure_local_database(tmp_path / "newer")
    with closing(sqlite3.connect(tmp_path / "newer" / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with closing(sqlite3.connect(tmp_path / "elsewhere" / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")
    (tmp_path / "damaged" / "mlflow.db").write_bytes(b"no database" * 100)
    for folder in ("newer", "elsewhere", "damaged"):
        assert ui_address(tmp_path / folder, 5000, "s") == "http://127.0.0.1:5000"


def test_ui_command_stays_on_loopback_and_keeps_what_the_user_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    command, environment = ui_command(tmp_path, 5050)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--backend-store-uri") + 1] == local_tracking_uri(tmp_path)
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "false"
    assert environment["PATH"] == os.environ["PATH"]


def test_bad_input_of_the_process_is_exit_code_2(tmp_path: Path) -> None:
    for arguments, message in (
        (["--results", str(tmp_path / "none")], "no results here"),
        (["--results", str(tmp_path), "--follow"], "--follow needs --sweep"),
    ):
        done = subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
