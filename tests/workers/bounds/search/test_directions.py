"""Fixed directions, and the rules for lengths that searches share."""

import numpy as np
import torch
from bounds_support import Linear, normal, relu_net
from scipy.fft import dctn
from searches_support import Map, digits, probe_of

from hushsweep.workers.bounds.search.directions import dct_modes, lowest_modes, pixels
from hushsweep.workers.bounds.search.scale import fill_up, longest_within, random_inputs, room, scale_to_step


def test_modes_are_those_of_lowest_frequency_with_colours_side_by_side() -> None:
    probe = probe_of(Map(lambda x: x), normal(1, 3, 4, 5), count=60)
    modes = lowest_modes(probe, 60)
    coefficients = dctn(modes.numpy(), axes=(2, 3), norm="ortho").round(9)
    places = [np.argwhere(c) for c in coefficients]
    assert all(len(place) == 1 for place in places)
    channel, row, column = np.concatenate(places).T
    assert channel[:6].tolist() == [0, 1, 2, 0, 1, 2]
    assert (np.diff(row + column) >= 0).all()
    assert len({tuple(place[0]) for place in places}) == 60
    assert torch.allclose(modes.flatten(1) @ modes.flatten(1).T, torch.eye(60).double(), atol=1e-12)


def test_pixels_are_spread_over_the_image_and_all_of_them_come_once() -> None:
    probe = probe_of(Linear(normal(9, 36)), normal(2, 1, 6, 6), count=4)
    few = pixels(probe).input_shift.flatten(2)
    assert few.ne(0).sum(2).eq(1).all()
    assert few[0].nonzero()[:, 1].tolist() == [4, 13, 22, 31]
    every = pixels(probe_of(Linear(normal(9, 36)), normal(2, 1, 6, 6), count=99)).input_shift.flatten(2)
    assert torch.equal(every.ne(0), torch.eye(36).bool().expand(2, -1, -1))


def test_a_mode_of_a_linear_map_is_scaled_by_its_norm() -> None:
    weight = normal(9, 36)
    probe = probe_of(Linear(weight), normal(2, 1, 6, 6), count=36)
    shift = dct_modes(probe).input_shift[0].flatten(1)
    expected = probe.target / (lowest_modes(probe, 36).flatten(1) @ weight.T).norm(dim=1)
    assert torch.allclose(shift.norm(dim=1), expected, rtol=1e-9)


def test_a_pixel_that_moves_no_feature_keeps_a_safe_length() -> None:
    weight = normal(9, 36)
    weight[:, 7] = 0
    probe = probe_of(Linear(weight), normal(2, 1, 6, 6), count=36)
    found = pixels(probe).input_shift
    assert found[:, 7].flatten(1).norm(dim=1).tolist() == [1e-3, 1e-3]
    still = probe.distances(found) <= probe.still[:, None]
    assert still.nonzero().tolist() == [[0, 7], [1, 7]]


def test_the_step_is_reached_on_a_curved_map_and_never_beyond_the_box() -> None:
    weights = torch.tensor([1, 0.7, 1e-6, 1e-6])
    probe = probe_of(Map(lambda x: (weights * x).tanh()), normal(3, 1, 2, 2).sigmoid(), step=0.2)
    shift = scale_to_step(probe, torch.eye(4).double().reshape(1, 4, 1, 2, 2).expand(3, -1, -1, -1, -1))
    ratio = probe.distances(shift) / probe.target
    assert torch.allclose(ratio[:, :2], torch.ones(()).double(), rtol=1e-3)
    assert torch.allclose(shift.flatten(2).norm(dim=2)[:, 2:], torch.tensor(probe.diameter).double())


def test_room_and_length_are_as_large_as_they_can_be() -> None:
    probe = probe_of(relu_net(64, 30).exact, digits(3))
    shift = random_inputs(probe, "any", 4).abs() * torch.where(probe.x > 0.5, -1, 1).unsqueeze(1)
    shift = shift * room(probe, shift)[..., None, None, None]
    moved = probe.x.unsqueeze(1) + shift
    assert torch.equal(moved, moved.clamp(0, 1))
    beyond = probe.x.unsqueeze(1) + 1.001 * shift
    assert bool((beyond != beyond.clamp(0, 1)).flatten(2).any(2).all())
    limit = torch.tensor([1e-6, 0.1, 1e3]).double()
    fraction = longest_within(probe, shift, limit)
    assert fraction[2].tolist() == [1] * 4
    for factor, within in ((1, True), (1.001, False)):
        distance = probe.distances(factor * fraction[..., None, None, None] * shift)[:2]
        assert bool(((distance <= limit[:2, None]) == within).all())


def test_too_few_shifts_are_filled_up_with_halves() -> None:
    shift = normal(2, 5, 1, 1, 3)
    filled = fill_up(shift, torch.tensor([2, 5]))
    assert torch.equal(filled[1], shift[1])
    assert torch.equal(filled[0, :2], shift[0, :2])
    assert torch.equal(filled[0, 2:4], shift[0, :2] / 2)
    assert torch.equal(filled[0, 4], shift[0, 0] / 4)


def test_input_noise_is_normal_and_an_images_own() -> None:
    probe = probe_of(Map(lambda x: x[:, :3]), normal(4, 1, 20, 20))
    noise = random_inputs(probe, "any", 10)
    assert noise.shape == (4, 10, 1, 20, 20)
    assert abs(noise.std().item() - 1) < 0.03
    assert abs((noise[0] * noise[1]).mean().item()) < 0.1
    assert not torch.equal(noise, random_inputs(probe, "other", 10))
