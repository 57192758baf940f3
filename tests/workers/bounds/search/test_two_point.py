"""The longest move that noise hides, against brute force in one and two dimensions; never further than allowed."""

import math

import pytest
import torch
from bounds_support import Linear, normal, relu_net
from hypothesis import given, settings
from hypothesis import strategies as st
from searches_support import Map, digits, probe_of
from torch import Tensor

from hushsweep.workers.bounds.search.nullspace import null_space_moves
from hushsweep.workers.bounds.search.probe import Probe, Shifts
from hushsweep.workers.bounds.search.two_point import two_point


def check(probe: Probe, shift: Tensor, limit: float) -> None:
    moved = probe.x.unsqueeze(1) + shift
    assert torch.equal(moved, moved.clamp(probe.low, probe.high))
    assert bool((probe.distances(shift) <= limit * (1 + 1e-12)).all())
    size = shift.flatten(2).norm(dim=2)
    assert bool((size > 0).all())
    assert bool((size[:, :1] >= size).all())


@pytest.mark.parametrize("x", [0.4, -0.9, 1.2])
@pytest.mark.parametrize("noise_std", [0.02, 0.3])
def test_it_finds_the_other_root_of_a_square(x: float, noise_std: float) -> None:
    probe = probe_of(Map(torch.square), torch.full((1, 1, 1, 1), x).double(), low=-1.5, high=1.5)
    shift = two_point(probe, noise_std).input_shift
    check(probe, shift, noise_std)
    expected = abs(x) + min(1.5, math.sqrt(x**2 + noise_std))
    assert shift[0, 0].norm().item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("noise_std", [0.05, 0.2, 0.6])
@pytest.mark.parametrize("distance", [0.5, 1.0])
def test_brute_force_in_two_dimensions_finds_little_more(noise_std: float, distance: float) -> None:
    def features(x: Tensor) -> Tensor:
        return torch.stack([x[:, 0] + 0.5 * (2 * x[:, 1]).sin(), 0.3 * x[:, 1].square() * x[:, 0]], dim=1)

    x = torch.tensor([[0.3, -0.5], [-1.0, 0.8], [0.0, 1.1]]).double().reshape(3, 1, 1, 2)
    probe = probe_of(Map(features), x, low=-1.5, high=1.5, options={"distance": distance, "starts": 32})
    shift = two_point(probe, noise_std).input_shift
    check(probe, shift, distance * noise_std)
    axis = torch.linspace(-1.5, 1.5, 1201, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    for image, clean, found in zip(x.flatten(1), probe.clean, shift[:, 0], strict=True):
        near = (features(points) - clean).norm(dim=1) <= distance * noise_std
        longest = (points[near] - image).norm(dim=1).max()
        assert found.norm() > 0.97 * longest


def test_a_map_of_one_pixel_lets_all_others_go_to_their_farthest_corner() -> None:
    probe = probe_of(Map(lambda x: 2 * x[:, :1]), digits(3)[:, :, :4, 2:6])
    shift = two_point(probe, 0.1).input_shift[:, 0].flatten(1)
    far = torch.maximum(probe.x, 1 - probe.x).flatten(1)[:, 1:]
    expected = (far.square().sum(1) + 0.05**2).sqrt()
    assert torch.allclose(shift.norm(dim=1), expected, rtol=1e-3)


def test_moves_go_far_beyond_the_null_space_of_the_linear_region() -> None:
    probe = probe_of(relu_net(64, 30).exact, digits(4))
    still = null_space_moves(probe)
    shift = two_point(probe, 0.1).input_shift
    check(probe, shift, 0.1)
    assert bool(
        (shift[:, 0].flatten(1).norm(dim=1) > 2 * still.input_shift[:, 0].flatten(1).norm(dim=1)).all()
    )


def test_a_start_that_is_near_enough_is_never_lost() -> None:
    probe = probe_of(relu_net(64, 30).exact, digits(3), options={"steps": 3})
    long = two_point(probe_of(relu_net(64, 30).exact, digits(3)), 0.05)
    warm, cold = two_point(probe, 0.05, long).input_shift, two_point(probe, 0.05).input_shift
    length = long.input_shift[:, 0].flatten(1).norm(dim=1)
    assert bool((warm[:, 0].flatten(1).norm(dim=1) >= length).all())
    assert bool((cold[:, 0].flatten(1).norm(dim=1) < length).all())
    check(probe, warm, 0.05)


@settings(deadline=None, max_examples=15)
@given(st.floats(1e-6, 10), st.floats(1e-3, 3), st.integers(0, 99))
def test_what_it_returns_is_always_near_enough(noise_std: float, distance: float, seed: int) -> None:
    weight = normal(80, 64, seed=seed)
    probe = probe_of(Linear(weight), digits(2), options={"distance": distance, "steps": 20})
    outside = Shifts(normal(2, 3, 1, 8, 8, seed=seed))
    check(probe, two_point(probe, noise_std, outside).input_shift, distance * noise_std)


@pytest.mark.parametrize("distance", [0.0, -1.0, float("nan")])
def test_the_distance_is_a_positive_number(distance: float) -> None:
    probe = probe_of(Linear(normal(80, 64)), digits(2), options={"distance": distance})
    with pytest.raises(ValueError, match="distance: expected a finite number > 0, got"):
        two_point(probe, 1.0)
