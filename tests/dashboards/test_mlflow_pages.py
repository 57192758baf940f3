"""MLflow's own pages over the mirrored quickstart, in a real browser, and the pictures of them in docs/mlflow.md."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser_support import Visit, visited

from hushsweep.dashboards import mirror, run_query, tradeoff, ui_address
from hushsweep.dashboards.queries.ready_made import ready_made
from hushsweep.dashboards.server import local_tracking_uri
from tests.dashboards.test_tracking import free_port, runs_of, server, sweep_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SWEEP = "quickstart"
LONG = 90_000
"""Milliseconds for a page of MLflow on a machine that is busy."""
ITS_OWN = ("/mlflow/users/current", "ResizeObserver loop completed")
"""What MLflow's pages themselves call errors: a question about users that its server does not know, and a notice."""


@pytest.fixture(scope="module")
def pages(quickstart: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A mirrored copy of the quickstart's results, and the port at which MLflow shows it."""
    results = tmp_path_factory.mktemp("pages") / "results"
    shutil.copytree(quickstart, results, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"))
    assert mirror(results, SWEEP).error is None
    port = free_port()
    with server(results, port):
        yield results, port


@contextmanager
def opened(browser: "Browser", address: str) -> Iterator[Visit]:
    """A page of MLflow, its assistant closed."""
    with visited(browser, address, width=1400) as visit:
        visit.page.set_default_timeout(LONG)
        visit.page.get_by_role("button", name="Close").click()
        yield visit
        visit.errors[:] = [line for line in visit.errors if not any(own in line for own in ITS_OWN)]


def followed(page: "Page", link: str) -> "Page":
    """The tab that a link of a description opens."""
    with page.context.expect_page() as opening:
        page.get_by_role("link", name=link).first.click()
    opening.value.set_default_timeout(LONG)
    return opening.value


def of_sweep(results: Path, port: int, *, run: bool) -> str:
    """Address of the experiment as MLflow's own list of experiments leads to it, or of the sweep's run."""
    info = sweep_run(local_tracking_uri(results), SWEEP).info
    place = f"/{info.run_id}" if run else ""
    return f"http://127.0.0.1:{port}/#/experiments/{info.experiment_id}/runs{place}?workflowType=machine_learning"


def test_runs_stand_below_their_sweep(pages: tuple[Path, int], browser: "Browser") -> None:
    results, port = pages
    curves = [run.info.run_name for run in runs_of(local_tracking_uri(results), SWEEP)]
    assert len(curves) == 2
    with opened(browser, of_sweep(results, port, run=False)) as visit:
        page = visit.page
        page.get_by_text("3 matching runs").wait_for()
        own = page.get_by_role("row").filter(has=page.get_by_role("link", name=SWEEP, exact=True))
        assert page.get_by_role("link", name=curves[0]).count() == 0  # MLflow folds up what is below a run
        own.get_by_role("button").first.click()
        for name in curves:
            page.get_by_role("link", name=name).wait_for()
        page.get_by_text("10 of 10 points complete").wait_for()
        visit.picture("mlflow-runs")


def test_a_sweep_explains_itself(pages: tuple[Path, int], browser: "Browser") -> None:
    results, port = pages
    best = run_query(results, ready_made()["best"], sweep=SWEEP).to_pylist()
    assert {row["method"] for row in best} == {"gaussian", "laplace"}
    with opened(browser, of_sweep(results, port, run=True)) as visit:
        page = visit.page
        page.get_by_text("10 of 10 points complete").wait_for()
        page.get_by_text("Show more").click()
        for row in best:
            line = page.get_by_role("row").filter(has_text=row["method"])
            for name in ("accuracy", "accuracy_loss", "hcr_std"):
                line.get_by_text(f"{row[name]:.4g}", exact=True).wait_for()
        visit.picture("mlflow-sweep")
        files = followed(page, "Pictures and tables")
        files.get_by_text("best.csv").first.click()
        files.get_by_text("Previewing the first 2 rows").wait_for()
        for row in best:
            files.get_by_text(row["method"], exact=True).wait_for()
        files.get_by_text("tradeoff.png").first.click()
        drawn = files.get_by_role("img", name="tradeoff.png")
        drawn.wait_for()
        assert drawn.evaluate("async image => { await image.decode(); return image.naturalWidth }") > 500


def test_a_sweep_leads_to_its_report(pages: tuple[Path, int], browser: "Browser") -> None:
    """MLflow shows the page in a frame that may run its scripts and nothing else: the charts are drawn there."""
    results, port = pages
    (best, *_) = run_query(results, ready_made()["best"], sweep=SWEEP).to_pylist()
    with opened(browser, of_sweep(results, port, run=True)) as visit:
        shown = followed(visit.page, "Report").frame_locator("iframe")
        shown.get_by_role("heading", name=SWEEP).wait_for()
        shown.locator("canvas, svg.marks").first.wait_for()
        shown.get_by_text(f"{best['hcr_std']:.4g}", exact=True).first.wait_for()


def test_curves_are_drawn_over_their_levels(pages: tuple[Path, int], browser: "Browser") -> None:
    """At the address that hushsweep ui prints, to which the description of the sweep leads as well."""
    results, port = pages
    rows = sorted(tradeoff(results, SWEEP).to_pylist(), key=lambda row: row["level"])
    with opened(browser, ui_address(results, port, SWEEP)) as visit:
        chart = visit.page.locator(".js-plotly-plot").first
        chart.locator("path.js-line").first.wait_for()
        for mechanism in ("gaussian", "laplace"):
            visit.page.get_by_text(f"digits_mlp · {mechanism} · seed 0 (accuracy)").wait_for()
        visit.picture("mlflow-curves")
        lines = chart.evaluate("plot => plot.data.map(line => [line.name, Array.from(line.y)])")
        drawn = {name: values for name, values in lines if values}
        for mechanism in ("gaussian", "laplace"):
            (found,) = (values for name, values in drawn.items() if mechanism in name)
            assert found == pytest.approx([row["top1"] for row in rows if row["mechanism"] == mechanism])
    with opened(browser, of_sweep(results, port, run=False)) as visit:
        charts = followed(visit.page, "Curves")
        charts.get_by_text("digits_mlp · laplace · seed 0 (accuracy)").wait_for()
