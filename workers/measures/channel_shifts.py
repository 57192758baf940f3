"""Shifts under noise that depends on the image, each as long as makes its bound largest."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hushsweep.workers.bounds import Moments, chi_square_channel
from hushsweep.workers.bounds.search import SEARCHES
from hushsweep.workers.bounds.search.directions import lowest_modes, spread_pixels
from hushsweep.workers.bounds.search.linearise import Linearisation
from hushsweep.workers.bounds.search.scale import length, spread
from hushsweep.workers.measures.channel_geometry import ChannelGeometry
from hushsweep.workers.measures.geometry import STILL

_LENGTHS = 10
"""Lengths tried along each direction at first, either way, from a small step to the diagonal of the box."""
_BETWEEN = 3
"""Lengths tried then between the best one and its neighbour on either side."""


class ChannelShifts(NamedTuple):
    """The best shift of each direction, for ``n`` images and ``m`` directions; float64."""

    input_shift: Tensor  # (n, m, *input), never zero
    chi_square: Tensor  # (n, m), infinite where a direction bounds nothing
    still: Tensor  # (n, m) bool: no length moves what leaves beyond rounding
    infinite: Tensor  # (n, m) bool: the divergence of every length is infinite


def channel_shifts(geometry: ChannelGeometry, search: str) -> ChannelShifts:
    """Shift along the directions of a search, at the best of several lengths.

    A direction's bound is its length over the root of the divergence, times a constant for each coordinate: so one
    length is best for all. Every divergence is that of the exact moments at the shifted image.

    Raises:
        ValueError: the search needs the exact Jacobian, which is too large.
    """
    directions = _directions(geometry, search)
    first, longest = _first_lengths(geometry, directions), geometry.probe.diameter
    ratio = (longest / first) ** (1 / (_LENGTHS - 1))
    sizes = first[..., None] * ratio[..., None] ** torch.arange(_LENGTHS, device=first.device)
    sizes = torch.cat([sizes, -sizes], dim=2)
    chi_square = _divergences(geometry, directions, sizes)
    best = _bound(geometry, sizes, chi_square).argmax(2, keepdim=True)
    between = torch.arange(1, _BETWEEN + 1, device=first.device) / (_BETWEEN + 1)
    finer = sizes.gather(2, best) * ratio[..., None] ** torch.cat([between, -between])
    sizes = torch.cat([sizes, finer], dim=2)
    chi_square = torch.cat([chi_square, _divergences(geometry, directions, finer)], dim=2)
    bound = _bound(geometry, sizes, chi_square)
    gain, best = bound.max(2, keepdim=True)
    tells = gain[..., 0] > 0
    x = geometry.probe.x.unsqueeze(1)
    # what was really added, in float64
    taken = x + directions * spread(sizes.gather(2, best)[..., 0], directions) - x
    still = (_distance(chi_square) <= _still(geometry)).any(2) & ~tells
    return ChannelShifts(
        torch.where(spread(tells, directions), taken, directions),
        torch.where(tells, chi_square.gather(2, best)[..., 0], torch.inf),
        still,
        ~tells & ~still,
    )


def _directions(geometry: ChannelGeometry, search: str) -> Tensor:
    """Return unit directions ``(n, m, *input)``."""
    probe = geometry.probe
    if search == "jacobian":
        assert geometry.decomposed is not None
        if geometry.decomposed.too_large is not None:
            raise ValueError(geometry.decomposed.too_large)
        shift = SEARCHES[search].find(probe).input_shift
        return shift / length(shift)
    fixed = lowest_modes(probe, probe.count) if search == "dct" else spread_pixels(probe, probe.count)
    return fixed.expand(len(probe.x), *fixed.shape)


def _first_lengths(geometry: ChannelGeometry, directions: Tensor) -> Tensor:
    """Return the lengths ``(n, m)`` at which a reader's distance is ``step``, to first order; never beyond the box."""
    probe, m = geometry.probe, directions.shape[1]
    flat, speeds = directions.flatten(0, 1), list[Tensor]()
    for rows in torch.split(torch.arange(len(flat), device=flat.device), probe.max_items):
        linear = Linearisation(geometry.channel.features, probe.x[rows // m])
        speeds.append(linear.matvec(flat[rows].flatten(1)).norm(dim=1))
    speed = torch.cat(speeds).reshape(directions.shape[:2])
    return (probe.step / torch.where(speed > 0, speed, 1.0)).clamp(max=probe.diameter / 2)


@torch.no_grad()
def _divergences(geometry: ChannelGeometry, directions: Tensor, sizes: Tensor) -> Tensor:
    """Return the exact chi-square divergences ``(n, m, lengths)`` of directions times sizes."""
    probe, (m, lengths) = geometry.probe, sizes.shape[1:]
    flat, found = directions.flatten(0, 1), list[Tensor]()
    for rows in torch.split(torch.arange(sizes.numel(), device=sizes.device), probe.max_items):
        image = rows // (m * lengths)
        shift = flat[rows // lengths] * sizes.flatten()[rows].reshape(-1, 1, 1, 1)
        clean = Moments(*(value[image] for value in geometry.clean))
        found.append(chi_square_channel(clean, geometry.channel.moments(probe.x[image] + shift)))
    return torch.cat(found).reshape(sizes.shape)


def _bound(geometry: ChannelGeometry, sizes: Tensor, chi_square: Tensor) -> Tensor:
    """Return length over root of divergence; 0 where that is infinite, or lost in rounding."""
    tells = (_distance(chi_square) > _still(geometry)) & chi_square.isfinite()
    return torch.where(tells, sizes.abs() / torch.where(tells, chi_square, 1.0).sqrt(), 0.0)


def _distance(chi_square: Tensor) -> Tensor:
    """Return the distance in noise standard deviations that noise of one size would have at this divergence."""
    return chi_square.log1p().sqrt()


def _still(geometry: ChannelGeometry) -> Tensor:
    """Return the distance ``(n, 1, 1)`` up to which a divergence may be rounding."""
    probe = geometry.probe
    return probe.still.clamp(min=STILL * probe.target)[:, None, None]
