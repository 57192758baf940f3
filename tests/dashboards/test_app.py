"""What the dashboard's cells show, without a browser."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hushsweep.dashboards import overview, run_query
from hushsweep.dashboards.app import cells, statements
from hushsweep.dashboards.app.cells import Chosen, Page
from hushsweep.dashboards.app.snapshot import latest
from hushsweep.datasets.results import Store
from tests.dashboards.conftest import failed, measurements, plan_of, point

HOSTILE = "<img src=x onerror=alert(1)>'\"``` [a](javascript:b)"


def text_of(html: str) -> str:
    return re.sub(r"<[^>]*>", " ", html)


def test_the_answer_is_the_level_that_hides_most_at_the_loss(quickstart: Path) -> None:
    page = Page.open(str(quickstart))
    rows = [row for row in overview(quickstart, "quickstart").to_pylist() if row["accuracy_loss"] <= 0.01]
    best = max(rows, key=lambda row: row["hcr_std"])
    words = text_of(cells.answer(page, Chosen(sweeps=["quickstart"]), 0.01))
    assert f"use {best['method']}" in words
    assert f"level {best['level']:g}".replace("level", "noise scale") in words
    assert f"accuracy {100 * best['accuracy']:.1f} %" in words
    assert f"HCR bound {best['hcr_std']:.3g}" in words


def test_the_answer_names_the_attacker_where_there_is_one(quickstart: Path) -> None:
    page = Page.open(str(quickstart))
    rows = overview(quickstart, "quickstart-tradeoff").to_pylist()
    allowed = [row for row in rows if row["method"] != "none" and row["accuracy_loss"] <= 0.2]
    best = min(allowed, key=lambda row: row["secondary"])
    words = text_of(cells.answer(page, Chosen(sweeps=["quickstart-tradeoff"]), 0.2))
    assert f"strongest attacker {100 * best['secondary']:.1f} %" in words
    assert f"blind guess {100 * best['floor']:.1f} %" in words


def test_where_nothing_loses_so_little_the_answer_says_what_comes_nearest(
    fill: Callable[[Path], Store], tmp_path: Path
) -> None:
    fill(tmp_path)
    words = cells.answer(Page.open(str(tmp_path)), Chosen(sweeps=["small"]), 0.0)
    assert "nothing loses at most 0 points; the least is gaussian" in text_of(words)


def test_the_sql_that_is_shown_gives_the_same_elsewhere(quickstart: Path) -> None:
    chosen = Chosen(sweeps=["quickstart"], methods=["gaussian"])
    snapshot = latest(quickstart)
    for sql in (
        statements.levels_sql(chosen),
        statements.best_sql(chosen, 0.01),
        statements.accuracy_sql(chosen),
        statements.curves_sql(chosen),
        statements.mode_points_sql(chosen),
        statements.rows_sql("tradeoff", chosen, "level < 2"),
    ):
        here = snapshot.rows(sql)
        assert here, sql
        there = run_query(quickstart, sql).to_pylist()
        assert sorted(map(repr, here)) == sorted(map(repr, there)), sql


def test_choices_leave_out_what_was_not_chosen(fill: Callable[[Path], Store], tmp_path: Path) -> None:
    fill(tmp_path)
    page = Page.open(str(tmp_path))
    assert page.sweeps == ["both", "small"]
    assert page.methods(["both"]) == ["gaussian", "laplace"]
    assert page.models(["small"]) == ["torchvision/resnet18"]
    rows = page.ask(statements.levels_sql(Chosen(sweeps=["both"], methods=["laplace"])))
    assert {row["method"] for row in rows} == {"laplace"}
    assert {row["model"] for row in rows} == {"torchvision/resnet18", "timm/swin_tiny_patch4_window7_224"}


def test_every_view_of_the_quickstart_has_something_to_show(quickstart: Path) -> None:
    page, chosen = Page.open(str(quickstart)), Chosen(sweeps=["quickstart-tradeoff"])
    titles = page.hides(chosen)
    assert set(titles.values()) >= {"secondary", "hcr_std"}
    assert all(cells.frontier(page, chosen, name).chart is not None for name in titles.values())
    assert cells.accuracy(page, chosen).chart is not None
    bounds = cells.bounds(page, next(iter(page.curves(chosen).values())))
    assert bounds.chart is not None
    assert "unbiased estimators" in bounds.words
    assert cells.modes(page, next(iter(page.mode_points(chosen).values()))).chart is not None
    gallery = cells.gallery(page, chosen).words
    assert gallery.count("original") == 2, "each of two images once"
    assert "mask" in gallery
    assert "points done, 0 failed, 0 missing" in cells.running(str(quickstart), [])


def test_a_click_on_a_point_shows_all_its_numbers(quickstart: Path) -> None:
    page, chosen = Page.open(str(quickstart)), Chosen(sweeps=["quickstart"])
    point_id = page.ask(statements.levels_sql(chosen))[0]["point_id"]
    words = cells.picked_html(page, chosen, {"picked": {"point": [point_id]}})
    assert "top1" in words
    assert point_id in words


def test_a_table_is_filtered_and_downloaded_whole(quickstart: Path) -> None:
    page = Page.open(str(quickstart))
    rows = cells.table(page, "overview", Chosen(sweeps=["quickstart"]), "method = 'gaussian'")
    assert rows.first is not None
    count = len(rows.first)
    assert count > 1
    assert rows.csv().decode().count("\n") == count + 1
    assert pq.read_table(pa.BufferReader(rows.parquet())).num_rows == count


@pytest.mark.parametrize(
    "where", ["nothing = 1", "true); DROP TABLE overview; SELECT (1", "level <", "1) OR (1 = 1"]
)
def test_a_condition_that_is_none_gets_a_sentence_or_stays_within_what_was_chosen(
    quickstart: Path, where: str
) -> None:
    page = Page.open(str(quickstart))
    rows = cells.table(page, "overview", Chosen(sweeps=["quickstart"]), where)
    assert "The condition cannot be used:" in rows.words or rows.first is not None
    assert page.ask("SELECT count(*) AS n FROM overview")[0]["n"] > 0


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    assert "no results here; run a sweep first" in str(Page.open(str(tmp_path)).problem)
    Store(tmp_path)
    assert "start with: hushsweep run" in str(Page.open(str(tmp_path)).problem)


def test_a_sweep_with_nothing_yet_is_named(fill: Callable[[Path], Store], tmp_path: Path) -> None:
    entry = point("digits_mlp", "gaussian", 1.0)
    Store(tmp_path).write_sweep("early", spec_text="name: early\n", plan=plan_of("early", [entry]))
    assert "no results yet of early" in str(Page.open(str(tmp_path)).problem)


@pytest.mark.parametrize("content", [b"PAR1 half of a fi", b""])
def test_a_damaged_file_is_named(fill: Callable[[Path], Store], tmp_path: Path, content: bytes) -> None:
    fill(tmp_path)
    (tmp_path / "measurements" / "broken.a.parquet").write_bytes(content)
    problem = cells.problem_html(Page.open(str(tmp_path)))
    assert "broken.a.parquet" in problem
    assert "move that file away" in problem


def test_rows_of_an_older_schema_are_shown(fill: Callable[[Path], Store], tmp_path: Path) -> None:
    fill(tmp_path)
    marker = tmp_path / "hushsweep.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "first_schema_version": 0}))
    for file in (tmp_path / "measurements").glob("*.parquet"):
        old = pq.read_table(file).drop_columns(["holds_for", "peak_memory"])
        pq.write_table(old, file)
    assert "use laplace" in cells.answer(Page.open(str(tmp_path)), Chosen(sweeps=["both"]), 0.05)


def test_only_failures_are_said_with_their_reason(tmp_path: Path) -> None:
    store, entry = Store(tmp_path), point("torchvision/resnet18", "gaussian", 1.0)
    store.write_sweep("bad", spec_text="name: bad\n", plan=plan_of("bad", [entry]))
    store.write("measurements", "t.a", failed(entry, entry["measures"][0], "t", f"out of memory {HOSTILE}"))
    page = Page.open(str(tmp_path))
    assert page.problem is None
    words = cells.answer(page, Chosen(sweeps=["bad"]), 0.01)
    assert "1 measures failed, for example: out of memory" in words
    assert "<img" not in words + cells.running(str(tmp_path), ["bad"])
    assert cells.frontier(page, Chosen(), None).chart is None
    assert cells.accuracy(page, Chosen()).chart is None


def test_names_with_markup_and_quotes_are_text(tmp_path: Path) -> None:
    store, entry = Store(tmp_path), point("torchvision/resnet18", "gaussian", 1.0)
    rows = [{**row, "model": HOSTILE} for row in measurements(entry, entry["measures"][0], "t")]
    entry["label"] = HOSTILE
    store.write_sweep("odd", spec_text="name: odd\n", plan=plan_of("odd", [entry]))
    store.write("measurements", "t.a", rows)
    page = Page.open(str(tmp_path))
    chosen = Chosen(sweeps=["odd"], models=[HOSTILE])
    picked = {"picked": {"point": [entry["point_id"], HOSTILE]}}
    shown = cells.accuracy(page, chosen)
    assert shown.chart is not None
    everything = cells.answer(page, chosen, 1.0) + shown.words + shown.sql
    everything += cells.picked_html(page, chosen, picked) + cells.running(str(tmp_path), [])
    assert "onerror=alert" in everything, "the name is shown"
    assert "<img" not in everything
    assert page.models([]) == [HOSTILE]


def test_what_is_written_later_is_read(fill: Callable[[Path], Store], tmp_path: Path) -> None:
    store = fill(tmp_path)
    before = latest(tmp_path)
    assert latest(tmp_path) is before
    entry = point("torchvision/resnet18", "gaussian", 8.0)
    store.write("measurements", "late.a", measurements(entry, entry["measures"][0], "late"))
    assert latest(tmp_path) is not before
