"""How long a shift along a direction shall be, and how a short list of shifts is filled up."""

import math

import torch
from torch import Tensor

from hushsweep.workers.bounds.search.probe import Probe

INSIDE = 1 - 2.0**-40
"""What a shift to a face of the box is multiplied by, so that rounding leaves it inside."""
_PASSES = 3
_HALVINGS = 50
_BISECTIONS = 12


def random_inputs(probe: Probe, purpose: str, count: int) -> Tensor:
    """Draw unit normal noise of the shape of the inputs, reproducible per image like the probe's own.

    Returns:
        ``(n, count, *input)`` float64.
    """
    draws = -(-count * probe.inputs // probe.features)
    noise = probe.noise(purpose, draws).double().flatten(1)[:, : count * probe.inputs]
    return noise.reshape(len(probe.x), count, *probe.x.shape[1:])


def scale_to_step(probe: Probe, direction: Tensor) -> Tensor:
    """Scale directions until the features move by ``step`` times the reference noise.

    The first pass is made at a length of ``step``, each later one where the pass before points to. A direction that
    moves no feature there keeps this safe length, and none grows longer than the diagonal of the box.

    Args:
        probe: the images.
        direction: ``(n, m, *input)``, none of them zero.

    Returns:
        ``(n, m, *input)`` float64.
    """
    unit = direction.double() / length(direction)
    safe = torch.full(direction.shape[:2], probe.step, dtype=torch.float64, device=direction.device)
    size, still = safe, probe.still[:, None]
    for _ in range(_PASSES):
        distance = probe.distances(unit * spread(size, unit))
        size = torch.where(distance > still, size * probe.target / distance.clamp(min=still), safe)
        size = size.clamp(max=probe.diameter)
    return unit * spread(size, unit)


def oriented(directions: Tensor) -> Tensor:
    """Settle the signs of ``(..., p)``, which a decomposition leaves open, so that rounding does not."""
    reference = torch.cos(torch.arange(directions.shape[-1], device=directions.device).double().square())
    return directions * torch.where(directions @ reference < 0, -1.0, 1.0)[..., None]


def longest_within(probe: Probe, shift: Tensor, limit: Tensor) -> Tensor:
    """Return the largest fraction of each shift at which the features have moved by at most ``limit``.

    Halving from the whole shift brackets it, bisection finds it; each fraction has been tried in the network.

    Args:
        probe: the images.
        shift: ``(n, m, *input)``.
        limit: ``(n,)``, feature units.

    Returns:
        ``(n, m)`` float64 in 0..1; 0 where even the shortest of the fractions, 2^-50, moves them too far.
    """
    within = probe.distances(shift) <= limit[:, None]
    low = within.double()
    size = low.clamp(min=0.5)
    for _ in range(_HALVINGS):
        if bool((low > 0).all()):
            break
        near = probe.distances(shift * spread(size, shift)) <= limit[:, None]
        low = torch.where((low == 0) & near, size, low)
        size = torch.where(low == 0, size / 2, size)
    high = torch.where(within, low, 2 * low)
    for _ in range(_BISECTIONS):
        size = (low + high) / 2
        near = probe.distances(shift * spread(size, shift)) <= limit[:, None]
        low, high = torch.where(near, size, low), torch.where(near, high, size)
    return low


def room(probe: Probe, shift: Tensor) -> Tensor:
    """Return the largest multiple of each shift ``(n, m, *input)`` within the box, ``(n, m)``; 0 for a zero shift."""
    x = probe.x.unsqueeze(1)
    multiple = torch.where(shift > 0, probe.high - x, probe.low - x) / shift
    multiple = torch.where(shift == 0, torch.inf, multiple).flatten(2).amin(2)
    multiple = multiple.clamp(min=0) * INSIDE
    return torch.where(multiple == torch.inf, 0.0, multiple)


def fill_up(shift: Tensor, found: Tensor) -> Tensor:
    """Put repeats of the shifts found, each halved once more, in place of the others.

    Args:
        shift: ``(n, m, *input)``; the shifts found come first.
        found: ``(n,)`` int64, how many there are, each >= 1.
    """
    place = torch.arange(shift.shape[1], device=shift.device)
    source, repeats = place % found[:, None], place // found[:, None]
    rows = torch.arange(len(shift), device=shift.device)[:, None]
    return shift[rows, source] * spread(0.5 ** repeats.double(), shift)


def replace_zeros(probe: Probe, shift: Tensor) -> Tensor:
    """Put a short uniform shift in place of zeros: where no feature moves, any direction is as good.

    Args:
        probe: the images.
        shift: ``(n, m, *input)``.
    """
    zero = spread(shift.flatten(2).abs().amax(2).eq(0), shift)
    return torch.where(zero, probe.step / math.sqrt(probe.inputs), shift)


def length(shift: Tensor) -> Tensor:
    """Return the Euclidean lengths of shifts ``(n, m, *input)``, ``(n, m, 1, ...)`` float64."""
    return spread(shift.double().flatten(2).norm(dim=2), shift)


def spread(numbers: Tensor, like: Tensor) -> Tensor:
    """Give ``(n, m)`` numbers the dimensions of shifts ``(n, m, *input)``."""
    return numbers.reshape(*numbers.shape, *[1] * (like.dim() - 2))
