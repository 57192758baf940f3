"""Shifts along the directions that the exact Jacobian shrinks most."""

import torch

from hushsweep.workers.bounds.search.directions import lowest_modes
from hushsweep.workers.bounds.search.probe import Probe, Shifts
from hushsweep.workers.bounds.search.scale import fill_up, oriented, scale_to_step, spread


def smallest_directions(probe: Probe) -> Shifts:
    """Shift along the right singular vectors of the smallest resolved singular values, the smallest first.

    Of all directions within the row space these move the features least; the singular value says how far a shift has to
    go, so no pass through the network is needed. An image whose features do not depend on it at all has none; its
    shifts are cosine modes.
    """
    images = probe.decompositions()
    ranks = [len(image.directions[: probe.count]) for image in images]
    m = max(*ranks, 1)
    modes = lowest_modes(probe, m)
    shift, linear = list[torch.Tensor](), list[torch.Tensor]()
    for image, rank in zip(images, ranks, strict=True):
        if rank == 0:
            shift.append(modes)
            linear.append(torch.zeros(m, dtype=modes.dtype, device=modes.device))
            continue
        values = image.singular_values.flip(0)[:rank]
        size = (probe.target / values).clamp(max=probe.diameter)
        own = (oriented(image.directions[:rank]) * size[:, None]).reshape(-1, *modes.shape[1:])
        shift.append(torch.cat([own, modes[rank:]]))
        linear.append(torch.cat([size * values, values.new_zeros(m - rank)]))
    stacked = torch.stack(shift)
    empty = [number for number, rank in enumerate(ranks) if rank == 0]
    if empty:
        stacked[empty] = scale_to_step(probe, stacked)[empty]
    found = torch.tensor([rank or m for rank in ranks], device=stacked.device)
    filled = fill_up(spread(torch.stack(linear), stacked), found).flatten(1)
    return Shifts(fill_up(stacked, found), linear_distance=filled)
