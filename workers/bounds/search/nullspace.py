"""Long moves within the box of valid images that leave the features as they are."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hushsweep.workers.bounds.search.directions import lowest_modes
from hushsweep.workers.bounds.search.probe import Probe, Shifts
from hushsweep.workers.bounds.search.scale import (
    fill_up,
    length,
    longest_within,
    random_inputs,
    replace_zeros,
    room,
    scale_to_step,
    spread,
)

if TYPE_CHECKING:
    from hushsweep.workers.bounds.cramer_rao import Decomposition

_PROJECTIONS = 100
_MARGIN = 1e-2
"""Distance from the box's faces that the alternating projections aim at, in units of its width: the last projection
is on the null space and misses the box by a little, which must not put a black pixel below black."""


def null_space_moves(probe: Probe) -> Shifts:
    """Move along the null space of the Jacobian as far as the exact features stay still, the longest move first.

    Alternating projections lead from far points, black and white along cosine modes and random along noise, to where
    null space and box meet. The move is followed up to the kink, or the curvature, at which the features begin to
    change by more than rounding (`Probe.still`), or up to the box. Where no such move exists, the shifts lead
    towards grey and move the features by ``step`` times the reference noise.
    """
    m = min(probe.count, probe.inputs)
    modes = lowest_modes(probe, -(-m // 2)).expand(len(probe.x), -1, *probe.x.shape[1:])
    direction = torch.cat([modes, random_inputs(probe, "null-space", m)], dim=1)[:, :m]
    middle = (probe.low + probe.high) / 2
    grey = scale_to_step(probe, replace_zeros(probe, (middle - probe.x).unsqueeze(1)))
    grey = grey * spread(room(probe, grey).clamp(max=1), grey)
    move = torch.stack(
        [
            _into_null_space(probe, x, toward, decomposition)
            for x, toward, decomposition in zip(probe.x, direction, probe.decompositions(), strict=True)
        ]
    )
    move = move * spread(room(probe, move), move)
    move = move * spread(longest_within(probe, move, probe.still), move)
    size = length(move).flatten(1)
    order = size.argsort(dim=1, descending=True, stable=True)
    move = move[torch.arange(len(move), device=move.device)[:, None], order]
    found = (size > probe.step).sum(1)
    return Shifts(fill_up(torch.where(spread(found[:, None] > 0, move), move, grey), found.clamp(min=1)))


def _into_null_space(probe: Probe, x: Tensor, direction: Tensor, decomposition: "Decomposition") -> Tensor:
    """Return moves ``(m, *input)`` of one image in its null space, inside the box wherever that was reached."""
    margin = _MARGIN * (probe.high - probe.low)
    far = (x + probe.diameter * direction / length(direction[None])[0]).clamp(probe.low, probe.high) - x
    move = decomposition.project_to_null_space(far.flatten(1)).reshape(far.shape)
    for _ in range(_PROJECTIONS):
        inside = ((x + move).clamp(probe.low, probe.high) == x + move).flatten(1).all(1)
        if bool(inside.all()):
            break
        near = (x + move).clamp(probe.low + margin, probe.high - margin) - x
        near = decomposition.project_to_null_space(near.flatten(1)).reshape(far.shape)
        move = torch.where(inside.reshape(-1, *[1] * x.dim()), move, near)
    return move
