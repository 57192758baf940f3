"""Interactive charts hold the numbers of the rows that they were given."""

from pathlib import Path
from typing import Any

import pytest

from hushsweep.dashboards import bounds, dp, frontier, overview, run_query, tradeoff
from hushsweep.dashboards.charts import (
    FORMATS,
    HIDES,
    accuracy_chart,
    bounds_chart,
    epsilon_chart,
    frontier_chart,
    modes_chart,
    modes_sql,
    save_chart,
    spec,
)
from hushsweep.datasets.results import Store
from tests.dashboards.bound_rows import MODE_BOUNDS, SIDE, UNBIASED, entry_of, fill_bounds
from tests.dashboards.conftest import fill_folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return fill_bounds(tmp_path_factory.mktemp("strong"))


def values(drawn: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for rows in drawn["datasets"].values() for row in rows]


def of_curve(store: Store, mechanism: str) -> list[dict[str, Any]]:
    return [row for row in bounds(store.root, "strong").to_pylist() if row["mechanism"] == mechanism]


def test_accuracy_is_that_of_the_rows_in_bands_of_95_percent(tmp_path: Path) -> None:
    rows = tradeoff(fill_folder(tmp_path).root, "both").to_pylist()
    chart = accuracy_chart(rows)
    assert chart is not None
    found = {(row["model"], row["mechanism"], row["level"]): row for row in values(spec(chart))}
    assert len(found) == len(rows) == 20
    for row in rows:
        drawn = found[row["model"], row["mechanism"], row["level"]]
        assert (drawn["accuracy"], drawn["clean"]) == (row["top1"], row["clean_top1"])
        assert drawn["high"] - drawn["accuracy"] == pytest.approx(1.96 * row["top1_stderr"], rel=1e-4)
    assert len({row["curve"] for row in found.values()}) == 4
    assert accuracy_chart([{**row, "level": 0.0} for row in rows]) is None
    merged = accuracy_chart(rows, {row["curve_id"]: "one" for row in rows})
    assert merged is not None
    assert {row["curve"] for row in values(spec(merged))} == {"one"}


def test_every_bound_is_drawn_with_whom_it_holds_for(store: Store) -> None:
    rows = of_curve(store, "gaussian")
    chart = bounds_chart(rows)
    assert chart is not None
    drawn = values(spec(chart))
    for bound, search, holds_for, _ in MODE_BOUNDS:
        expected = {
            row["level"]: row["median_std_bound_median"]
            for row in rows
            if (row["bound"], row["search"]) == (bound, search)
        }
        found = {
            row["level"]: row["value"]
            for row in drawn
            if row["search"] == (search or "")
            and row["holds_for"] == holds_for
            and row["line"].partition(" ")[2].startswith(bound)
        }
        assert found == expected
    names = {row["bound"] for row in drawn}
    assert f"Barankin (jacobian): for {UNBIASED}" in names
    assert any("no bound: the least error" in name for name in names)
    chances = {row["level"]: row["value"] for row in drawn if "Reconstruction robustness" in row["bound"]}
    assert chances == {r["level"]: r["success_bound"] for r in rows if r["bound"] == "rero"}
    assert bounds_chart([]) is None


def test_the_frontier_is_that_of_the_view(quickstart: Path) -> None:
    rows = frontier(quickstart, "quickstart-tradeoff").to_pylist()
    chart = frontier_chart(rows)
    assert chart is not None
    drawn = [row for row in values(spec(chart)) if "method" in row]
    assert {(row["hidden"], row["accuracy"]) for row in drawn} == {
        (row["secondary_strongest"], row["primary_top1"]) for row in rows
    }
    assert {row["hidden"] for row in drawn if row["is_best"]} == {
        row["secondary_strongest"] for row in rows if row["is_pareto_overall"]
    }


def test_the_frontier_marks_what_no_other_point_beats(tmp_path: Path) -> None:
    points = overview(fill_folder(tmp_path).root, "both").to_pylist()
    beaten_ones = [{**row, "method": "worse", "accuracy": 0.9 * row["accuracy"]} for row in points]
    chart = frontier_chart([*points, *beaten_ones], "hcr_std")
    assert chart is not None
    drawn = [row for row in values(spec(chart)) if "method" in row]
    assert len(drawn) == 40
    assert 0 < sum(row["is_best"] for row in drawn) < 40
    for row in drawn:
        beaten = any(
            other["setting"] == row["setting"]
            and other["hidden"] >= row["hidden"]
            and other["accuracy"] >= row["accuracy"]
            and (other["hidden"], other["accuracy"]) != (row["hidden"], row["accuracy"])
            for other in drawn
        )
        assert row["is_best"] != beaten
    assert all(frontier_chart([], name) is None for name in HIDES)


def test_modes_are_those_of_the_point_and_blocks_of_many(store: Store) -> None:
    point = entry_of(1.0)["point_id"]
    rows = run_query(store.root, modes_sql(point)).to_pylist()
    assert {row["step"] for row in rows} == {1}
    chart = modes_chart(rows, strongest=[("hcr", "jacobian")])
    assert chart is not None
    drawn = values(spec(chart))
    expected = {
        (r["row"], r["column"]): r["std"] for r in rows if (r["bound"], r["search"]) == ("hcr", "jacobian")
    }
    assert {(row["row"], row["column"]): row["std"] for row in drawn} == expected
    assert len(expected) == SIDE**2
    coarse = run_query(store.root, modes_sql(point, cells=4)).to_pylist()
    assert {row["step"] for row in coarse} == {SIDE // 4}
    one = [r["std"] for r in rows if r["bound"] == "cramer_rao" and r["row"] < 4 and r["column"] < 4]
    block = next(r for r in coarse if r["bound"] == "cramer_rao" and r["row"] == r["column"] == 0)
    assert block["std"] == pytest.approx(sum(one) / 16)
    assert modes_chart([]) is None
    assert run_query(store.root, modes_sql("it's")).num_rows == 0


def test_accuracy_stands_against_epsilon(store: Store) -> None:
    assert epsilon_chart(dp(store.root, "strong").to_pylist()) is None
    row = dict.fromkeys(dp(store.root, "strong").column_names)
    row |= {"sweep": "s", "point_id": "p", "method": "dp_sgd", "top1": 0.9, "epsilon": 3.0, "seed": 0}
    plain = {**row, "method": "none", "epsilon": None, "top1": 0.95}
    chart = epsilon_chart([row, plain, {**row, "epsilon": float("inf")}])
    assert chart is not None
    drawn = values(spec(chart))
    assert [(r["epsilon"], r["accuracy"]) for r in drawn if "epsilon" in r] == [(3.0, 0.9)]
    assert [r["accuracy"] for r in drawn if "epsilon" not in r] == [0.95]


def test_a_chart_is_written_in_every_format(store: Store, tmp_path: Path) -> None:
    chart = bounds_chart(of_curve(store, "laplace"))
    assert chart is not None
    begins = {"png": b"\x89PNG", "svg": b"<svg", "pdf": b"%PDF"}
    for ending in FORMATS:
        save_chart(chart, tmp_path / f"bounds.{ending}")
        assert (tmp_path / f"bounds.{ending}").read_bytes().startswith(begins[ending])
