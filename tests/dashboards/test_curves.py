"""Curves are read off the rows and told apart by name."""

from collections.abc import Callable
from pathlib import Path

from hushsweep.dashboards.curves import name_curves, read_curves
from hushsweep.datasets.results import Store, arrow_schema
from tests.dashboards.conftest import ACCURACY, LEVELS, curve_id, plan_of, point, points, write_trial

Fill = Callable[[Path], Store]


def test_curves_hold_the_rows_of_the_store_by_level(tmp_path: Path, fill: Fill) -> None:
    store = fill(tmp_path)
    curves = read_curves(store.root, "both")
    assert [curve.name for curve in curves] == [
        "resnet18 · gaussian · seed 0",
        "resnet18 · laplace · seed 0",
        "swin_tiny_patch4_window7_224 · gaussian · seed 0",
        "swin_tiny_patch4_window7_224 · laplace · seed 0",
    ]
    stored = {(row["point_id"], row["statistic"]): row for row in store.read("measurements").to_pylist()}
    for curve in curves:
        assert curve.rows.schema.equals(arrow_schema("measurements"))
        rows = curve.rows.to_pylist()
        assert rows == [stored[row["point_id"], row["statistic"]] for row in rows]
        assert list(dict.fromkeys(row["level"] for row in rows)) == list(LEVELS)
        assert curve.fields["weights"] == "prototype"
        assert not {"level", "point_id", "statistic", "mechanism_json", "noise_std"} & set(curve.fields)
    assert sum(len(curve.rows) for curve in curves) == len(stored)


def test_a_digest_changes_with_the_rows_and_only_with_them(tmp_path: Path, fill: Fill) -> None:
    store = fill(tmp_path)
    before = {curve.curve_id: curve.digest for curve in read_curves(store.root, "both")}
    assert len(set(before.values())) == 4
    assert before == {curve.curve_id: curve.digest for curve in read_curves(store.root, "both")}
    (shared,) = read_curves(store.root, "small")
    assert before[shared.curve_id] == shared.digest
    more = point("torchvision/resnet18", "gaussian", 8.0)
    store.write_sweep("both", spec_text="", plan=plan_of("both", [*points(), more]))
    write_trial(store, "more", [more])
    after = {curve.curve_id: curve.digest for curve in read_curves(store.root, "both")}
    assert {key for key in after if after[key] != before[key]} == {
        curve_id("torchvision/resnet18", "gaussian")
    }


def test_a_point_without_a_level_comes_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entries = [
        point("torchvision/resnet18", "gaussian", 1.0),
        point("torchvision/resnet18", "gaussian", None),
    ]
    store.write_sweep("s", spec_text="", plan=plan_of("s", entries))
    rows = [
        {"point_id": entry["point_id"], "curve_id": "c", "measure_id": ACCURACY, "computed_by": "t"}
        | {"measure": "accuracy", "statistic": "top1", "value": 0.5, "status": "complete"}
        | {"level": entry["fields"]["level"]}
        for entry in entries
    ]
    store.write("measurements", "t", rows)
    (curve,) = read_curves(store.root, "s")
    assert curve.rows.column("level").to_pylist() == [None, 1.0]


def test_names_show_what_differs_and_never_collide() -> None:
    base = {
        "model": "torchvision/resnet18",
        "mechanism": "gaussian",
        "seed": 0,
        "cut": "features",
        "model_seed": 0,
    }
    names = name_curves(
        {
            "a": base,
            "b": {**base, "model": "timm/resnet18"},
            "c": {**base, "model_seed": 1},
            "d" * 32: {**base, "seed": 1},
            "e" * 32: {**base, "seed": 1},
        }
    )
    assert names == {
        "a": "torchvision/resnet18 · model seed 0 · gaussian · seed 0",
        "b": "timm/resnet18 · model seed 0 · gaussian · seed 0",
        "c": "torchvision/resnet18 · model seed 1 · gaussian · seed 0",
        "d" * 32: "torchvision/resnet18 · model seed 0 · gaussian · seed 1 · dddddddd",
        "e" * 32: "torchvision/resnet18 · model seed 0 · gaussian · seed 1 · eeeeeeee",
    }
    assert name_curves({"a": base}) == {"a": "resnet18 · gaussian · seed 0"}
