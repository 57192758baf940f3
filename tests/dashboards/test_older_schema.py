"""Files of an older hushsweep lack the columns that came since: everything that shows them shows the rest."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from hushsweep.dashboards import overview, run_query, write_report
from hushsweep.dashboards.app import cells
from hushsweep.dashboards.app.cells import Chosen, Page
from hushsweep.dashboards.queries.ready_made import ready_made
from hushsweep.sweeps.cli import app

SINCE_VERSION_1 = {
    "measurements": [
        *("task", "secondary_classes", "train_limit", "class_counts", "penalty", "mechanism_digest"),
        *("validation_top1", "client_flops", "server_flops", "holds_for", "peak_memory"),
    ],
    "modes": ["search", "std_estimate", "non_identifiable", "unresolved"],
}
"""Columns that SCHEMA_VERSION 1 did not have yet."""
SWEEP = "quickstart"


@pytest.fixture(scope="module")
def old(quickstart: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's results, in the columns of schema version 1."""
    results = tmp_path_factory.mktemp("old") / "results"
    shutil.copytree(quickstart, results, ignore=shutil.ignore_patterns("cache", "mlflow.db", "mlartifacts"))
    marker = results / "hushsweep.json"
    store_id = json.loads(marker.read_text())["store_id"]
    marker.write_text(json.dumps({"schema_version": 1, "store_id": store_id}))
    for table, later in SINCE_VERSION_1.items():
        for file in (results / table).rglob("*.parquet"):
            rows = pq.read_table(file, partitioning=None).drop_columns(later)
            pq.write_table(rows.replace_schema_metadata({"hushsweep.schema_version": "1"}), file)
    return results


def test_a_report_has_the_same_numbers(old: Path, quickstart: Path, tmp_path: Path) -> None:
    page = write_report(old, SWEEP, tmp_path / "old.html", figures=tmp_path / "figures").page
    assert "Accuracy" in page.read_text()
    sql = (
        "SELECT model, method, level, accuracy, hcr_std FROM overview WHERE sweep = 'quickstart' ORDER BY ALL"
    )
    assert run_query(old, sql).equals(run_query(quickstart, sql))
    text = write_report(old, SWEEP, tmp_path / "old").page.read_text()
    new = write_report(quickstart, SWEEP, tmp_path / "new").page.read_text()
    assert text.partition("## Bounds")[0] == new.partition("## Bounds")[0]
    assert len(list((tmp_path / "figures").glob("*.pdf"))) > 1


def test_the_dashboard_shows_every_view(old: Path) -> None:
    page, chosen = Page.open(str(old)), Chosen(sweeps=[SWEEP])
    assert page.problem is None
    best = max(
        overview(old, SWEEP).to_pylist(), key=lambda row: (row["accuracy_loss"] < 0.01, row["hcr_std"])
    )
    assert f"use {best['method']}" in cells.answer(page, chosen, 0.01)
    assert all(cells.frontier(page, chosen, name).chart is not None for name in page.hides(chosen).values())
    assert cells.accuracy(page, chosen).chart is not None
    assert cells.bounds(page, next(iter(page.curves(chosen).values()))).chart is not None
    assert cells.modes(page, next(iter(page.mode_points(chosen).values()))).chart is not None
    for view in cells.TABLES:
        assert cells.table(page, view, chosen, "").first is not None, view
    assert "10 of 10 points done" in cells.running(str(old), [SWEEP])


@pytest.mark.parametrize(
    "name", [*sorted(set(ready_made()) - {"compare"}), "privacy", "dp", "modes", "FROM secondary_drop()"]
)
def test_queries_answer(old: Path, name: str) -> None:
    found = CliRunner().invoke(app, ["query", name, "--results", str(old)], catch_exceptions=False)
    assert found.exit_code == 0, found.output


def test_status_and_mirror_read_them(old: Path) -> None:
    for command in (["status", SWEEP], ["mirror", SWEEP], ["verify"]):
        found = CliRunner().invoke(app, [*command, "--results", str(old)], catch_exceptions=False)
        assert found.exit_code == 0, found.output
