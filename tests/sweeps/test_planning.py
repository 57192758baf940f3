"""Ids depend on what can change a number and on nothing else; the planner subtracts and groups."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushsweep.sweeps import SpecError, SweepSpec
from hushsweep.sweeps.identity import measure_id, point_id
from hushsweep.sweeps.planner import Plan, make_plan
from hushsweep.sweeps.resolve import Point, resolve
from hushsweep.sweeps.source import parse_source
from hushsweep.workers.trial import StageConfig, content_id

SWEEP = """
name: planned
seed: [0, 1]
dataset: {name: digits, limit: 50}
model: {name: digits_mlp, weights: random, seed: [0, 1]}
mechanism:
  - {name: none}
  - {name: gaussian, noise_scale: [0.5, 1, 2]}
  - {name: laplace, noise_std: 0.3}
measures:
  - {name: accuracy, draws: [1, 2]}
  - {name: hcr, images: 2, restarts: 1, rounds: 1}
"""


def points_of(text: str = SWEEP) -> list[Point]:
    source = parse_source(text, folder=Path("/"))
    return resolve(SweepSpec.from_source(source), source, device="cpu")


def plan_of(points: list[Point], completed: set[tuple[str, str]] = frozenset(), **options: object) -> Plan:
    return make_plan("planned", points, completed, **options)


def pairs(plan: Plan) -> set[tuple[str, str]]:
    return {(p.point_id, m.measure_id) for t in plan.trials for p in t.points for m in p.measures}


def test_lists_multiply_and_what_draws_nothing_has_one_seed() -> None:
    points = points_of()
    assert len(points) == 2 * (1 + 2 * (3 + 1))  # model seeds x (none + noise seeds x levels)
    assert all(len(point.measures) == 3 for point in points)
    assert len({point.point_id for point in points}) == len(points)


def test_curves_differ_in_the_level_alone() -> None:
    curves: dict[str, list[Point]] = {}
    for point in points_of():
        curves.setdefault(point.curve_id, []).append(point)
    assert sorted(len(curve) for curve in curves.values()) == [1] * 6 + [3] * 4
    for curve in curves.values():
        assert len({(p.seed, p.fields["mechanism"], p.fields["model_seed"]) for p in curve}) == 1
        assert len({p.fields["level"] for p in curve}) == len(curve)


def test_planning_twice_is_equal_and_nothing_is_planned_twice() -> None:
    first, again = plan_of(points_of()), plan_of(points_of())
    assert first.document() == again.document()
    assert [t.trial_id for t in first.shard_trials()] == [t.trial_id for t in again.shard_trials()]
    assert plan_of(points_of(), pairs(first)).trials == ()


def test_trials_share_data_model_weights_and_cut() -> None:
    plan = plan_of(points_of())
    assert len(plan.trials) == 2  # two weights
    for trial in plan.trials:
        assert len({p.fields["model_seed"] for p in trial.points}) == 1


@given(st.sets(st.integers(0, 53)))
def test_exactly_what_is_missing_is_planned(done: set[int]) -> None:
    points = CACHED
    everything = sorted({(p.point_id, m.measure_id) for p in points for m in p.measures})
    completed = {everything[index] for index in done if index < len(everything)}
    plan = plan_of(points, completed)
    assert pairs(plan) == set(everything) - completed
    assert (plan.wanted, plan.existing) == (len(everything), len(completed))


CACHED = points_of()


def test_adding_a_level_plans_that_level_alone() -> None:
    before = plan_of(points_of())
    added = points_of(SWEEP.replace("[0.5, 1, 2]", "[0.5, 1, 1.5, 2]"))
    plan = plan_of(added, pairs(before))
    assert {p.fields["level"] for t in plan.trials for p in t.points} == {1.5}
    assert plan.missing == 2 * 2 * 3


def test_recompute_plans_one_measure_under_a_new_trial_id() -> None:
    before = plan_of(points_of())
    plan = plan_of(points_of(), pairs(before), recompute=["hcr"], salt="now")
    assert {m.name for t in plan.trials for p in t.points for m in p.measures} == {"hcr"}
    other = plan_of(points_of(), pairs(before), recompute=["hcr"], salt="later")
    assert {t.trial_id for t in plan.shard_trials()}.isdisjoint(t.trial_id for t in other.shard_trials())


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("name: planned", "name: other\ndescription: words", True),
        (
            "measures:",
            "execution: {batch_size: 7, shards: 3, max_failures: 9, gpus_per_trial: 0}\nmeasures:",
            True,
        ),
        ("{name: digits, limit: 50}", "{limit: 50, name: [digits], split: test, root: /nowhere}", True),
        ("noise_scale: [0.5, 1, 2]", "noise_scale: [2.0, 5e-1, 1]", True),
        ("limit: 50", "limit: 51", False),
        ("weights: random", "weights: train", False),
        ("seed: [0, 1]}", "seed: [0, 2]}", False),
        ("measures:", "precision: bfloat16\nmeasures:", False),
        ("name: laplace", "name: gaussian", False),
        ("noise_std: 0.3", "noise_std: 0.3, at: input", False),
        ("noise_std: 0.3", "target_accuracy_loss: 0.3", False),
    ],
)
def test_ids_change_with_what_can_change_a_number(old: str, new: str, same: bool) -> None:
    assert old in SWEEP
    changed = {p.point_id for p in points_of(SWEEP.replace(old, new, 1))}
    assert (changed == {p.point_id for p in CACHED}) == same


def test_options_and_versions_enter_a_measure_id() -> None:
    ids = {m.measure_id for m in CACHED[0].measures}
    assert len(ids) == 3
    assert measure_id("accuracy", {"draws": 1}) in ids


def test_lists_of_names_multiply_as_one_value_and_defaults_enter_the_id() -> None:
    def ids(options: str) -> list[str]:
        points = points_of(SWEEP.replace("{name: hcr, images: 2, restarts: 1, rounds: 1}", options))
        return [m.measure_id for m in points[0].measures if m.name == "bounds"]

    assert len(ids("{name: bounds, bounds: [cramer_rao, dfil]}")) == 1
    assert len(ids("{name: bounds, bounds: [[cramer_rao, dfil], [dfil]], shifts: [[jacobian], [dct]]}")) == 4
    assert ids("{name: bounds}") == ids("{name: bounds, shifts: jacobian}")
    assert ids("{name: bounds}") != ids("{name: bounds, shifts: dct}")


@given(
    st.dictionaries(st.text(), st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False))
)
def test_key_order_never_changes_an_id(values: dict[str, object]) -> None:
    keys = list(values)
    random.Random(0).shuffle(keys)
    assert content_id({key: values[key] for key in keys}) == content_id(values)
    assert content_id(json.loads(json.dumps(values))) == content_id(values)


def test_points_survive_a_golden_id() -> None:
    """Fails when ids move: then IDENTITY_VERSION has to move too, and every stored row is computed anew."""
    stage = StageConfig(name="gaussian", parameters={"noise_scale": 1.0})
    assert point_id({"version": 1}, (stage,), 0) == "db432625be645d581dff"
    assert point_id({"version": 1}, (replace(stage, at="input"),), 0) != "db432625be645d581dff"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{name: none}", "{name: gaussian}", "mechanism[0]: expected exactly one of noise_scale, noise_std"),
        ("noise_std: 0.3", "noise_std: 0.3, noise_scale: 1", "got noise_scale, noise_std"),
        (
            "noise_std: 0.3",
            "noise_std: 0.3, calibration: train",
            "has no effect without target_accuracy_loss",
        ),
        (
            "{name: none}",
            "{chain: [{name: gaussian, noise_std: 1}, {name: none, at: input}]}",
            "change its order",
        ),
        ("name: digits,", "name: digit,", "unknown data set 'digit'; did you mean 'digits'?"),
        ("name: digits,", "name: mnist, root: /nowhere,", "/nowhere"),
        ("limit: 50", "split: tset", "tset"),
        ("name: digits_mlp", "name: torchvision/resnet81", "unknown"),
        ("weights: random", "weights: pretrained", "no effect with weights 'pretrained'"),
        (
            "weights: random",
            "weights: random, epochs: 3",
            "model.epochs: has no effect with weights 'random'",
        ),
        ("seed: [0, 1]}", "num_classes: 5}", "labels 0..9"),
        ("seed: [0, 1]}", "weights: nowhere/x.safetensors}", "found duplicate key"),
        ("weights: random, seed: [0, 1]", "weights: nowhere/x.safetensors", "nowhere/x.safetensors"),
        ("measures:", "cut: relu7\nmeasures:", "cut"),
    ],
)
def test_what_does_not_exist_is_named(old: str, new: str, said: str) -> None:
    assert old in SWEEP
    with pytest.raises(SpecError) as caught:
        points_of(SWEEP.replace(old, new, 1))
    assert any(said in line for line in caught.value.lines), caught.value.lines


@pytest.mark.parametrize(
    ("calibration", "said"), [("test", "'test' is the split that is reported"), ("tset", "tset")]
)
def test_a_level_is_never_searched_for_on_what_is_reported(calibration: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        points_of(SWEEP.replace("noise_std: 0.3", f"target_accuracy_loss: 0.1, calibration: {calibration}"))
    assert any(said in line for line in caught.value.lines), caught.value.lines


def test_calibration_data_and_target_are_part_of_a_point() -> None:
    def target(options: str) -> set[str]:
        points = points_of(SWEEP.replace("noise_std: 0.3", f"target_accuracy_loss: {options}"))
        return {p.point_id for p in points if p.fields["target_accuracy_loss"]}

    ids = [target("0.1"), target("0.2"), target("0.1, calibration: train")]
    assert all(len(found) == 4 for found in ids)
    assert len(set.union(*ids)) == 12


SHARED = """
name: planned
dataset: {name: digits}
model: {name: digits_mlp, weights: random, seed: [0, 1]}
mechanism: [{name: gaussian, noise_scale: 1}, {name: ani, penalty: 1, epochs: 1}]
measures: [{name: accuracy}, {name: hcr, images: 40, restarts: 1, rounds: 1}]
"""


@pytest.mark.parametrize(
    ("places", "parts"),
    [(1, 1), (4, 1), (5, 2), (16, 4), (64, 10), (10_000, 10)],
    ids=str,
)
def test_auto_shards_keep_all_places_busy_as_far_as_that_pays(places: int, parts: int) -> None:
    """Four trials; those that learn are not cut, a part has four images of a costly measure at least."""
    plan = plan_of(points_of(SHARED), shards="auto", places=places)
    assert sorted(trial.shards for trial in plan.trials) == [1, 1, parts, parts]
    assert plan.parts == len(plan.shard_trials()) == 2 + 2 * parts


def test_auto_shards_have_as_many_images_as_an_attack_works_on_at_once() -> None:
    attack = "{name: reconstruction, attack: map, total_variation: 1, images: 256}"
    points = points_of(SHARED.replace("{name: hcr, images: 40, restarts: 1, rounds: 1}", attack))
    assert max(trial.shards for trial in plan_of(points, shards="auto", places=1000).trials) == 4


def test_auto_shards_without_a_costly_measure_are_blocks_of_activations() -> None:
    text = SHARED.replace(", {name: hcr, images: 40, restarts: 1, rounds: 1}", "")
    points = points_of(text)
    imagenet = replace(points[0].setting.info, size=50_000)
    points = [replace(point, setting=replace(point.setting, info=imagenet)) for point in points]
    plan = plan_of(points, shards="auto", places=1000)
    assert max(trial.shards for trial in plan.trials) == 50_000 // 1024
