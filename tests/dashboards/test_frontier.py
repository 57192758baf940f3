"""The view frontier and the drop of secondary accuracy, held to loops over the rows."""

import itertools
import statistics
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hushsweep.dashboards import frontier, privacy, run_query, secondary_drop
from hushsweep.datasets.results import Store
from tests.dashboards.conftest import plan_of
from tests.dashboards.privacy_rows import (
    ATTACKERS,
    CLEAN,
    METHODS,
    fill_learned,
    learned_point,
    learned_points,
    numbers,
    rows_of,
)

SINGLE = next(iter(ATTACKERS))
SIXTEENTHS = st.integers(0, 16).map(
    lambda n: n / 16
)  # few values, so that ties are met; sums of them are exact


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return fill_learned(tmp_path_factory.mktemp("learned"))


def found(root: Path, sweep: str = "learned") -> dict[tuple[str, float | None], dict[str, Any]]:
    return {(row["method"], row["level"]): row for row in frontier(root, sweep).to_pylist()}


def fill(
    root: Path, entries: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> dict[tuple[str, float | None], dict[str, Any]]:
    store = Store(root)
    store.write_sweep("s", spec_text="", plan=plan_of("s", entries))
    store.write("measurements", "t", rows)
    return found(root, "s")


def test_a_row_is_the_mean_over_seeds(store: Store) -> None:
    rows = found(store.root)
    assert len(rows) == len(frontier(store.root, "learned")) == 1 + 3 * 5 + 4
    for (method, level), row in rows.items():
        if method == "none":
            assert (row["n_seeds"], row["seeds"], row["primary_std"]) == (1, 1, None)
            continue
        own = [numbers(learned_point(method, level, seed)) for seed in (0, 1, 2)]
        primary = [one["primary"] for one in own]
        strongest = [max(one[name] for name in ("single", "mask", "average")) for one in own]
        assert (row["n_seeds"], row["seeds"]) == (3, 3)
        assert row["primary_top1"] == pytest.approx(statistics.fmean(primary))
        assert row["primary_std"] == pytest.approx(statistics.stdev(primary))
        assert row["secondary_strongest"] == pytest.approx(statistics.fmean(strongest))
        assert row["secondary_std"] == pytest.approx(statistics.stdev(strongest), abs=1e-12)
        assert row["mi_upper"] == pytest.approx(statistics.fmean(one["mi_upper"] for one in own))
        assert row["reference"] == "none"
        assert row["primary_loss"] == pytest.approx(CLEAN - row["primary_top1"])
        assert row["secondary_drop"] == pytest.approx(0.99 - row["secondary_strongest"])


def test_without_an_untouched_point_the_best_primary_is_the_reference(tmp_path: Path) -> None:
    entries = [entry for entry in learned_points(["ani"]) if entry["method"] != "none"]
    rows = fill(tmp_path, entries, [row for entry in entries for row in rows_of(entry)])
    best = max(rows.values(), key=lambda row: row["primary_top1"])
    assert {row["reference"] for row in rows.values()} == {f"best primary: ani, penalty {best['level']}"}
    assert best["primary_loss"] == 0
    assert best["secondary_drop"] == 0


def test_an_untouched_point_is_the_reference_even_where_its_attacker_failed(tmp_path: Path) -> None:
    clean, noisy = learned_point("none", None, 0), learned_point("ani", 1.0, 0)
    rows = rows_of(clean, measures=[clean["measures"][0]["measure_id"]])
    rows += rows_of(clean, status="failed", measures=ATTACKERS) + rows_of(noisy)
    ((_, row),) = fill(tmp_path, [clean, noisy], rows).items()
    assert (row["method"], row["reference"], row["reference_primary"]) == ("ani", "none", CLEAN)
    assert row["secondary_drop"] is None


@pytest.mark.parametrize("status", ["failed", "stopped", "not_applicable"])
def test_what_is_not_complete_never_enters_and_is_missed(tmp_path: Path, status: str) -> None:
    entries = learned_points(["ani"])
    out = {entries[1]["point_id"], *(entry["point_id"] for entry in entries[4:7])}  # one seed, a whole level
    rows = [
        row
        for entry in entries
        for row in rows_of(entry, status=status if entry["point_id"] in out else "complete")
    ]
    kept = fill(tmp_path, entries, rows)
    assert (kept["ani", 0.1]["n_seeds"], kept["ani", 0.1]["seeds"]) == (2, 3)
    assert ("ani", 0.3) not in kept
    assert kept["ani", 1.0]["n_seeds"] == 3


def test_a_seed_that_has_not_run_yet_is_missed(tmp_path: Path) -> None:
    entries = learned_points(["ani"])
    rows = fill(tmp_path, entries, [row for entry in entries[:2] for row in rows_of(entry)])
    assert (rows["ani", 0.1]["n_seeds"], rows["ani", 0.1]["seeds"]) == (1, 3)


def test_settings_do_not_mix(tmp_path: Path) -> None:
    entries = learned_points(["ani"]) + learned_points(["ani"], dataset="fashion_mnist")
    store = fill_learned(tmp_path, entries=entries)
    rows = frontier(store.root, "learned").to_pylist()
    assert len(rows) == 2 * 6
    assert len({(row["setting"], row["dataset"]) for row in rows}) == 2
    assert sum(row["is_pareto_overall"] for row in rows if row["dataset"] == "mnist") == sum(
        row["is_pareto_overall"] for row in rows if row["dataset"] == "fashion_mnist"
    )


def test_profiles_of_classes_do_not_mix(tmp_path: Path) -> None:
    entries, few = learned_points(["ani"]), learned_points(["ani"])
    for entry in few:
        entry |= {key: f"few {entry[key]}" for key in ("point_id", "curve_id")}
        entry["fields"]["class_counts"] = "[9, 1]"
    entries += few
    rows = frontier(fill_learned(tmp_path, entries=entries).root, "learned").to_pylist()
    assert len({row["setting"] for row in rows}) == 2
    assert len(rows) == 2 * 6


def test_levels_that_were_searched_for_are_one_row(tmp_path: Path) -> None:
    entries = [learned_point("gaussian", level, seed) for seed, level in enumerate((0.4, 0.5, 0.6))]
    for entry in entries:
        text = entry["fields"]["mechanism_json"]
        level = entry["fields"]["level"]
        text = text.replace(f'"noise_scale": {level}', "").replace('loss": null', 'loss": 0.01')
        entry["fields"] |= {"mechanism_json": text, "target_accuracy_loss": 0.01}
    rows = fill(tmp_path, entries, [row for entry in entries for row in rows_of(entry)])
    ((key, row),) = rows.items()
    assert key == ("gaussian", pytest.approx(0.5))
    assert (row["n_seeds"], row["target_accuracy_loss"]) == (3, 0.01)


POINTS = st.lists(
    st.tuples(
        st.sampled_from(["ani", "cloak, retrained", "gaussian"]), st.sampled_from([0.5, 1.0, 2.0, 4.0])
    ),
    min_size=1,
    max_size=12,
    unique=True,
).flatmap(
    lambda keys: st.tuples(
        st.just(keys),
        st.lists(
            st.tuples(*[st.tuples(SIXTEENTHS, SIXTEENTHS, SIXTEENTHS)] * 2),
            min_size=len(keys),
            max_size=len(keys),
        ),
    )
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(sweeps=st.lists(POINTS, min_size=4, max_size=4))
def test_the_pareto_flags_are_those_of_a_loop_over_all_pairs(sweeps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, rows = Store(folder), list[dict[str, Any]]()
        for number, (keys, values) in enumerate(sweeps):
            entries = []
            for (method, level), seeds in zip(keys, values, strict=True):
                for seed, (primary, secondary, information) in enumerate(seeds):
                    entry = learned_point(method, level, seed, attackers=[SINGLE], run=number)
                    entries.append(entry)
                    known = {"primary": primary, "single": secondary, "floor": 0.0}
                    rows += rows_of(entry, {**known, "mi_upper": 16 * information, "mi_lower": 0.0})
            store.write_sweep(f"s{number}", spec_text="", plan=plan_of(f"s{number}", entries))
        store.write("measurements", "t", rows)
        answer = run_query(store.root, "FROM frontier").to_pylist()
        for number, (keys, values) in enumerate(sweeps):
            shown = {(row["method"], row["level"]): row for row in answer if row["sweep"] == f"s{number}"}
            means = {
                key: tuple(map(statistics.fmean, zip(*seeds, strict=True)))
                for key, seeds in zip(keys, values, strict=True)
            }
            assert shown.keys() == means.keys()
            for key, mean in means.items():
                for privacy_number, flag in ((1, "is_pareto"), (2, "is_pareto_mi")):
                    beaten = [
                        other
                        for other, its in means.items()
                        if dominates((its[0], its[privacy_number]), (mean[0], mean[privacy_number]))
                    ]
                    assert shown[key][flag] == (not any(other[0] == key[0] for other in beaten))
                    assert shown[key][f"{flag}_overall"] == (not beaten)


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """At least as accurate and as private, and better in one."""
    return one[0] >= other[0] and one[1] <= other[1] and one != other


def test_the_drop_is_that_of_the_best_level_within_the_loss(store: Store) -> None:
    for most in (0.0, 0.01, 0.05, 1.0):
        drops = {row["method"]: row for row in secondary_drop(store.root, "learned", most=most).to_pylist()}
        assert drops.keys() == METHODS.keys()
        rows = found(store.root)
        clean = CLEAN + 0.001  # on validation images, as in the rows
        for method, drop in drops.items():
            own = [row for (name, _), row in rows.items() if name == method]
            allowed = [row for row in own if clean - row["primary_validation"] <= most + 1e-9]
            assert drop["chosen_on"] == "validation"
            if not allowed:
                assert (drop["level"], drop["secondary_drop"]) == (None, None)
                continue
            best = min(allowed, key=lambda row: (row["secondary_validation"], -row["primary_top1"]))
            assert drop["level"] == best["level"]
            assert drop["secondary_drop"] == pytest.approx(0.99 - best["secondary_strongest"])
            assert drop["single_drop"] == pytest.approx(0.985 - best["secondary_single"])
    none = secondary_drop(store.root, "learned", most=-1.0).to_pylist()
    assert [row["level"] for row in none] == [None] * len(METHODS)
    drops = [row["secondary_drop"] for row in secondary_drop(store.root, "learned", most=0.05).to_pylist()]
    assert drops == sorted(drops, reverse=True)


def test_the_level_is_chosen_on_validation_where_that_was_measured(tmp_path: Path) -> None:
    entries = [learned_point("none", None, 0), *(learned_point("ani", level, 0) for level in (1.0, 2.0))]
    test = {None: (0.99, 0.98), 1.0: (0.985, 0.6), 2.0: (0.975, 0.4)}
    validation = {None: (0.98, 0.98), 1.0: (0.965, 0.6), 2.0: (0.975, 0.4)}
    for name, chosen_on, level in (
        ("with", "validation", 2.0),
        ("without", "test primary, validation secondary", 1.0),
    ):
        rows = []
        for entry in entries:
            own = entry["fields"]["level"]
            for row in rows_of(entry):
                if row["measure"] in ("accuracy", "secondary"):
                    values = {"top1": test[own], "validation_top1": validation[own]}.get(row["statistic"])
                    row["value"] = row["value"] if values is None else values[row["measure"] == "secondary"]
                if name == "with" or (row["measure"], row["statistic"]) != ("accuracy", "validation_top1"):
                    rows.append(row)
        fill(tmp_path / name, entries, rows)
        (drop,) = secondary_drop(tmp_path / name, "s").to_pylist()
        assert (drop["chosen_on"], drop["level"]) == (chosen_on, level)
        assert drop["secondary_drop"] == pytest.approx(0.98 - test[level][1])


def test_numbers_of_one_point_are_in_one_row(store: Store) -> None:
    rows = privacy(store.root, "learned").to_pylist()
    keys = [(row["sweep"], row["point_id"]) for row in rows]
    assert len(keys) == len(set(keys)) == len(learned_points())
    assert all(a["setting"] == b["setting"] for a, b in itertools.pairwise(rows))
