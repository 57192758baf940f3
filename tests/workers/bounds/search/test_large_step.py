"""Line searches for the length of a shift, against closed forms in one dimension."""

import math

import numpy as np
import pytest
import torch
from bounds_support import Linear, normal, relu_net
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from searches_support import Map, digits, probe_of
from torch import Tensor

from hushsweep.workers.bounds.search.large_step import large_step
from hushsweep.workers.bounds.search.probe import Probe, Shifts


def bound(probe: Probe, shift: Tensor, noise_std: float) -> Tensor:
    """Squared HCR bound of the shift's own direction."""
    distance = probe.distances(shift) / noise_std
    return shift.flatten(2).norm(dim=2).square() / torch.expm1(distance.square())


def one_dimensional(function: object, x: float, **settings: float) -> Probe:
    return probe_of(Map(function), torch.full((1, 1, 1, 1), x).double(), **settings)  # type: ignore[arg-type]


def start(size: float) -> Shifts:
    return Shifts(torch.full((1, 1, 1, 1, 1), size).double())


@pytest.mark.parametrize("x", [0.0, 0.5, -1.5])
@pytest.mark.parametrize("noise_std", [0.05, 0.3])
def test_tanh_is_climbed_to_its_best_length(x: float, noise_std: float) -> None:
    probe = one_dimensional(torch.tanh, x, low=-50, high=50)

    def loss(t: float) -> float:
        squared = ((math.tanh(x + t) - math.tanh(x)) / noise_std) ** 2
        return squared + math.log(-math.expm1(-squared)) - 2 * math.log(abs(t))

    found = large_step(probe, noise_std, start(1e-4)).input_shift
    grid = [t for sign in (-1, 1) for t in sign * np.geomspace(1e-4, 100, 4000)]
    best = min(grid, key=loss)
    expected = minimize_scalar(loss, bounds=sorted((0.99 * best, best)), method="bounded").fun
    assert math.log(bound(probe, found, noise_std).item()) == pytest.approx(-expected, abs=1e-5)
    cramer_rao = (noise_std * math.cosh(x) ** 2) ** 2
    assert bound(probe, found, noise_std).item() >= cramer_rao * (1 - 1e-5)


def test_saturation_rewards_a_step_far_beyond_cramer_rao() -> None:
    probe = one_dimensional(torch.tanh, 1.5, low=-10, high=10)
    found = large_step(probe, 0.2, start(1e-4)).input_shift
    assert bound(probe, found, 0.2).item() > 10 * (0.2 * math.cosh(1.5) ** 2) ** 2
    assert found.item() > 5


@pytest.mark.parametrize("x", [0.3, -0.7])
def test_the_two_roots_of_a_square_cannot_be_told_apart(x: float) -> None:
    probe = one_dimensional(torch.square, x, low=-3, high=3)
    found = large_step(probe, 0.1, start(1e-4)).input_shift
    assert found.item() == pytest.approx(-2 * x, rel=1e-3)
    assert bound(probe, found, 0.1).item() > 1e3 * (0.1 / (2 * x)) ** 2


def test_a_square_without_its_other_root_follows_the_closed_form() -> None:
    probe = one_dimensional(torch.square, 0.0, low=-3, high=3)
    noise_std = 0.5

    # t^2 / expm1(t^4 / s^2): largest as t -> 0, where it is s^2 / t^2
    found = large_step(probe, noise_std, start(0.1)).input_shift
    assert bound(probe, found, noise_std).item() >= (noise_std / 0.1) ** 2 * (1 - 1e-6)


def test_a_linear_map_gives_cramer_rao_along_the_direction() -> None:
    weight = normal(12, 9)
    probe = probe_of(Linear(weight), normal(2, 1, 3, 3), low=-9, high=9)
    found = large_step(probe, 0.7).input_shift
    unit = found[0].flatten(1) / found[0].flatten(1).norm(dim=1, keepdim=True)
    expected = (0.7 / (unit @ weight.T).norm(dim=1)).square()
    assert torch.allclose(bound(probe, found, 0.7)[0], expected, rtol=1e-5)
    assert bound(probe, found, 0.7)[0, 0].item() == pytest.approx(
        0.49 / torch.linalg.svdvals(weight)[-1].item() ** 2, rel=1e-5
    )


@settings(deadline=None, max_examples=15)
@given(st.floats(0.01, 5), st.floats(1e-4, 2), st.integers(0, 99))
def test_it_never_falls_short_of_its_start(noise_std: float, size: float, seed: int) -> None:
    probe = probe_of(relu_net(64, 30).exact, digits(2))
    first = Shifts(size * normal(2, 3, 1, 8, 8, seed=seed) / 8)
    found = large_step(probe, noise_std, first).input_shift
    before, after = (bound(probe, shift, noise_std) for shift in (first.input_shift, found))
    assert bool((after >= before * (1 - 1e-8)).all())
    cosine = torch.nn.functional.cosine_similarity(found.flatten(2), first.input_shift.flatten(2), dim=2)
    assert torch.allclose(cosine.abs(), torch.ones(()).double())
