"""Accuracy beside epsilon: the view dp, its picture and its table in a report."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from hushsweep.dashboards import dp, draw_epsilons, write_report
from hushsweep.dashboards.figures import epsilons_figure
from hushsweep.datasets.results import Store
from tests.dashboards.conftest import plan_of
from tests.dashboards.privacy_rows import ACCURACY, learned_point

EPSILON, MEMBERSHIP = "e1" * 8, "e2" * 8
SEEDS, TARGETS = (0, 1, 2), (1.0, 3.0, 8.0)
METHODS = {"dp_sgd": "input", "private_activations": "cut"}


def entry(name: str, target: float | None, seed: int, **parameters: Any) -> dict[str, Any]:
    """A plan's entry of one point."""
    found = learned_point("none", None, seed)
    level = "noise_multiplier" if target is None else "target_epsilon"
    stage = {
        "name": name,
        "at": METHODS.get(name, "input"),
        "target_accuracy_loss": None,
        "calibration": "half",
    }
    stage["parameters"] = {level: target or 0.0, **parameters} if name != "none" else {}
    found["fields"] |= {
        "mechanism": name,
        "mechanism_json": json.dumps([stage], sort_keys=True),
        "level_name": None if name == "none" else level,
        "level": None if name == "none" else target or 0.0,
        "seed": seed,
        "task": None,
    }
    found["point_id"] = f"{name}-{target}-{seed}-{parameters}"
    found["curve_id"] = f"{name}-{seed}-{parameters}"
    found["target"] = target
    found["measures"] = [
        {"measure_id": ACCURACY, "name": "accuracy", "options": {"draws": 1}},
        {"measure_id": EPSILON, "name": "epsilon", "options": {}},
        {"measure_id": MEMBERSHIP, "name": "membership", "options": {"images": 1000}},
    ]
    return found


def top1(one: dict[str, Any]) -> float:
    """Accuracy that grows with epsilon, with a little of the seed."""
    if one["target"] is None:
        return 0.98
    return 0.9 + 0.02 * math.log(1 + one["target"]) + 0.001 * one["fields"]["seed"]


def rows_of(one: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of a point's three measures."""
    name, target = one["fields"]["mechanism"], one["target"]
    statistics = {
        ACCURACY: {"top1": top1(one)},
        EPSILON: {
            "epsilon_pld": target,
            "epsilon_rdp": target and 1.1 * target,
            "epsilon_rdp_classic": target and 1.2 * target,
            "epsilon_person": target,
            "epsilon_query": target if name == "private_activations" else None,
            "delta": 1e-5,
            "noise_multiplier": 0.0 if target is None else 2.0 / target,
            "steps": 100.0,
        },
        MEMBERSHIP: {"lira_auc": 0.51, "loss_tpr_fpr_0.001": 0.002, "tpr_bound_fpr_0.01": 0.03},
    }
    rows = []
    for measure in one["measures"]:
        common = {
            **one["fields"],
            "point_id": one["point_id"],
            "curve_id": one["curve_id"],
            "measure_id": measure["measure_id"],
            "measure": measure["name"],
            "options": json.dumps(measure["options"]),
            "computed_by": "t",
            "n": 2000,
        }
        if measure["name"] == "epsilon" and name == "none":
            rows.append({**common, "status": "not_applicable", "reason": "no epsilon", "n": None})
            continue
        for statistic, value in statistics[measure["measure_id"]].items():
            status = "not_applicable" if value is None else "complete"
            reason = "there is none" if value is None else None
            rows.append(
                {**common, "statistic": statistic, "value": value, "status": status, "reason": reason}
            )
    return rows


def fill(root: Path, entries: list[dict[str, Any]]) -> Store:
    store = Store(root)
    store.write_sweep("private", spec_text="", plan=plan_of("private", entries))
    store.write("measurements", "private", [row for one in entries for row in rows_of(one)])
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    entries = [entry(name, target, seed) for name in METHODS for target in TARGETS for seed in SEEDS]
    entries += [entry("dp_sgd", None, seed, clip_norm=None) for seed in SEEDS]
    return fill(tmp_path_factory.mktemp("dp"), entries)


def test_the_view_has_a_row_per_point_with_all_numbers(store: Store) -> None:
    rows = dp(store.root, "private").to_pylist()
    assert len(rows) == len(METHODS) * len(TARGETS) * len(SEEDS) + len(SEEDS)
    (row,) = [r for r in rows if (r["method"], r["level"], r["seed"]) == ("private_activations", 3.0, 1)]
    assert (row["epsilon"], row["epsilon_rdp"], row["epsilon_query"]) == (3.0, pytest.approx(3.3), 3.0)
    assert (row["lira_auc"], row["loss_tpr_at_01_percent"], row["tpr_bound_at_1_percent"]) == (
        0.51,
        0.002,
        0.03,
    )
    assert row["lira_tpr_at_1_percent"] is None
    assert row["place"] == "cut"
    plain = [r for r in rows if r["noise_multiplier"] == 0]
    assert [r["epsilon"] for r in plain] == [None] * 3
    assert [r["person_reason"] for r in plain] == ["there is none"] * 3, "a number that is missing says why"
    assert row["person_reason"] is None


def lines_of(axis: Axes) -> list[tuple[list[float], list[float]]]:
    return [(list(c.lines[0].get_xdata()), list(c.lines[0].get_ydata())) for c in axis.containers]


def test_lines_are_means_over_seeds_and_dashes_the_accuracy_without_noise(store: Store) -> None:
    figure = epsilons_figure(dp(store.root, "private").to_pylist(), title="private")
    assert figure is not None
    (axis,) = figure.axes
    expected = [0.9 + 0.02 * math.log(1 + target) + 0.001 for target in TARGETS]
    assert len(axis.containers) == len(METHODS)
    for x, y in lines_of(axis):
        assert x == list(TARGETS)
        assert y == pytest.approx(expected)
    dashed = [line for line in axis.lines if line.get_linestyle() == "--" and len(line.get_ydata()) == 2]
    assert [line.get_ydata()[0] for line in dashed] == [pytest.approx(0.98)]
    assert axis.get_xscale() == "log"


def test_data_sets_of_other_class_counts_have_panels_of_their_own(tmp_path: Path) -> None:
    entries = [entry("dp_sgd", target, 0) for target in TARGETS]
    other = [entry("dp_sgd", target, 0, oversample="smote") for target in TARGETS]
    for one in other:
        one["fields"]["class_counts"] = "5 2"
    store = fill(tmp_path, entries + other)
    figure = epsilons_figure(dp(store.root, "private").to_pylist(), title="private")
    assert figure is not None
    assert sorted(axis.get_title(loc="left") for axis in figure.axes) == [
        "class counts: 5 2",
        "class counts: all",
    ]
    assert draw_epsilons(store.root, "private", tmp_path) == [tmp_path / "epsilons.png"]


def test_a_sweep_without_epsilon_has_no_picture(tmp_path: Path) -> None:
    store = fill(tmp_path, [entry("none", None, 0)])
    assert epsilons_figure(dp(store.root, "private").to_pylist(), title="private") is None
    assert draw_epsilons(store.root, "private", tmp_path) == []


def test_a_report_tells_accuracy_beside_epsilon(store: Store, tmp_path: Path) -> None:
    page = write_report(store.root, "private", tmp_path).page.read_text()
    assert "## Differential privacy" in page
    assert "![accuracy against epsilon](epsilons.png)" in page
    (line,) = [
        line for line in page.splitlines() if line.startswith("| private_activations ") and " 8" in line
    ]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert "3" in cells
    assert any(cell.startswith("0.94") for cell in cells)
