"""What a plan says of the cost of bounds: which way they go, and what levels and seeds share."""

from pathlib import Path

import pytest

from hushsweep.sweeps import SweepSpec
from hushsweep.sweeps.costs import Estimate
from hushsweep.sweeps.planner import PlannedTrial, make_plan
from hushsweep.sweeps.resolve import resolve
from hushsweep.sweeps.source import parse_source

SWEEP = """
name: costs
seed: %s
dataset: {name: digits, limit: 50}
model: {name: digits_mlp, weights: random}
mechanism: {name: gaussian, noise_scale: %s}
measures: {name: bounds, images: 4, restarts: 3, rounds: 2, %s}
"""
TOO_LARGE = "memory_gb: 1e-6, "


def trial_of(options: str, *, seeds: str = "0", levels: str = "1") -> PlannedTrial:
    source = parse_source(SWEEP % (seeds, levels, options), folder=Path("/"))
    plan = make_plan("costs", resolve(SweepSpec.from_source(source), source, device="cpu"), ())
    (trial,) = plan.trials
    assert plan.estimate == trial.estimate
    return trial


def test_an_exact_jacobian_costs_a_row_per_active_feature_or_pixel() -> None:
    trial = trial_of("bounds: cramer_rao")
    size = trial.setting.jacobian
    assert size is not None
    assert (size.inputs, size.rows) == (64, min(size.active_features, size.active_inputs))
    assert trial.estimate == Estimate(image_passes=50, head_passes=50, jacobian_rows=4 * size.rows)
    (route,) = trial.routes
    assert route.startswith(f"bounds: exact Jacobian, about {size.rows:,} x 64 per image, ")


def test_nobody_looks_for_a_jacobian_that_no_measure_wants() -> None:
    source = parse_source(
        SWEEP.replace("{name: bounds, images: 4, restarts: 3, rounds: 2, %s}", "{name: hcr}") % (0, 1)
    )
    points = resolve(SweepSpec.from_source(source), source, device="cpu")
    assert make_plan("name", points, ()).estimate.jacobian_rows == 0
    assert "jacobian" not in vars(points[0].setting)


@pytest.mark.parametrize(
    ("options", "wants"),
    [
        ("bounds: dfil", True),
        ("bounds: mmse", True),
        ("bounds: [van_trees, rero, two_point]", False),  # the default shifts serve barankin and hcr alone
        ("bounds: two_point, shifts: nullspace", True),
        ("bounds: hcr, shifts: jacobian", True),
        ("bounds: hcr, shifts: large_step", True),
        ("bounds: [hcr, barankin], shifts: [dct, pixel, lsqr, inverse_iteration, pseudo_inverse]", False),
    ],
)
def test_a_jacobian_is_planned_where_something_rests_on_it(options: str, wants: bool) -> None:
    exact, large = trial_of(options), trial_of(TOO_LARGE + options)
    assert (exact.estimate.jacobian_rows > 0) == (len(exact.routes) == 1) == (len(large.routes) == 1) == wants
    assert large.estimate.jacobian_rows == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("bounds: cramer_rao", "; cramer_rao is estimated from 3 solves per image"),
        (
            "bounds: [cramer_rao, barankin, hcr, dfil], shifts: [jacobian, dct]",
            "; cramer_rao is estimated from 3 solves per image, with hcr and barankin of the same shifts; "
            "not applicable: dfil, jacobian",
        ),
        ("bounds: [mmse, dfil]", "; not applicable: dfil, mmse"),
        ("bounds: [hcr, two_point], shifts: [dct, large_step]", "; not applicable: large_step"),
    ],
)
def test_what_is_lost_without_a_jacobian_is_said(options: str, said: str) -> None:
    (route,) = trial_of(TOO_LARGE + options).routes
    assert route.startswith("bounds: the Jacobian is too large (about ")
    assert "memory_gb: 1e-06)" in route
    assert route.endswith(f"memory_gb: 1e-06){said}")


@pytest.mark.parametrize(
    ("options", "per_image"),
    [
        ("bounds: hcr, shifts: lsqr", 3 * 2),
        ("bounds: hcr, shifts: inverse_iteration", 2 * 4 * 2),
        ("bounds: hcr, shifts: [pseudo_inverse, dct]", 3),
        ("bounds: [cramer_rao, hcr], shifts: [pseudo_inverse]", 3),
        (TOO_LARGE + "bounds: [cramer_rao, hcr], shifts: [pseudo_inverse]", 3),
        (TOO_LARGE + "bounds: [dfil]", 0),
        ("bounds: dfil, shifts: lsqr", 0),
    ],
)
def test_solves_are_those_of_searches_that_a_bound_rests_on(options: str, per_image: int) -> None:
    assert trial_of(options).estimate.solves == 4 * per_image


def test_levels_and_seeds_share_what_does_not_depend_on_them() -> None:
    options = "bounds: [cramer_rao, hcr, two_point], shifts: [jacobian, lsqr]"
    one, levels, seeds = (
        trial_of(options, **more).estimate for more in ({}, {"levels": "[1, 2, 3]"}, {"seeds": "[0, 1]"})
    )
    assert one.jacobian_rows == levels.jacobian_rows == seeds.jacobian_rows > 0
    assert one.solves == levels.solves == seeds.solves / 2
    assert one.search_passes == levels.search_passes / 3 == seeds.search_passes / 2
    assert one.search_passes == 4 * 1600


def test_equal_routes_are_said_once() -> None:
    assert len(trial_of("bounds: [[cramer_rao, hcr], [dfil]]").routes) == 1


def costs_of(measures: str, *, seeds: str = "0", levels: str = "1") -> Estimate:
    text = SWEEP.replace("{name: bounds, images: 4, restarts: 3, rounds: 2, %s}", "%s")
    source = parse_source(text % (seeds, levels, measures), folder=Path("/"))
    points = resolve(SweepSpec.from_source(source), source, device="cpu")
    return make_plan("costs", points, ()).estimate


def test_measures_share_the_decoders_and_pairs_of_attacks() -> None:
    decoder = "attack: decoder, epochs: 3"
    levels = "[1, 2, 3]"
    alone = costs_of(f"{{name: reconstruction, {decoder}}}", levels=levels)
    assert (alone.trainings, alone.search_passes) == (3, 0)
    for_all = costs_of(
        f"{{name: reconstruction, {decoder}, levels: [0.1, 9]}}", levels=levels, seeds="[0, 1]"
    )
    assert for_all.trainings == 2
    beside = f"[{{name: reconstruction, {decoder}}}, {{name: sandwich, {decoder}, images: 4}}]"
    both = costs_of(beside, levels=levels)
    assert (both.trainings, both.search_passes) == (3, 3 * 4 * 1600)
    more = (
        f"[{{name: sandwich, {decoder}, images: 4}}, {{name: sandwich, attack: [blind, ridge], images: 4}}]"
    )
    assert costs_of(more, levels=levels) == both


def test_map_goes_there_and_back_for_every_image_and_step() -> None:
    attack = "attack: map, steps: 7, total_variation: 1"
    found = costs_of(f"{{name: reconstruction, {attack}, images: 30, draws: 2}}", levels="[1, 2]")
    assert found.search_passes == 2 * 30 * 2 * 7 * 2
    found = costs_of(f"{{name: sandwich, {attack}, images: 4, draws: 2}}")
    assert found.search_passes == 4 * 1600 + 4 * 2 * 3 * 7 * 2
    chosen = costs_of("{name: reconstruction, attack: map, prior: gaussian, steps: 7, images: 30}")
    assert chosen.search_passes == (30 + 3 * 16) * 7 * 2
