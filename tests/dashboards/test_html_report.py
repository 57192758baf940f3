"""The report as one page: opened from its file by a real browser, it draws, tells the numbers and calls nobody."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_support import visited
from typer.testing import CliRunner

from hushsweep.dashboards import run_query, tradeoff, write_report
from hushsweep.dashboards.queries.output import escape_markdown
from hushsweep.dashboards.reports.markdown import words_to_html
from hushsweep.datasets.results import Store, StoreError
from hushsweep.sweeps.cli import app
from tests.dashboards.bound_rows import BOUNDS, entry_of, fill_bounds, statistics, write_bounds
from tests.dashboards.conftest import ACCURACY, failed, measurements, plan_of, points, write_trial
from tests.dashboards.privacy_rows import fill_learned, learned_points, rows_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

runner = CliRunner()
HOSTILE = (
    "</script><script>document.title='taken'</script><img src=x onerror=document.title='taken'> "
    '"it\'s" `x` **y**'
)


def drawn_charts(page: Any) -> int:
    page.wait_for_selector("html.drawn", timeout=120_000)
    return int(page.locator(".chart svg.marks").count())


def json_of(page: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="charts">(.*?)</script>', page, re.DOTALL)
    read: dict[str, Any] = json.loads(found)
    return read


@pytest.mark.parametrize(
    ("sweep", "dark", "headings"),
    [
        ("quickstart", False, ["Accuracy", "Bounds", "Cramér-Rao", "Provenance", "Sweep file", "Caveats"]),
        ("quickstart-tradeoff", True, ["What a server still learns", "Provenance", "Sweep file"]),
    ],
)
def test_the_page_of_the_quickstart_is_drawn_and_tells_its_numbers(
    browser: "Browser", quickstart: Path, tmp_path: Path, sweep: str, dark: bool, headings: list[str]
) -> None:
    page = tmp_path / "report.html"
    found = runner.invoke(app, ["report", sweep, "-o", str(page), "--results", str(quickstart)])
    assert found.exit_code == 0, found.output
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    with visited(browser, page.as_uri(), dark=dark) as visit:
        assert drawn_charts(visit.page) == visit.page.locator(".chart").count() > 1
        shown = visit.page.locator("h2, h3").all_inner_texts()
        assert set(headings) <= set(shown)
        text = visit.page.locator("body").inner_text()
        for row in tradeoff(quickstart, sweep).to_pylist():
            assert f"{row['top1']:.4g}" in text
        assert f"name: {sweep}" in text
        visit.page.locator("summary", has_text="SQL").first.click()
        sql = visit.page.locator("details[open] code").first.inner_text()
        assert len(run_query(quickstart, sql)) > 0
        visit.page.locator("details[open] button.copy").first.click()
        assert visit.page.evaluate("getSelection().toString()") == sql
        visit.page.locator(".chart svg path[aria-roledescription=point]").first.hover(
            force=True
        )  # points may cover one another
        visit.page.locator("#vg-tooltip-element.visible").wait_for()
        visit.picture(f"report-{sweep}", full_page=True)


def test_the_charts_of_the_page_hold_the_rows(quickstart: Path, tmp_path: Path) -> None:
    page = write_report(quickstart, "quickstart", tmp_path / "report.html").page.read_text(encoding="utf-8")
    accuracy = json_of(page)["charts"][0]
    values = [row for rows in accuracy["datasets"].values() for row in rows]
    assert {row["accuracy"] for row in values} == {
        r["top1"] for r in tradeoff(quickstart, "quickstart").to_pylist()
    }
    assert page.count("vegaEmbed=") == 1
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r'(?:src|href)="(?!data:)', markup) == []


def test_tables_are_there_without_javascript(browser: "Browser", quickstart: Path, tmp_path: Path) -> None:
    page = write_report(quickstart, "quickstart", tmp_path / "report.html").page
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(page.as_uri())
    assert opened.locator("table").count() == opened.locator("details").count() - 6  # the SQL of charts
    assert "drawn by JavaScript" in opened.locator("figure").first.inner_text()
    opened.emulate_media(media="print")
    assert opened.locator(".table").first.evaluate("it => getComputedStyle(it).overflow") == "visible"
    context.close()


def test_names_from_elsewhere_run_nothing(browser: "Browser", tmp_path: Path) -> None:
    store, entry = Store(tmp_path / "results"), entry_of(1.0)
    hostile = {"model": HOSTILE, "mechanism": HOSTILE, "dataset": HOSTILE, "caveat": HOSTILE}
    store.write_sweep("odd", spec_text=f"name: odd\ndescription: {HOSTILE}\n", plan=plan_of("odd", [entry]))
    write_bounds(store, "t", [entry])
    for measure_id, rows in (
        (ACCURACY, measurements(entry, entry["measures"][0], "t")),
        (BOUNDS, statistics(entry, "t")),
    ):
        store.write("measurements", f"t.{measure_id}", [{**row, **hostile} for row in rows])
    page = write_report(store.root, "odd", tmp_path / "report.html").page
    with visited(browser, page.as_uri()) as visit:
        dialogs = list[str]()
        visit.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        assert drawn_charts(visit.page) > 1
        visit.page.locator(".chart svg path[aria-roledescription=point]").first.hover(
            force=True
        )  # points may cover one another
        visit.page.locator("#vg-tooltip-element.visible").wait_for()
        assert "onerror" in visit.page.locator("#vg-tooltip-element").inner_text()
        assert visit.page.title() == "odd · hushsweep"
        assert visit.page.locator("script").count() == 3  # ours
        assert visit.page.locator("img[src=x]").count() == 0
        assert HOSTILE in visit.page.locator("pre.text").inner_text()
        assert visit.page.locator("td", has_text=HOSTILE).count() > 0
        assert dialogs == []
        visit.picture("report-hostile", full_page=True)


def test_words_become_html_and_users_text_stays_text() -> None:
    assert words_to_html("a `b<c` **bold `d`** e & f") == (
        "a <code>b&lt;c</code> <strong>bold <code>d</code></strong> e &amp; f"
    )
    for text in (HOSTILE, "a\\b", "**", "*", "`", "~~x~~ $y$", "<b>", "&lt;", "**a", "\\**a**"):
        assert words_to_html(escape_markdown(text)) == html_of(text)


def html_of(text: str) -> str:
    for character, name in (("&", "amp"), ("<", "lt"), (">", "gt"), ('"', "quot"), ("'", "#x27")):
        text = text.replace(character, f"&{name};")
    return text


def test_a_sweep_of_failures_alone_has_a_report_that_says_so(browser: "Browser", tmp_path: Path) -> None:
    store, entries = Store(tmp_path / "results"), points()
    store.write_sweep("s", spec_text="name: s\n", plan=plan_of("s", entries))
    rows = [r for e in entries for m in e["measures"] for r in failed(e, m, "t", "out of <memory>")]
    store.write("measurements", "t.failed", rows)
    page = write_report(store.root, "s", tmp_path / "report.html").page
    with visited(browser, page.as_uri()) as visit:
        visit.page.wait_for_selector("html.drawn")
        text = visit.page.locator("body").inner_text()
        assert "0 of 20 points complete; 20 failed, 0 missing." in text
        assert visit.page.locator("tr", has_text="out of <memory>").count() == 2  # by measure
        assert visit.page.locator(".chart").count() == 0
    folder = write_report(store.root, "s", tmp_path / "report").page
    assert "## Failures" in folder.read_text()


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda root: (root / "measurements" / "x.parquet").write_bytes(b"PAR1 half"), "x.parquet"),
        (lambda root: (root / "sweeps" / "strong" / "spec.yaml").write_bytes(b"\xff\xfe\x00"), "spec.yaml"),
        (lambda root: (root / "sweeps" / "strong" / "plan.json").write_bytes(b"{"), "plan.json"),
    ],
)
def test_broken_results_are_one_sentence(
    tmp_path: Path, break_it: Callable[[Path], object], said: str
) -> None:
    store = fill_bounds(tmp_path / "results")
    break_it(store.root)
    found = runner.invoke(
        app, ["report", "strong", "-o", str(tmp_path / "r.html"), "--results", str(store.root)]
    )
    assert found.exit_code == 2, found.output
    assert said in found.output
    assert "Traceback" not in found.output
    assert not (tmp_path / "r.html").exists()


def test_an_empty_store_an_unwritable_place_and_a_format_are_one_sentence_each(tmp_path: Path) -> None:
    empty = Store(tmp_path / "empty")
    with pytest.raises(StoreError, match="no sweep 's'; known: none yet"):
        write_report(empty.root, "s", tmp_path / "r.html")
    store = Store(tmp_path / "results")
    entry = points()[0]
    store.write_sweep("s", spec_text="", plan=plan_of("s", [entry]))
    write_trial(store, "t", [entry], ACCURACY)
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file" / "r.html", tmp_path / "empty.html"):
        (tmp_path / "empty.html").mkdir(exist_ok=True)
        with pytest.raises(StoreError, match="could not be written"):
            write_report(store.root, "s", output)
    with pytest.raises(StoreError, match="unknown format 'gif' of figures; known: png, svg, pdf"):
        write_report(store.root, "s", tmp_path / "r.html", formats=["gif"])


def test_figures_are_files_for_papers(tmp_path: Path) -> None:
    store = fill_bounds(tmp_path / "results", mechanisms=("gaussian",))
    command = ["report", "strong", "-o", str(tmp_path / "r.html"), "--results", str(store.root)]
    found = runner.invoke(app, [*command, "--figures", str(tmp_path / "f"), "--format", "svg,pdf"])
    assert found.exit_code == 0, found.output
    names = {path.name for path in (tmp_path / "f").iterdir()}
    stems = {"tradeoff", "curve-1-bounds", "curve-1-modes", "curve-1-histograms", "curve-1-pictures"}
    assert names == {f"{stem}.{ending}" for stem in stems for ending in ("svg", "pdf")}
    assert (
        "Barankin (jacobian): for unbiased estimators" in (tmp_path / "f" / "curve-1-bounds.svg").read_text()
    )
    assert all(
        path.read_bytes().startswith((b"%PDF", b"<svg", b"<?xml")) for path in (tmp_path / "f").iterdir()
    )


def test_an_attack_below_an_unbiased_bound_and_a_biased_estimator_are_caveats(tmp_path: Path) -> None:
    store = fill_bounds(tmp_path / "results", mechanisms=("gaussian",))
    page = write_report(store.root, "strong", tmp_path / "r.html").page.read_text(encoding="utf-8")
    assert "That is no contradiction: the attacker is biased." in page.partition("<h2>Caveats")[2]
    assert "no unbiased estimator exists there" in page
    learned, entries = fill_learned(tmp_path / "learned"), learned_points()
    row = next(r for entry in entries for r in rows_of(entry) if r["statistic"] == "mi_lower_cap")
    biased = {**row, "statistic": "mi_knn", "value": 3.0}
    for number, has_estimate in enumerate((False, True)):
        if has_estimate:
            learned.write("measurements", "knn", [biased])
        page = write_report(learned.root, "learned", tmp_path / f"{number}.html").page
        assert ("is biased and bounds nothing" in page.read_text(encoding="utf-8")) == has_estimate
