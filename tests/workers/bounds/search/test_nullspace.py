"""Moves that leave the features as they are: still to rounding, inside the box, and as long as they can be."""

import pytest
import torch
from bounds_support import Linear, normal, relu_net
from searches_support import Map, digits, jacobians, probe_of

from hushsweep.workers.bounds.search.nullspace import null_space_moves
from hushsweep.workers.bounds.search.probe import Probe


def leaves_box(probe: Probe, shift: torch.Tensor) -> torch.Tensor:
    moved = probe.x.unsqueeze(1) + shift
    return (moved != moved.clamp(probe.low, probe.high)).flatten(2).any(2)


@pytest.mark.parametrize("features", [10, 30])
def test_moves_are_still_inside_and_maximal(features: int) -> None:
    probe = probe_of(relu_net(64, features).exact, digits(4), count=6)
    shift = null_space_moves(probe).input_shift
    size = shift.flatten(2).norm(dim=2)
    assert bool((size > 0.01).all())
    assert bool((size.diff(dim=1) <= 0).all())
    assert bool((probe.distances(shift) <= probe.still[:, None]).all())
    assert not leaves_box(probe, shift).any()
    longer = 1.001 * shift
    moves = probe.distances(longer) > probe.still[:, None]
    assert bool((moves | leaves_box(probe, longer)).all())


def test_a_linear_map_is_followed_to_the_box_from_black_pixels() -> None:
    weight = normal(10, 64)
    probe = probe_of(Linear(weight), digits(4))
    shift = null_space_moves(probe).input_shift
    assert bool((probe.x == 0).any())
    assert (shift.flatten(2) @ weight.T).abs().max() < 1e-12
    assert not leaves_box(probe, shift).any()
    assert leaves_box(probe, 1.001 * shift).all()
    assert bool((shift.flatten(2).norm(dim=2) > 0.5).all())


def test_a_ray_within_one_linear_region_ends_at_its_first_kink() -> None:
    net = relu_net(64, 30).exact
    probe = probe_of(net, digits(4))
    shift = null_space_moves(probe).input_shift
    here = jacobians(net, probe.x)
    inside, beyond = (jacobians(net, probe.x + factor * shift[:, 0]) for factor in (0.998, 1.002))
    assert torch.allclose(inside, here, atol=1e-12)
    assert bool(((beyond - here).abs().amax((1, 2)) > 0).all() | leaves_box(probe, 1.002 * shift)[:, 0].any())


def test_without_a_null_space_it_steps_towards_grey() -> None:
    probe = probe_of(Map(lambda x: x @ normal(9, 20)), digits(3)[:, :, :3, :3])
    shift = null_space_moves(probe).input_shift
    assert not leaves_box(probe, shift).any()
    grey = (0.5 - probe.x).unsqueeze(1)
    cosine = torch.nn.functional.cosine_similarity(shift.flatten(2), grey.flatten(2), dim=2)
    assert torch.allclose(cosine, torch.ones(()).double())
    assert torch.allclose(probe.distances(shift)[:, 0], torch.tensor(probe.target).double(), rtol=1e-6)


def test_a_curved_map_moves_no_further_than_it_is_still() -> None:
    probe = probe_of(Map(lambda x: (x @ normal(9, 2)).sin() + x[:, :1].pow(2) / 4), digits(3)[:, :, 2:5, 2:5])
    shift = null_space_moves(probe).input_shift
    still = probe.distances(shift) <= probe.still[:, None]
    step = (probe.distances(shift[:, :1]) / probe.target - 1).abs() < 1e-3
    assert bool((still.all(1) | step[:, 0]).all())
