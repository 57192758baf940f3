"""Along given directions, the length at which the bound is largest: a curved network rewards a long step."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hushsweep.workers.bounds.chi_square import require_positive
from hushsweep.workers.bounds.search.jacobian import smallest_directions
from hushsweep.workers.bounds.search.probe import Probe, Shifts
from hushsweep.workers.bounds.search.scale import length, replace_zeros, spread

_GRID = 16
_SHORTEST = 1e-3
"""Shortest length tried, in units of that at which a linear network would be moved by one noise standard deviation."""
_GOLDEN_STEPS = 14
_TIE = 1e-9
"""Gain in the logarithm that counts: a linear network gives the same on both sides, and rounding shall not choose."""
_GOLDEN = (math.sqrt(5) - 1) / 2


def large_step(probe: Probe, noise_std: float, start: Shifts | None = None) -> Shifts:
    """Search, along each direction and back, for the length t of the largest ``t^2 / expm1(d(t)^2)``.

    d is the exact displacement of the features in noise standard deviations. For a linear network the supremum is
    at t = 0, the Cramer-Rao bound of the direction; where the features saturate or turn back, a long step gives
    more. A grid in log t finds the peak and a golden section its top. The result is never less than what ``start``
    itself gives. No step grows beyond the diagonal of the box, but it may leave the box.

    Args:
        probe: the images.
        noise_std: of the noise at hand, feature units, > 0.
        start: shifts whose directions are used; None: the smallest singular directions of the Jacobian.

    Raises:
        ValueError: ``noise_std`` is not a positive number.
    """
    require_positive("noise_std", noise_std)
    shift = replace_zeros(
        probe, (smallest_directions(probe) if start is None else start).input_shift.double()
    )
    begin, still = length(shift).flatten(1), probe.still[:, None]
    speed = probe.distances(shift).clamp(min=still) / begin
    unit = (shift / spread(begin, shift)).unsqueeze(1)
    unit = torch.cat([unit, -unit], dim=1).flatten(1, 2)

    def gain(log_size: Tensor) -> Tensor:
        distance = probe.distances(unit * spread(log_size.exp(), unit)).clamp(min=still)
        return 2 * log_size - _log_expm1((distance / noise_std).square())

    begin, shortest = begin.log(), (_SHORTEST * noise_std / speed).log()
    highest = begin.clamp(min=math.log(probe.diameter))
    lowest = shortest.minimum(begin)
    best = _maximise(gain, begin.repeat(1, 2), lowest.repeat(1, 2), highest.repeat(1, 2))
    (forth, back), (size, size_back) = (
        numbers.reshape(len(shift), 2, -1).unbind(1) for numbers in (gain(best), best.exp())
    )
    return Shifts(
        unit[:, : shift.shape[1]] * spread(torch.where(back > forth + _TIE, -size_back, size), shift)
    )


def _maximise(function: Callable[[Tensor], Tensor], best: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return where a function of many numbers, each by itself, is largest on a grid and around it."""
    value, width = function(best), (high - low) / (_GRID - 1)
    for place in range(_GRID):
        point = low + place * width
        found = function(point)
        better = found > value + _TIE
        best, value = torch.where(better, point, best), torch.where(better, found, value)
    low, high = (best - width).maximum(low), (best + width).minimum(high)
    points = (high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
    values = (function(points[0]), function(points[1]))
    for _ in range(_GOLDEN_STEPS):
        lower = values[0] > values[1]
        low, high = torch.where(lower, low, points[0]), torch.where(lower, points[1], high)
        point = torch.where(lower, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        found = function(point)
        points = torch.where(lower, point, points[1]), torch.where(lower, points[0], point)
        values = torch.where(lower, found, values[1]), torch.where(lower, values[0], found)
    for point, found in zip(points, values, strict=True):
        better = found > value + _TIE
        best, value = torch.where(better, point, best), torch.where(better, found, value)
    return best


def _log_expm1(y: Tensor) -> Tensor:
    """Return log(expm1(y)) for y > 0 of any size."""
    return y + (-torch.expm1(-y)).log()
