"""The view privacy: what the client keeps and what a server learns at every point."""

from pathlib import Path
from typing import Any

import pytest

from hushsweep.dashboards import privacy, run_query
from hushsweep.datasets.results import Store, StoreError
from tests.dashboards.conftest import fill_folder, plan_of
from tests.dashboards.privacy_rows import (
    ACCURACY,
    ATTACKERS,
    FLOOR,
    INFORMATION,
    METHODS,
    fill_learned,
    learned_point,
    learned_points,
    numbers,
    rows_of,
)

SINGLE, MASK, AVERAGE = ATTACKERS


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return fill_learned(tmp_path_factory.mktemp("learned"))


def fill(root: Path, entries: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The view's rows of a sweep of these points and rows."""
    store = Store(root)
    store.write_sweep("s", spec_text="", plan=plan_of("s", entries))
    store.write("measurements", "t", rows)
    return list(privacy(root, "s").to_pylist())


def test_a_row_is_one_point_with_the_numbers_of_its_rows(store: Store) -> None:
    rows = {row["point_id"]: row for row in privacy(store.root, "learned").to_pylist()}
    entries = learned_points()
    assert rows.keys() == {entry["point_id"] for entry in entries}
    for entry in entries:
        row, found = rows[entry["point_id"]], numbers(entry)
        assert (row["method"], row["status"]) == (entry["method"], "complete")
        assert row["place"] == (None if entry["method"] == "none" else "input")
        assert row["variant"] is None
        assert row["primary_top1"] == found["primary"]
        for attacker in ("single", "mask", "average"):
            assert row[f"secondary_{attacker}"] == found[attacker]
        assert row["secondary_strongest"] == max(found["single"], found["mask"], found["average"])
        assert (row["floor"], row["mi_upper"]) == (FLOOR, found.get("mi_upper"))
        assert row["mi_lower"] == found.get("mi_lower")
        assert row["client_share"] == (0.05 if entry["fields"]["client_flops"] else None)
        assert row["penalty"] == entry["fields"]["penalty"]
    assert len({row["setting"] for row in rows.values()}) == 1


def test_the_strongest_attacker_is_chosen_on_validation_and_reported_on_test(tmp_path: Path) -> None:
    entry = learned_point("ani", 1.0, 0)
    rows = rows_of(entry)
    values = {SINGLE: (0.50, 0.61), MASK: (0.55, 0.64), AVERAGE: (0.60, 0.62)}  # test, validation
    for row in rows:
        if row["measure"] == "secondary" and row["statistic"] in ("top1", "validation_top1"):
            row["value"] = values[row["measure_id"]][row["statistic"] == "validation_top1"]
    (row,) = fill(tmp_path, [entry], rows)
    assert (row["strongest"], row["secondary_strongest"]) == ("mask", 0.55)
    assert (row["secondary_validation"], row["secondary_average"]) == (0.64, 0.60)


def test_attackers_that_average_tell_their_queries(store: Store) -> None:
    found = run_query(store.root, "SELECT DISTINCT strongest FROM privacy WHERE method = 'ani'").to_pylist()
    assert {"strongest": "average of 4"} in found


@pytest.mark.parametrize("status", ["failed", "stopped", "not_applicable"])
def test_a_point_without_its_accuracy_or_one_of_its_attackers_says_why(tmp_path: Path, status: str) -> None:
    entry = learned_point("ani", 1.0, 0)
    for number, measure_id in enumerate((ACCURACY, SINGLE, INFORMATION)):
        others = {measure["measure_id"] for measure in entry["measures"]} - {measure_id}
        rows = rows_of(entry, measures=others) + rows_of(entry, status=status, measures=[measure_id])
        (row,) = fill(tmp_path / str(number), [entry], rows)
        # no information is no harm, and an attacker that cannot be (as one with a mask) is not missed
        is_harmless = measure_id == INFORMATION or (status == "not_applicable" and measure_id == SINGLE)
        assert row["status"] == ("complete" if is_harmless else status)
        assert is_harmless or row["reason"] == f"{status} because"


def test_a_point_is_missing_until_all_its_attackers_are_there(tmp_path: Path) -> None:
    entry = learned_point("ani", 1.0, 0)
    (row,) = fill(tmp_path, [entry], rows_of(entry, measures=[ACCURACY, SINGLE, INFORMATION]))
    assert (row["status"], row["secondary_average"]) == ("missing", None)


def test_no_attacker_that_applies_is_not_applicable(tmp_path: Path) -> None:
    entry = learned_point("ani", 1.0, 0)
    rows = rows_of(entry, measures=[ACCURACY]) + rows_of(entry, status="not_applicable", measures=ATTACKERS)
    (row,) = fill(tmp_path, [entry], rows)
    assert (row["status"], row["secondary_strongest"]) == ("not_applicable", None)


def test_an_upper_bound_on_too_few_images_does_not_count(tmp_path: Path) -> None:
    entry = learned_point("ani", 1.0, 0)
    rows = rows_of(entry, {**numbers(entry), "mi_upper": 100.0})
    (full,) = [row for row in rows if row["statistic"] == "mi_upper_full"]
    full["reason"] = "too few images"
    held_out = {**full, "statistic": "mi_upper_held_out", "value": 115.0, "reason": None}
    (row,) = fill(tmp_path / "few", [entry], rows)
    assert row["mi_upper"] == pytest.approx(120.0)
    (row,) = fill(tmp_path / "held_out", [entry], [*rows, held_out])
    assert row["mi_upper"] == 115.0


def test_methods_are_told_apart_by_server_place_and_what_else_differs(tmp_path: Path) -> None:
    entries = [
        learned_point("cloak, frozen server", 1.0, 0),
        learned_point("cloak, retrained", 1.0, 0),
        learned_point("gaussian", 1.0, 0),
        learned_point("gaussian", 1.0, 0, place="cut"),
        learned_point("ani", 1.0, 0, network="wconv2"),
        learned_point("ani", 1.0, 0, network="wconv4", learning_rate=0.05),
    ]
    rows = fill(tmp_path, entries, [row for entry in entries for row in rows_of(entry)])
    assert {(row["method"], row["place"], row["variant"]) for row in rows} == {
        ("cloak, frozen server", "input", None),
        ("cloak, retrained", "input", None),
        ("gaussian", "input", None),
        ("gaussian", "cut", None),
        ("ani", "input", "network wconv2"),
        ("ani", "input", "learning rate 0.05, network wconv4"),
    }


def test_a_chain_names_all_that_acts(tmp_path: Path) -> None:
    entry = learned_point("ani", 1.0, 0)
    fields = entry["fields"]
    second = (
        '{"name": "gaussian", "at": "cut", "parameters": {"noise_scale": 0.5}, "target_accuracy_loss": null}'
    )
    fields["mechanism"] = "ani@input + gaussian"
    fields["mechanism_json"] = fields["mechanism_json"][:-1] + f", {second}]"
    (row,) = fill(tmp_path, [entry], rows_of(entry))
    assert (row["method"], row["place"]) == ("ani + gaussian", "input + cut")


def test_the_default_of_cloak_is_a_frozen_server(tmp_path: Path) -> None:
    entry = learned_point("cloak, frozen server", 1.0, 0)
    text = entry["fields"]["mechanism_json"]
    entry["fields"]["mechanism_json"] = text.replace(', "server": "frozen"', "")
    assert "server" not in entry["fields"]["mechanism_json"]
    (row,) = fill(tmp_path, [entry], rows_of(entry))
    assert row["method"] == "cloak, frozen server"
    assert row["method"] in METHODS


def test_a_sweep_without_attackers_has_no_rows(tmp_path: Path) -> None:
    store = fill_folder(tmp_path)
    assert len(privacy(store.root, "both")) == 0
    with pytest.raises(StoreError, match="no sweep 'other'; known: both, small"):
        privacy(store.root, "other")
