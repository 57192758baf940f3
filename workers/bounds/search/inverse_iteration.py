"""The directions that the Jacobian shrinks most, from products with it alone."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from hushsweep.workers.bounds.search.linearise import Linearisation
from hushsweep.workers.bounds.search.lsqr import LinearMap, LsqrSolution, lsqr
from hushsweep.workers.bounds.search.probe import Probe, Shifts
from hushsweep.workers.bounds.search.scale import fill_up, oriented, random_inputs, scale_to_step

_STARTS = 4
_ROUNDS = 10
_SETTLED = 1e-3
"""Relative change of the singular values at which an image is done."""
_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-6}
_CONDITION = {torch.float64: 1e8, torch.float32: 1e5}
"""Singular values further below the largest are rounding, and none of the search's business."""


class _Transposed(NamedTuple):
    linear_map: LinearMap

    def matvec(self, v: Tensor) -> Tensor:
        return self.linear_map.rmatvec(v)

    def rmatvec(self, u: Tensor) -> Tensor:
        return self.linear_map.matvec(u)

    def restrict(self, rows: Tensor) -> Self:
        return type(self)(self.linear_map.restrict(rows))


def inverse_iteration(probe: Probe) -> Shifts:
    """Find the smallest singular directions by subspace iteration with ``(J'J)^+``, without the Jacobian itself.

    Each round solves ``J'u = v`` and ``J w = u`` to convergence for every start of an image, makes the w orthonormal
    and turns them into singular directions of their span (Golub & Van Loan, Matrix Computations, 8.2). The published
    search applies ``J^+`` to the displacement that it has just seen, which is the identity on the row space: it
    stays near its random start, where this one ends at the smallest singular value.

    Options: ``starts`` (4, at most the count), ``rounds`` (10 at most) and ``max_iterations`` of a solve (None:
    twice the number of inputs).
    """
    starts = min(probe.count, probe.inputs, probe.features, probe.options.get("starts", _STARTS))
    direction = random_inputs(probe, "inverse-iteration", starts).flatten(2)
    rows = torch.arange(len(direction), device=direction.device)
    norm = _products(probe, direction, rows).square().sum(2).mean(1).sqrt()  # Frobenius, on average
    values = torch.full(direction.shape[:2], torch.inf, dtype=torch.float64, device=direction.device)
    iterations = torch.zeros(direction.shape[:2], dtype=torch.int64, device=direction.device)
    residual = torch.zeros_like(values)
    for _ in range(probe.options.get("rounds", _ROUNDS)):
        first = _solve(probe, direction[rows], rows, transposed=True)
        second = _solve(probe, first.x, rows, transposed=False)
        before = values[rows]
        direction[rows], values[rows] = _singular(probe, second.x, rows, norm[rows])
        iterations[rows] += first.iterations + second.iterations
        residual[rows] = second.residual
        rows = rows[~torch.isclose(before, values[rows], rtol=_SETTLED, atol=0).all(1)]
        if len(rows) == 0:
            break
    found = values.isfinite().sum(1).clamp(min=1)
    shift = scale_to_step(probe, direction.reshape(*direction.shape[:2], *probe.x.shape[1:]))
    return Shifts(fill_up(shift, found), iterations, residual)


def _solve(probe: Probe, b: Tensor, rows: Tensor, *, transposed: bool) -> LsqrSolution:
    """Solve ``J w = b`` or ``J'w = b`` for ``(k, s)`` right-hand sides at the images ``rows``, ``(k,)``."""
    k, s = b.shape[:2]
    limit = probe.options.get("max_iterations") or 2 * probe.inputs
    parts = []
    for items in torch.split(torch.arange(k * s, device=b.device), probe.max_items):
        linear_map = Linearisation(probe.model.features, probe.x[rows[items // s]].to(probe.dtype))
        parts.append(
            lsqr(
                _Transposed(linear_map) if transposed else linear_map,
                b.flatten(0, 1)[items].to(probe.dtype),
                atol=torch.full((len(items),), _TOLERANCE[probe.dtype], device=b.device),
                btol=_TOLERANCE[probe.dtype],
                condition_limit=_CONDITION[probe.dtype],
                max_iterations=limit,
            )
        )
    x, iterations, residual = (torch.cat(column) for column in zip(*parts, strict=True))
    return LsqrSolution(x.double().reshape(k, s, -1), iterations.reshape(k, s), residual.reshape(k, s))


def _singular(probe: Probe, w: Tensor, rows: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
    """Return the singular directions in the span of ``(k, s, p)``, smallest first, and their singular values.

    Those of value ``inf``, at the end, are too many for the rank of the Jacobian.
    """
    basis = torch.linalg.qr(w.mT).Q.mT
    left, values, _ = torch.linalg.svd(_products(probe, basis, rows), full_matrices=False)
    values = torch.where(values * _CONDITION[probe.dtype] > norm[:, None], values, torch.inf)
    order = values.argsort(dim=1)
    found = (left.mT @ basis).gather(1, order[..., None].expand_as(basis))
    return oriented(found), values.gather(1, order)


def _products(probe: Probe, v: Tensor, rows: Tensor) -> Tensor:
    """Return ``J v``, ``(k, s, p)`` to ``(k, s, features)`` float64, at the images ``rows``, ``(k,)``."""
    k, s = v.shape[:2]
    parts = [
        Linearisation(probe.model.features, probe.x[rows[items // s]].to(probe.dtype)).matvec(
            v.flatten(0, 1)[items].to(probe.dtype)
        )
        for items in torch.split(torch.arange(k * s, device=v.device), probe.max_items)
    ]
    return torch.cat(parts).double().reshape(k, s, -1)
