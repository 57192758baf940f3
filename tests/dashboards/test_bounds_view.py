"""The view bounds is what the rows of the images add up to, and older folders have it too."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from hushsweep.dashboards import run_query
from hushsweep.datasets.results import Store
from tests.dashboards.bound_rows import (
    BOUNDS,
    IMAGES,
    MODE_BOUNDS,
    RERO,
    SIDE,
    UNBIASED,
    entry_of,
    fill_bounds,
    ids,
    image_rows,
    write_bounds,
)
from tests.dashboards.conftest import HCR, LEVELS, failed, fill_folder, plan_of, points, write_trial


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return fill_bounds(tmp_path_factory.mktemp("strong"))


def ask(store: Store, sql: str) -> list[dict[str, Any]]:
    return list(run_query(store.root, sql).to_pylist())


def test_a_row_is_one_bound_of_one_point(store: Store) -> None:
    rows = ask(store, "FROM bounds")
    keys = {(r["sweep"], r["point_id"], r["measure_id"], r["bound"], r["search"]) for r in rows}
    assert len(keys) == len(rows) == 2 * len(LEVELS) * 10
    assert {(r["sweep"], r["model"]) for r in rows} == {("strong", "torchvision/resnet18")}
    assert all(r["applied_noise_std"] == 0.7 * r["level"] for r in rows)
    assert {r["images"] + r["images_without"] for r in rows} == {
        IMAGES
    }  # undecodable ones belong to no bound


def test_numbers_are_those_over_the_images(store: Store) -> None:
    where = "mechanism = 'gaussian' AND level = 2 AND bound = 'cramer_rao'"
    (found,) = ask(store, f"FROM bounds WHERE {where}")
    stored = [r for r in image_rows(entry_of(2.0), "t") if r.get("bound") == "cramer_rao"]
    for column in ("std_bound_mean", "std_bound_median", "std_bound_low_mean", "mse_bound_grey", "rank"):
        values = [row[column] for row in stored]
        assert found[f"mean_{column}"] == pytest.approx(np.mean(values))
        assert found[f"median_{column}"] == pytest.approx(np.median(values))
    assert (found["holds_for"], found["basis"], found["search"]) == (UNBIASED, "dct", None)
    assert found["mean_radius"] is None


def test_a_bound_that_does_not_apply_says_why_and_has_no_number(store: Store) -> None:
    for row in ask(store, "FROM bounds WHERE mechanism = 'laplace' AND bound = 'barankin'"):
        assert (row["images"], row["images_without"]) == (0, IMAGES)
        assert row["reason"] == "proved for Gaussian noise only"
        assert row["mean_std_bound_mean"] is None


def test_numbers_of_incomplete_rows_do_not_count(tmp_path: Path) -> None:
    store, entry = Store(tmp_path), entry_of(1.0)
    store.write_sweep("s", spec_text="", plan=plan_of("s", [entry]))
    write_bounds(store, "t", [entry])
    row = {**ids(entry, "t"), "bound": "dfil", "holds_for": UNBIASED}
    rows = [
        {**row, "image_index": 0, "status": "complete", "mse_bound": 2.0},
        {**row, "image_index": 1, "status": "not_applicable", "reason": "no", "mse_bound": 5.0},
    ]
    store.write("per_image/bounds", f"t.{BOUNDS}", rows)
    (found,) = ask(store, "FROM bounds")
    assert (found["images"], found["images_without"], found["mean_mse_bound"]) == (1, 1, 2.0)


def test_a_chance_is_taken_from_the_measurements(store: Store) -> None:
    rows = ask(store, "FROM bounds WHERE bound = 'rero' AND mechanism = 'gaussian' ORDER BY level")
    assert [row["success_bound"] for row in rows] == [1.0, 1.0, 0.2 + 0.4, 0.2 + 0.2, 0.2 + 0.1]
    assert {row["holds_for"] for row in rows} == {RERO}
    assert ask(store, "SELECT success_bound FROM bounds WHERE bound <> 'rero' AND success_bound > 0") == []


def test_the_measure_hcr_is_a_bound_too(tmp_path: Path) -> None:
    store, entry = Store(tmp_path), points()[0]
    entry["measures"][1]["options"] = {"search": "lsqr"}
    for name in ("s", "t"):
        store.write_sweep(name, spec_text="", plan=plan_of(name, [entry]))
    write_trial(store, "t", [entry], HCR)
    ids = {"point_id": entry["point_id"], "measure_id": HCR, "computed_by": "t", "status": "complete"}
    rows = [{**ids, "image_index": n, "std_bound_mean": 1.0 + n, "lsqr_iterations": [3]} for n in range(3)]
    store.write("per_image/hcr", "t", rows)
    found = ask(store, "FROM bounds ORDER BY sweep")
    assert [(r["sweep"], r["bound"], r["search"], r["images"]) for r in found] == [
        ("s", "hcr", "lsqr", 3),
        ("t", "hcr", "lsqr", 3),
    ]
    assert {(r["mean_std_bound_mean"], r["holds_for"]) for r in found} == {(2.0, UNBIASED)}


def test_bounds_and_pictures_count_only_with_their_complete_measurement(tmp_path: Path) -> None:
    store, entry = Store(tmp_path), entry_of(1.0)
    store.write_sweep("s", spec_text="", plan=plan_of("s", [entry]))
    for trial in ("a", "b"):
        write_bounds(store, trial, [entry])
    views = ("per_image_bounds", "pictures", "modes")
    assert {r["computed_by"] for view in views for r in ask(store, f"FROM {view}")} == {"a"}
    for trial in ("a", "b"):
        rows = failed(entry, entry["measures"][1], trial, "disk full")
        store.write("measurements", f"{trial}.{BOUNDS}", rows)
    assert [len(ask(store, f"FROM {view}")) for view in (*views, "bounds")] == [0, 0, 0, 0]


def test_modes_of_each_search_are_the_mean_over_shards(tmp_path: Path) -> None:
    store, entry = Store(tmp_path), entry_of(1.0)
    store.write_sweep("s", spec_text="", plan=plan_of("s", [entry]))
    write_bounds(store, "t", [entry])
    common = {**ids(entry, "t"), "basis": "dct", "channel": 0, "row": 0, "column": 0}
    shards = (
        [("cramer_rao", None, 1.0, None, 0.2, 6), ("barankin", "dct", 2.0, None, None, 6)],
        [
            ("cramer_rao", None, 3.0, None, 0.6, 2),
            ("barankin", "jacobian", 5.0, None, None, 2),
            ("cramer_rao_estimate", "pseudo_inverse", None, 7.0, None, 2),
        ],
    )
    columns = ("bound", "search", "std_bound", "std_estimate", "non_identifiable", "n")
    store.write("modes", f"t.{BOUNDS}", [])
    for number, shard in enumerate(shards):
        rows = [{**common, **dict(zip(columns, values, strict=True))} for values in shard]
        store.write("modes", f"t.{BOUNDS}.{number}of2", rows)
    found = ask(store, f"SELECT {', '.join(columns)} FROM modes ORDER BY bound, search")
    assert [tuple(row.values()) for row in found] == [
        ("barankin", "dct", 2.0, None, None, 6),
        ("barankin", "jacobian", 5.0, None, None, 2),
        ("cramer_rao", None, 1.5, None, pytest.approx(0.3), 8),
        ("cramer_rao_estimate", "pseudo_inverse", None, 7.0, None, 2),
    ]


def test_a_folder_of_schema_version_1_is_read(tmp_path: Path) -> None:
    """Its files lack the later columns and tables, and its marker says 1."""
    store = fill_folder(tmp_path)
    entry = points()[0]
    ids = {"point_id": entry["point_id"], "measure_id": HCR, "computed_by": "trial-resnet18"}
    mode = {
        **ids,
        "bound": "hcr",
        "basis": "dct",
        "channel": 0,
        "row": 0,
        "column": 0,
        "std_bound": 0.5,
        "n": 4,
    }
    store.write("modes", "old", [mode])
    later = {"measurements": ("holds_for", "peak_memory")}
    later["modes"] = ("search", "std_estimate", "non_identifiable", "unresolved")
    for table, columns in later.items():
        for path in (store.root / table).glob("*.parquet"):
            pq.write_table(pq.read_table(path).drop_columns(list(columns)), path)
    marker = store.root / "hushsweep.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "schema_version": 1}))
    (found,) = ask(store, "FROM modes")
    assert (found["std_bound"], found["n"], found["search"], found["unresolved"]) == (0.5, 4, None, None)
    assert len(ask(store, "FROM measurements WHERE sweep = 'both' AND holds_for IS NULL")) == 180
    assert [len(ask(store, f"FROM {view}")) for view in ("per_image_bounds", "pictures", "bounds")] == [
        0,
        0,
        0,
    ]
    reopened = Store(store.root, create=False)
    assert reopened.read("measurements").column("peak_memory").null_count == 180
    assert reopened.read("modes").column("search").to_pylist() == [None]
    reopened.write("modes", "new", [{**mode, "search": "lsqr", "point_id": points()[1]["point_id"]}])
    assert [r["search"] for r in ask(reopened, "FROM modes ORDER BY search")] == ["lsqr", None]


def test_pictures_keep_their_bytes(store: Store) -> None:
    rows = ask(store, "FROM pictures WHERE kind = 'original' AND image_index = 0")
    assert {len(row["pixels"]) for row in rows} == {SIDE * SIDE}
    assert len({row["pixels"] for row in rows}) == 1
    assert {b for b, *_ in MODE_BOUNDS} >= {
        r["bound"] for r in ask(store, "SELECT DISTINCT bound FROM modes")
    }
