"""The most distant valid image that the noise leaves hard to tell from the true one."""

import torch
from torch import Tensor

from hushsweep.workers.bounds.chi_square import require_positive
from hushsweep.workers.bounds.search.probe import Probe, Shifts
from hushsweep.workers.bounds.search.scale import (
    INSIDE,
    fill_up,
    length,
    longest_within,
    random_inputs,
    replace_zeros,
    room,
    spread,
)

_STARTS = 4
_STEPS = 200
_RATE = 0.1
"""First step of an entry, in units of the width of the box."""
_OUTWARD = 0.5
"""Weight of a step outward against one towards the features."""
_DECAY = (0.9, 0.99)


def two_point(probe: Probe, noise_std: float, start: Shifts | None = None) -> Shifts:
    """Search for the longest shifts e with x + e a valid image and ``|z| <= distance * noise_std``, longest first.

    From the corner of the box that is farthest off, the one nearest, random images and ``start``, Adam (Kingma & Ba
    2015) descends ``|z|`` while the features are too far off and climbs ``|e|`` while they are near enough. Every step
    is projected on the box, and the longest shift within the distance is kept: what is returned has been tried in the
    exact network. There may be longer ones, which takes nothing from a two-point bound.

    Options: ``distance`` (1, in noise standard deviations), ``starts`` (4, at most the count) and ``steps`` (200).

    Args:
        probe: the images.
        noise_std: of the noise at hand, feature units, > 0.
        start: shifts to begin from as well, the longest ones, e.g. those found for less noise.

    Raises:
        ValueError: ``noise_std`` or the distance is not a positive number.
    """
    require_positive("noise_std", noise_std)
    distance = probe.options.get("distance", 1.0)
    require_positive("distance", distance)
    limit = probe.still.clamp(min=distance * noise_std)
    starts = probe.options.get("starts", _STARTS)
    begin = far = _far_points(probe, starts)
    if start is not None:
        begin = torch.cat([far, replace_zeros(probe, _longest(start.input_shift.double(), starts))], dim=1)
    met = _descend(probe, begin, limit, probe.options.get("steps", _STEPS))
    # further along what was met, if there is room; and along the farthest corner, of which some fraction is near enough
    further = torch.cat([met * spread(room(probe, met), met), far[:, :1]], dim=1)
    further = further * spread(longest_within(probe, further, limit), further)
    met = torch.cat([met, torch.zeros_like(far[:, :1])], dim=1)
    met = _longest(torch.where(length(further) > length(met), further, met), min(probe.count, starts))
    return Shifts(fill_up(met, length(met).flatten(1).gt(0).sum(1).clamp(min=1)))


def _far_points(probe: Probe, count: int) -> Tensor:
    """Return shifts ``(n, count, *input)`` to the farthest corner of the box, the nearest, and random images.

    Of these every other is black and white, a corner, the rest are uniform grey.
    """
    x = probe.x.unsqueeze(1)
    grey = torch.special.ndtr(random_inputs(probe, "two-point", max(1, count - 2)))
    grey[:, ::2] = grey[:, ::2].round()
    far = x <= (probe.low + probe.high) / 2
    share = torch.cat([far.double(), (~far).double(), grey], dim=1)[:, :count]
    return ((1 - share) * (probe.low - x) + share * (probe.high - x)) * INSIDE


def _longest(shift: Tensor, count: int) -> Tensor:
    order = length(shift).flatten(1).argsort(dim=1, descending=True, stable=True)[:, :count]
    return shift[torch.arange(len(shift), device=shift.device)[:, None], order]


def _descend(probe: Probe, shift: Tensor, limit: Tensor, steps: int) -> Tensor:
    """Return the longest shifts within ``limit`` met from each begin ``(n, s, *input)``; zero where none was."""
    x = probe.x.unsqueeze(1)
    low, high = (probe.low - x) * INSIDE, (probe.high - x) * INSIDE
    best, best_length = torch.zeros_like(shift), torch.zeros_like(shift[..., :1, :1, :1])
    mean, square = torch.zeros_like(shift), torch.zeros_like(shift)
    for step in range(1, steps + 1):
        shift = shift.clamp(low, high)
        distance, gradient = _distance_and_gradient(probe, shift)
        size, near = length(shift), spread(distance <= limit[:, None], shift)
        longer = near & (size > best_length)
        best, best_length = torch.where(longer, shift, best), torch.where(longer, size, best_length)
        outward = shift / size.clamp(min=1e-12)
        slope = torch.where(near, -_OUTWARD * outward, gradient / length(gradient).clamp(min=1e-12))
        mean, square = mean.lerp(slope, 1 - _DECAY[0]), square.lerp(slope.square(), 1 - _DECAY[1])
        rate = _RATE * (1 - step / (steps + 1)) * (probe.high - probe.low)
        scale = (square / (1 - _DECAY[1] ** step)).sqrt() + 1e-8
        shift = shift - rate * mean / (1 - _DECAY[0] ** step) / scale
    return best


def _distance_and_gradient(probe: Probe, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``|z|``, ``(n, s)``, and its gradient, ``(n, s, *input)``."""
    s, flat = shift.shape[1], shift.flatten(0, 1)
    distances, gradients = list[Tensor](), list[Tensor]()
    for rows in torch.split(torch.arange(len(flat), device=shift.device), probe.max_items):
        with torch.enable_grad():
            point = (probe.x[rows // s] + flat[rows]).requires_grad_()
            distance = (probe.exact.features(point).flatten(1) - probe.clean[rows // s]).norm(dim=1)
            gradients.append(torch.autograd.grad(distance.sum(), point)[0])
        distances.append(distance.detach())
    return torch.cat(distances).reshape(shift.shape[:2]), torch.cat(gradients).reshape(shift.shape)
