"""Random samples of an efficient estimate's error: the Cramer-Rao variance without the exact Jacobian."""

from typing import NamedTuple

import torch
from torch import Tensor

from hushsweep.workers.bounds.search.linearise import Linearisation
from hushsweep.workers.bounds.search.lsqr import lsqr
from hushsweep.workers.bounds.shifts import FeatureMap

_CONDITION_LIMIT = 1e12
"""Beyond what float64 resolves, so that the tolerance alone decides when a solve is done."""


class PseudoInverseSamples(NamedTuple):
    """``J^+ w`` of ``n`` images for ``r`` vectors each, and how each was reached."""

    shift: Tensor  # (n, r, *input) in the dtype of x, input units per feature unit
    iterations: Tensor  # (n, r) int64
    residual: Tensor  # (n, r) float64, |J e - w| / |w|: large where w lies outside the range of J


class Estimate(NamedTuple):
    """An estimate of the Cramer-Rao variance of unit noise, float64."""

    variance: Tensor  # (..., k), units of the samples squared
    stderr: Tensor  # (..., k), of the variance


def pseudo_inverse_samples(
    model: FeatureMap,
    x: Tensor,
    w: Tensor,
    *,
    tolerance: float,
    max_iterations: int,
    max_items: int,
) -> PseudoInverseSamples:
    """Send feature vectors back by the pseudo-inverse of the Jacobian, each by a converged solve (LSQR).

    With ``w`` unit normal, ``J^+ w`` is the error of the least-squares estimate of the linearised network under unit
    noise: its covariance is ``(J'J)^+``.

    Args:
        model: the network in the precision of ``x``, that of the solves; float32 loses small singular values.
        x: normalised images ``(n, *input)``.
        w: ``(n, r, *feature)``, unit normal.
        tolerance: a solve ends at ``|J'r| <= tolerance |J| |r|`` (r the residual) or ``|r| <= tolerance |w|``, > 0.
        max_iterations: of one solve at most.
        max_items: (image, vector) pairs solved together.

    Raises:
        ValueError: ``tolerance`` is not a positive number, or ``w`` is not for as many images as ``x``.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance: expected a number > 0, got {tolerance!r}")
    if w.dim() < 3 or len(w) != len(x):
        raise ValueError(f"w: expected shape ({len(x)}, r, *feature) as for x, got {tuple(w.shape)}")
    n, r = w.shape[:2]
    targets = w.flatten(0, 1).flatten(1).to(x.dtype)
    parts = [
        lsqr(
            Linearisation(model.features, x[items // r]),
            targets[items],
            atol=torch.full((len(items),), tolerance, dtype=torch.float64, device=x.device),
            btol=tolerance,
            condition_limit=_CONDITION_LIMIT,
            max_iterations=max_iterations,
        )
        for items in torch.split(torch.arange(n * r, device=x.device), max_items)
    ]
    shift, iterations, residual = (torch.cat(column) for column in zip(*parts, strict=True))
    return PseudoInverseSamples(
        shift.reshape(n, r, *x.shape[1:]), iterations.reshape(n, r), residual.reshape(n, r)
    )


def cramer_rao_estimate(samples: Tensor) -> Estimate:
    """Estimate the Cramer-Rao variance of each coordinate for unit noise from samples of ``J^+ w``.

    The mean of their squares: an estimate, not a bound, and as likely above as below. The variance for noise of
    another standard deviation is its square times as large.

    Args:
        samples: ``(..., r, k)``, the coordinates in the basis wanted of ``r`` >= 2 samples.

    Raises:
        ValueError: fewer than two samples: their spread is unknown.
    """
    if samples.dim() < 2 or samples.shape[-2] < 2:
        raise ValueError(f"samples: expected shape (..., r, k) with r >= 2, got {tuple(samples.shape)}")
    squares = samples.double().square()
    return Estimate(squares.mean(-2), squares.std(-2) / squares.shape[-2] ** 0.5)
