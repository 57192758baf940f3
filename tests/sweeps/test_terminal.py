"""What people and scripts read of a command: 80 columns, small curves, one JSON document."""

import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from hushsweep.dashboards import tradeoff
from hushsweep.sweeps import plan, run
from hushsweep.sweeps.cli import app
from hushsweep.sweeps.progress import live_table
from hushsweep.sweeps.reports import print_results
from hushsweep.sweeps.sparklines import print_sparklines, sparkline
from hushsweep.workers.measures import Accuracy
from hushsweep.workers.progress import Progress

SWEEP = """
name: small
dataset: {name: digits, limit: 20}
model: {name: digits_mlp, weights: random}
mechanism: {name: gaussian, noise_scale: [0.5, 2]}
measures: {name: accuracy}
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that was run into the folder `results` beside it."""
    file = tmp_path_factory.mktemp("terminal") / "small.yaml"
    file.write_text(SWEEP)
    assert run(file, results=file.parent / "results", local=True, mirror=False).exit_code == 0
    return file


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False, env={"COLUMNS": "80"})


def test_a_sparkline_is_as_high_as_its_values() -> None:
    assert sparkline([0.0, 0.49, 0.97, None, 1.0], 1.0) == "▁▄█ █"
    assert sparkline([0.0, 0.49, 0.97, None, 1.0], 1.0, ascii_only=True) == "049 9"
    assert sparkline([1.0, 2.0, 4.0], 4.0) == "▃▅█"


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "SPEC", "--local", "--no-mlflow"),
        ("plan", "SPEC"),
        ("status",),
        ("verify",),
        ("compact",),
        ("doctor",),
        ("mirror",),
    ],
)
def test_with_json_standard_output_is_one_document(spec: Path, arguments: tuple[str, ...]) -> None:
    """From outside: whatever a library prints would be seen."""
    named = [str(spec) if argument == "SPEC" else argument for argument in arguments]
    found = subprocess.run(
        [sys.executable, "-m", "hushsweep.sweeps", *named, "--json", "--results", spec.parent / "results"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert found.returncode == 0, found.stderr
    document = json.loads(found.stdout)
    expected = {
        "run": ("existing", 2),
        "plan": ("existing", 2),
        "verify": ("faults", []),
        "doctor": ("healthy", True),
        "mirror": ("error", None),
    }
    if arguments[0] in expected:
        key, value = expected[arguments[0]]
        assert document[key] == value
    else:
        assert isinstance(document, list)
        assert document


def test_with_json_a_report_names_its_files(spec: Path, tmp_path: Path) -> None:
    place = ("--results", spec.parent / "results", "--json")
    page = json.loads(call("report", "small", "-o", tmp_path / "small.html", *place).stdout)
    assert page == {"page": str(tmp_path / "small.html"), "figures": []}
    folder = json.loads(call("report", "small", "-o", tmp_path / "small", *place).stdout)
    assert folder["page"] == str(tmp_path / "small" / "report.md")
    assert set(folder["figures"]) == set(map(str, (tmp_path / "small").glob("*.png"))) != set()


def test_a_mistake_leaves_standard_output_empty_with_json(spec: Path) -> None:
    report = ["report", "x", "-o", spec.parent / "x.html", "--results", spec.parent / "results"]
    for command in (
        ["status", "x"],
        ["plan", "x.yaml"],
        ["run", "x.yaml"],
        ["verify", "--results", "x"],
        report,
    ):
        found = call(*command, "--json")
        assert (found.exit_code, found.stdout) == (2, ""), command
        assert found.stderr.startswith("error: ")


def lines_of(summary: object, spec: Path, *, encoding: str = "utf-8") -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    print_results(summary, spec, Console(file=stream, width=80))
    stream.seek(0)
    return stream.read().splitlines()


def test_the_summary_of_a_run_fits_80_columns_with_small_curves(spec: Path) -> None:
    summary = run(spec, results=spec.parent / "results", local=True, mirror=False)
    lines = lines_of(summary, spec)
    next_steps = lines.index("Next:")  # commands and paths to copy, which are not cut
    assert max(map(len, lines[:next_steps])) <= 80
    (row,) = [line for line in lines if "gaussian" in line and " to " in line]
    accuracies = [row["top1"] for row in tradeoff(summary.results, "small").to_pylist()]
    assert sparkline(accuracies, 1.0) in row
    assert f"{100 * accuracies[0]:.0f} to {100 * accuracies[-1]:.0f} %" in row
    plain = lines_of(summary, spec, encoding="ascii")
    assert any(sparkline(accuracies, 1.0, ascii_only=True) in line for line in plain)
    assert "?" not in "".join(line for line in plain if line.startswith(("+", "|--")))


def test_the_table_of_a_running_sweep_fits_80_columns_and_counts_failures(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SWEEP.replace("name: small", f"name: {'long-' * 19}name"))
    planned = plan(file, results=tmp_path / "none")
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    with live_table(planned, console) as report:
        report(Progress(images=10**9, complete=1))
        report(Progress(failed=1))
        time.sleep(0.5)  # it is drawn four times a second
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    lines = re.split(r"[\r\n]", drawn)
    assert max(map(len, lines)) <= 80
    assert any(re.search(r"1 of 2 *│ *1 *│", line) for line in lines), lines


def test_names_in_small_curves_are_text(spec: Path) -> None:
    rows = tradeoff(spec.parent / "results", "small").to_pylist()
    stream = io.StringIO()
    names = {row["curve_id"]: "[bold]it's [/x] [link=http://x]" for row in rows}
    print_sparklines(rows, names, Console(file=stream, width=80))
    assert "[bold]it's [/x] [link=http://x]" in stream.getvalue()


def test_a_sweep_of_failures_says_how_many_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("no [bold]'memory'\nleft")

    monkeypatch.setattr(Accuracy, "measure", fail)
    file = tmp_path / "small.yaml"
    file.write_text(SWEEP)
    results = tmp_path / "results"
    found = call("run", file, "--results", results, "--local", "--no-mlflow")
    assert found.exit_code == 1
    assert "2 failed: " in found.stdout
    assert "no [bold]'memory'" in found.stdout
    summary = json.loads(call("run", file, "--results", results, "--local", "--no-mlflow", "--json").stdout)
    assert (summary["exit_code"], summary["missing"], summary["failed"]) == (1, 2, [2])
    status = call("status", "--results", results)
    assert "2 failed: " in status.stdout
    assert max(map(len, status.stdout.splitlines()[:8])) <= 80
    for name in ("overview", "best", "frontier", "failures", "missing", "slowest", "tradeoff"):
        answer = call("query", name, "--results", results, "--format", "json")
        assert answer.exit_code == 0
        rows = json.loads(answer.stdout)
        assert not rows or name in ("overview", "failures", "missing", "slowest", "tradeoff"), name
        assert {row.get("accuracy", row.get("top1")) for row in rows} <= {None}, name
    (failure,) = json.loads(call("query", "failures", "--results", results, "--format", "json").stdout)
    assert failure["results"] == 2
    refused = call("query", "compare", "gaussian/0.5", "gaussian/2", "--results", results)
    assert refused.exit_code == 2
    assert "no rows per image in common" in refused.stderr
    with pytest.raises(json.JSONDecodeError):
        json.loads(found.stdout)
