"""Algorithm 1 of Chaudhuri et al. (2024), arXiv:2404.02866, for a batch of (image, restart) items.

Each restart sends a random feature displacement back through the linearised network (LSQR), looks at the displacement
that the shift found really causes, rescales it and sends it back again. The published code solves one block-diagonal
system per minibatch, so that an image's shift depends on its neighbours; here every item is a problem of its own.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hushsweep.workers.bounds.search.linearise import Linearisation, linearisation_bytes
from hushsweep.workers.bounds.search.lsqr import BASIS_SIZE, lsqr
from hushsweep.workers.bounds.search.probe import Probe, Shifts
from hushsweep.workers.bounds.search.scale import replace_zeros
from hushsweep.workers.bounds.shifts import FeatureMap

MINIBATCH_NORM = 5.0
"""What the published tolerance is multiplied by, so that one image's solve stops where the published one does.

LSQR stops relative to its estimate of |A|. Over a minibatch, and as orthogonality is lost, that estimate grows to 105
to 118 for 20 MNIST images (docs/hcr.md) where one image's Jacobian has norm 17; solved alone with the nominal
tolerance, they give a bound half as large again. With 5 the mean bounds agree within the spread of the restarts.
"""
_MAX_ITEMS = 512
"""More gain nothing on a CPU, and fill a GPU."""


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
    max_items: int = _MAX_ITEMS,
    clean: Tensor | None = None,
) -> ShiftSearch:
    """Search shifts of the input that move the features little, for every image and restart.

    Args:
        model: the network in the precision of ``x``, which is that of the linear solves. In float32 rounding, hence
            the make-up of a batch, moves single modes of the bound by 1e-3; in float64 by 1e-7.
        exact: the same network in float64; it measures the true displacement once per round.
        x: normalised images ``(n, *input)``.
        starts: unit normal start vectors ``(n, r, *feature)``.
        noise_std: standard deviation of the noise that the shifts are made for, feature units.
        rounds: linear solves per restart.
        step: length of the start in units of ``noise_std``.
        lsqr_tolerance: tolerance of the published solve, in units of the length of its target.
        max_iterations: LSQR iterations per solve; None: twice the number of inputs, as published.
        max_items: (image, restart) items advanced together.
        clean: features of ``x`` from ``exact``, ``(n, features)``, if at hand.

    Returns:
        One shift per image and restart, independent of the batch and of other images beyond rounding.
    """
    n, restarts = starts.shape[:2]
    if clean is None:
        with torch.no_grad():
            clean = torch.cat(
                [exact.features(part).flatten(1) for part in torch.split(x.double(), max_items)]
            )
    parts = [
        _search_items(
            model,
            exact,
            x[items // restarts],
            clean[items // restarts],
            starts.flatten(0, 1)[items].flatten(1).double()
            * (noise_std * step / math.sqrt(starts[0, 0].numel())),
            rounds=rounds,
            atol=MINIBATCH_NORM * lsqr_tolerance,
            max_iterations=2 * x[0].numel() if max_iterations is None else max_iterations,
        )
        for items in torch.split(torch.arange(n * restarts, device=x.device), max_items)
    ]
    shift, iterations, residual = (torch.cat(column) for column in zip(*parts, strict=True))
    return ShiftSearch(
        shift.reshape(n, restarts, *x.shape[1:]),
        iterations.reshape(n, restarts),
        residual.reshape(n, restarts),
    )


def algorithm_one(probe: Probe) -> Shifts:
    """Search shifts as published; one per restart.

    Options: ``restarts`` (25, at most the probe's count), ``rounds`` (10), ``lsqr_tolerance`` (0.02) and
    ``max_iterations`` (None), as in `search_shifts`.
    """
    options = probe.options
    found = search_shifts(
        probe.model,
        probe.exact,
        probe.x.to(probe.dtype),
        probe.noise("hcr-start", min(probe.count, options.get("restarts", 25))),
        noise_std=probe.reference_std,
        rounds=options.get("rounds", 10),
        step=probe.step,
        lsqr_tolerance=options.get("lsqr_tolerance", 0.02),
        max_iterations=options.get("max_iterations"),
        max_items=probe.max_items,
        clean=probe.clean,
    )
    return Shifts(replace_zeros(probe, found.input_shift.double()), found.iterations, found.residual)


def items_that_fit(model: FeatureMap, x: Tensor, memory: int) -> int:
    """Return how many items a search can advance together within ``memory`` bytes, at most 512.

    Args:
        model: the network in the precision of ``x``.
        x: one normalised image, ``(1, *input)``.
        memory: bytes on the device beyond the networks themselves.
    """
    basis = BASIS_SIZE * x.numel() * x.element_size()
    return max(1, min(_MAX_ITEMS, memory // (linearisation_bytes(model.features, x) + basis)))


def _search_items(
    model: FeatureMap,
    exact: FeatureMap,
    x: Tensor,
    clean: Tensor,
    target: Tensor,
    *,
    rounds: int,
    atol: float,
    max_iterations: int,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype, x = x.dtype, x.double()
    length = target.norm(dim=1)
    shift, iterations = torch.zeros_like(x), torch.zeros(len(x), dtype=torch.int64, device=x.device)
    residual = torch.ones_like(length)
    for _ in range(rounds):
        # a displacement of zero has no direction: the target stays zero, and so does the shift
        norm = target.norm(dim=1)
        target = target * torch.where(norm > 0, length / norm, 0.0)[:, None]
        solution = lsqr(
            Linearisation(model.features, (x + shift).to(dtype)),
            target.to(dtype),
            atol=atol * length,
            max_iterations=max_iterations,
        )
        shift = solution.x.double().reshape(x.shape)
        iterations, residual = iterations + solution.iterations, solution.residual
        with torch.no_grad():
            target = exact.features(x + shift).flatten(1) - clean
    return shift.float(), iterations, residual
