"""Algorithm 1 of Chaudhuri et al. (2024), arXiv:2404.02866, for a batch of (image, restart) items.

Each restart sends a random feature displacement back through the linearised network (LSQR), looks at what displacement
the shift found really causes, rescales that and sends it back again. The published code solves one block-diagonal
system per minibatch, so an image's shift depends on its neighbours; here every item is a problem of its own.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hushsweep.workers.bounds.search.linearise import Linearisation
from hushsweep.workers.bounds.search.lsqr import lsqr
from hushsweep.workers.bounds.shifts import FeatureMap


class ShiftSearch(NamedTuple):
    """Shifts found for ``n`` images and ``r`` restarts, and the work they took."""

    input_shift: Tensor  # (n, r, *input) float32, units of x
    iterations: Tensor  # (n, r) int64, LSQR iterations over all rounds
    residual: Tensor  # (n, r) float64, |J e - c| / |c| of the last round


def search_shifts(
    model: FeatureMap,
    exact: FeatureMap,
    x: Tensor,
    starts: Tensor,
    *,
    noise_std: float,
    rounds: int,
    step: float,
    lsqr_tolerance: float,
    max_iterations: int | None = None,
    max_batch: int = 512,
) -> ShiftSearch:
    """Search shifts of the input that move the features little, for every image and restart.

    Args:
        model: the network in the precision of ``x``, which is that of the linear solves.
        exact: the same network in float64; it measures the true displacement once per round.
        x: normalised images ``(n, *input)``.
        starts: unit normal start vectors ``(n, r, *feature)``.
        noise_std: standard deviation of the noise that the shifts are made for, feature units.
        rounds: LSQR solves per restart.
        step: length of the start in units of ``noise_std``.
        lsqr_tolerance: LSQR's ``atol`` is this times the length of the target displacement, as published.
        max_iterations: LSQR iterations per solve; None: twice the number of inputs, as published.
        max_batch: items advanced together.

    Returns:
        One shift per image and restart; independent of the batch and of other images beyond rounding.
    """
    n, restarts = starts.shape[:2]
    items = torch.arange(n * restarts, device=x.device)
    parts = [
        _search_items(
            model,
            exact,
            x[part // restarts],
            starts.flatten(0, 1)[part].flatten(1).double(),
            length=noise_std * step,
            rounds=rounds,
            lsqr_tolerance=lsqr_tolerance,
            max_iterations=max_iterations or 2 * x[0].numel(),
        )
        for part in items.split(max_batch)
    ]
    shift, iterations, residual = (torch.cat(column) for column in zip(*parts, strict=True))
    return ShiftSearch(
        shift.reshape(n, restarts, *x.shape[1:]),
        iterations.reshape(n, restarts),
        residual.reshape(n, restarts),
    )


def _search_items(
    model: FeatureMap,
    exact: FeatureMap,
    x: Tensor,
    start: Tensor,
    *,
    length: float,
    rounds: int,
    lsqr_tolerance: float,
    max_iterations: int,
) -> ShiftSearch:
    dtype, x = x.dtype, x.double()
    with torch.no_grad():
        clean = exact.features(x).flatten(1)
    target = start * (length / math.sqrt(start.shape[1]))
    norm = target.norm(dim=1, keepdim=True)
    shift = torch.zeros_like(x)
    iterations = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    residual = torch.ones(len(x), dtype=torch.float64, device=x.device)
    for _ in range(rounds):
        # a displacement of zero has no direction: its target stays zero, and so does its shift
        target *= norm / target.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        solution = lsqr(
            Linearisation(model.features, (x + shift).to(dtype)),
            target.to(dtype),
            atol=lsqr_tolerance * target.norm(dim=1),
            max_iterations=max_iterations,
        )
        shift = solution.x.double().reshape(x.shape)
        iterations += solution.iterations
        residual = solution.residual
        with torch.no_grad():
            target = exact.features(x + shift).flatten(1) - clean
    return ShiftSearch(shift.float(), iterations, residual)
