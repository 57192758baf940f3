"""The command line as a user meets it: help, exit codes, one sentence per mistake."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hushsweep.sweeps.cli import app

ROOT = Path(__file__).parent.parent.parent
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]
SWEEP = """
name: small
dataset: {name: digits, limit: 20}
model: {name: digits_mlp, weights: random}
mechanism: {name: gaussian, noise_scale: [0.5, 2]}
measures: {name: accuracy}
"""
runner = CliRunner()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that was run."""
    folder = tmp_path_factory.mktemp("done")
    (folder / "small.yaml").write_text(SWEEP)
    found = call("run", folder / "small.yaml", "--results", folder / "results", "--local", "--no-mlflow")
    assert found.exit_code == 0, found.output
    return folder / "results"


def call(*arguments: object):
    return runner.invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_an_example_and_a_place_in_the_readme(command: str) -> None:
    found = call(command, "--help")
    assert found.exit_code == 0
    assert "Example: hushsweep" in " ".join(found.output.split())
    assert f"`hushsweep {command}" in (ROOT / "README.md").read_text()


def test_version() -> None:
    assert re.fullmatch(r"hushsweep \d+\.\d+\.\d+\S*\n", call("--version").output)


def test_plan_says_what_is_there_and_what_is_missing(done: Path) -> None:
    spec = done.parent / "small.yaml"
    assert "2 measures; 2 to compute in 1 trials" in call("plan", spec, "--results", done / "none").output
    assert not (done / "none").exists()
    assert "2 of them there already; 0 to compute" in call("plan", spec, "--results", done).output
    document = json.loads(call("plan", spec, "--results", done / "none", "--json").output)
    assert (document["wanted"], document["missing"], len(document["points"])) == (2, 2, 2)
    assert {name: count for name, count in document["trials"][0]["estimate"].items() if count} == {
        "image_passes": 20, "head_passes": 60,
    }  # fmt: skip
    assert document["trials"][0]["routes"] == []


def test_plan_says_which_way_bounds_will_go(tmp_path: Path) -> None:
    (tmp_path / "exact.yaml").write_text(SWEEP.replace("{name: accuracy}", "{name: bounds, images: 4}"))
    options = "{name: bounds, images: 4, bounds: [cramer_rao, dfil], memory_gb: 1e-6}"
    (tmp_path / "large.yaml").write_text(SWEEP.replace("{name: accuracy}", options))
    exact, large = (
        " ".join(call("plan", tmp_path / f"{name}.yaml", "--results", tmp_path / "none").output.split())
        for name in ("exact", "large")
    )
    assert "bounds: exact Jacobian, about " in exact
    assert " Jacobian rows" in exact
    assert "the Jacobian is too large" in large
    assert "cramer_rao is estimated from 25 solves per image; not applicable: dfil" in large
    assert ", 100 solves" in large
    assert " Jacobian rows" not in large
    found = call("plan", tmp_path / "large.yaml", "--results", tmp_path / "none", "--json")
    (trial,) = json.loads(found.output)["trials"]
    assert (trial["estimate"]["jacobian_rows"], trial["estimate"]["solves"]) == (0, 4 * 25)
    (route,) = trial["routes"]
    assert route in large


def test_a_finished_run_says_where_to_look(done: Path) -> None:
    found = call("run", done.parent / "small.yaml", "--results", done, "--local", "--no-mlflow")
    assert found.exit_code == 0
    words = " ".join(found.output.split())
    assert "0 computed, 2 there before, 0 missing" in words
    assert "note: weights: random weights" in words
    for place in ("tradeoff.png", "measurements/*.parquet", "FROM tradeoff", " ui "):
        assert place in words
    assert (done / "sweeps" / "small" / "tradeoff.png").read_bytes().startswith(b"\x89PNG")


def test_query_formats(done: Path, tmp_path: Path) -> None:
    sql = "SELECT level, top1 FROM tradeoff ORDER BY level"
    rows = json.loads(call("query", sql, "--results", done, "--format", "json").output)
    assert [row["level"] for row in rows] == [0.5, 2.0]
    assert (
        call("query", sql, "--results", done, "--format", "csv").output.splitlines()[0].replace('"', "")
        == "level,top1"
    )
    assert "level" in call("query", sql, "--results", done).output
    assert (
        call("query", sql, "--results", done, "--format", "parquet", "-o", tmp_path / "x.parquet").exit_code
        == 0
    )
    import pandas as pd

    assert pd.read_parquet(tmp_path / "x.parquet")["level"].tolist() == [0.5, 2.0]


def test_status_and_schema_and_doctor(done: Path) -> None:
    assert "finished" in call("status", "--results", done).output
    schema = json.loads(call("schema").output)
    assert schema["properties"]["name"]["pattern"].startswith("^")
    found = call("doctor", "--results", done)
    assert found.exit_code == 0, found.output
    for what in ("devices", "Ray", "MLflow", "data", "results"):
        assert what in found.output


def newer(folder: Path) -> Path:
    folder.mkdir()
    (folder / "hushsweep.json").write_text('{"schema_version": 999, "store_id": "x"}')
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "nowhere.yaml"], "nowhere.yaml: cannot read the sweep file"),
        (["run", "bad.yaml"], "bad.yaml:4: mechanism.noise_scale[1]: expected a number >= 0, got -1"),
        (
            ["run", "small.yaml", "--recompute", "speed", "--local", "--results", "r"],
            "--recompute speed: the sweep has no",
        ),
        (["run", "small.yaml", "--local", "--results", "newer"], "999"),
        (["plan", "small.yaml", "--results", "newer"], "999"),
        (["status", "--results", "nothing"], "no results here"),
        (["status", "unknown", "--results", "DONE"], "unknown"),
        (["query", "SELECT 1; SELECT 2", "--results", "DONE"], "only one SELECT"),
        (["query", "COPY measurements TO 'x.csv'", "--results", "DONE"], "only one SELECT"),
        (["query", "SELECT * FROM '/etc/passwd'", "--results", "DONE"], "error: "),
        (["query", "SELECT nothing FROM measurements", "--results", "DONE"], "nothing"),
        (["query", "SELECT 1", "--format", "xml", "--results", "DONE"], "xml"),
        (["mirror", "--results", "nothing"], "no results here"),
        (["ui", "--results", "nothing"], "no results here"),
        (["run", "folder"], "folder: cannot read the sweep file"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SWEEP)
    (tmp_path / "bad.yaml").write_text(SWEEP.replace("\nname", "name").replace("[0.5, 2]", "[0.5, -1]"))
    (tmp_path / "folder").mkdir()
    newer(tmp_path / "newer")
    before = sorted(tmp_path.rglob("*"))
    found = call(*[str(done) if argument == "DONE" else argument for argument in arguments])
    assert found.exit_code == 2, found.output
    assert said in found.output
    assert found.output.count("error: ") == 1
    assert "Traceback" not in found.output
    assert found.exception is None or isinstance(found.exception, SystemExit)
    left = [
        path
        for path in sorted(tmp_path.rglob("*"))
        if path not in before and "r" not in path.relative_to(tmp_path).parts
    ]
    assert left == [], "nothing half-written"


def test_ui_serves_the_dashboard_and_mlflow_on_loopback_and_ends_with_ctrl_c(done: Path) -> None:
    port = 5000 + os.getpid() % 3000
    ports = ["--mlflow-port", str(port), "--port", str(port + 3000)]
    command = [sys.executable, "-m", "hushsweep.sweeps", "ui", "--results", str(done), *ports]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        waiting = [f"http://127.0.0.1:{port}/health", f"http://127.0.0.1:{port + 3000}/"]
        while waiting:
            try:
                with urllib.request.urlopen(waiting[0], timeout=5) as answer:
                    assert answer.status == 200
                del waiting[0]
            except OSError:
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline
                time.sleep(0.3)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            output, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert f"MLflow: http://127.0.0.1:{port}" in output
    assert f"dashboard: http://127.0.0.1:{port + 3000}" in output
    assert "dashboards/app" not in output, "no traceback of ours; MLflow prints one of its own"


def test_ui_says_which_port_is_taken(done: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        found = runner.invoke(app, ["ui", "--results", str(done), "--port", port])
    assert found.exit_code == 2
    assert f"port {port} of 127.0.0.1 cannot be used" in " ".join(found.output.split())
