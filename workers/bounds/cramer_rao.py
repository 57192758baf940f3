"""The exact Cramer-Rao bound, from the singular values of a Jacobian that rounding leaves standing.

``decompose`` does the work once per image, for noise of standard deviation 1; every noise level is then a product.
"""

import math
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from hushsweep.workers.bounds.basis import Basis, coordinates
from hushsweep.workers.bounds.chi_square import require_positive
from hushsweep.workers.devices import threads

_EPS = torch.finfo(torch.float64).eps
_JACOBIAN_ROUNDING = 4
"""Default bound on the error of a Jacobian, in units of its dtype's eps times its Frobenius norm.

Measured, float32 against float64: 0.2 for two ReLU layers, 0.4 for three convolutions, 1.7 for ResNet-18.
"""
_GRAM_ROUNDING = 8
"""Bound on the error of a Gram matrix and its eigenvectors, in units of float64 eps times the squared Frobenius norm.

Measured against 80-bit arithmetic: 0.1 for the matrix, 0.3 for the residuals of its eigenvectors.
"""
_MARGIN = 100
"""A singular value counts as resolved above so many times the error of the Jacobian."""
_BLOCK = 512
"""Singular vectors made at once."""
_COLUMNS = 4096
"""Columns of a Jacobian taken to float64 at once."""
_SMALL = 2048
"""Up to here torch finds eigenvalues, on one thread; beyond, LAPACK's "evr" does, with a third of the memory.

A second thread gains little at these sizes, and where other processes want its core it costs a hundred times the time.
"""
_TINY = 256
"""Up to here everything is done on one thread, for the same reason."""


class Decomposition(NamedTuple):
    """What the singular value decomposition of one image's Jacobian says, for noise of standard deviation 1.

    ``non_identifiable``, ``unresolved`` and the share of the resolved directions sum to 1 for every coordinate.
    """

    unit_variance: (
        Tensor  # (k,) float64, [(J'J)^+]_kk over the resolved directions, input units^2 / feature units^2
    )
    non_identifiable: Tensor  # (k,) float64, share of the unit coordinate's energy that moves no feature
    unresolved: Tensor  # (k,) float64, share of it in directions about which rounding lets nothing be said
    rank: int  # resolved singular values
    unresolved_rank: int
    singular_values: Tensor  # (rank,) float64, descending, feature units / input units
    squared_norm: float  # tr J'J
    directions: (
        Tensor  # (m, p) float64, unit right singular vectors, that of the smallest resolved value first
    )
    row_space: Tensor | None  # (rank + unresolved_rank, p) float64 orthonormal rows, where asked for

    def project_to_null_space(self, v: Tensor) -> Tensor:
        """Return the part of the input directions ``(..., p)`` that moves no feature, as float64.

        Unresolved directions are taken out as well.

        Raises:
            ValueError: the decomposition was made without ``keep_row_space=True``.
        """
        if self.row_space is None:
            raise ValueError("no row space: decompose(..., keep_row_space=True) keeps it")
        v = v.double()
        for _ in range(2):  # the second pass takes out what the first one's rounding left
            v = v - (v @ self.row_space.T) @ self.row_space
        return v


class CramerRao(NamedTuple):
    """Cramer-Rao bounds of every coordinate, and the shares of which they say nothing."""

    variance: Tensor  # (..., k) float64, input units^2
    rank: Tensor  # (...) int64
    non_identifiable: Tensor  # (..., k) float64
    unresolved: Tensor  # (..., k) float64


def cramer_rao_variance_bound(
    jacobian: Tensor, noise_std: float, basis: Basis = None, *, error: float | None = None
) -> CramerRao:
    """Lower-bound the variance of every unbiased estimate of each coordinate of the input.

    ``noise_std^2 [(J'J)^+]_kk``, the Cramer-Rao bound for Gaussian noise restricted to the directions that the
    features determine (singular information: Stoica & Marzetta 2001, IEEE Trans. Signal Process. 49(1), 87-90).

    Holds for every estimator that is unbiased along those directions, and says nothing about others, such as one with
    a prior. Where a share of a coordinate is non-identifiable no unbiased estimate of it exists, and its bound is
    infinite; the number given is the part that the determined directions alone enforce. So below full column rank the
    mean over coordinates may be less than 1/dFIL, and a single shift outside the row space may bound more. For Laplace
    noise pass its scale b, whose Fisher information is 1/b^2 (its standard deviation is b sqrt(2)).

    Args:
        jacobian: ``(..., n, p)``, feature units per input unit; rows of zeros may be left out.
        noise_std: standard deviation of the noise on every feature, feature units, > 0.
        basis: orthonormal coordinates of the input; None: the inputs themselves.
        error: bound on the spectral norm of the Jacobian's error, see `decompose`.

    Raises:
        ValueError: ``noise_std`` is not a positive number, the Jacobian has no columns, is not finite or has rank 0, or
            ``basis`` does not fit it or is not orthonormal.
    """
    require_positive("noise_std", noise_std)
    lead, (rows, p) = jacobian.shape[:-2], jacobian.shape[-2:] if jacobian.dim() > 1 else (0, 0)
    if 0 in (*lead, p):
        raise ValueError(f"jacobian: expected shape (..., features, inputs), got {tuple(jacobian.shape)}")
    found = [decompose(one, basis=basis, error=error) for one in jacobian.reshape(math.prod(lead), rows, p)]
    if any(one.rank == 0 for one in found):
        raise ValueError(
            "jacobian: no singular value is above its rounding: the features do not depend on the input"
        )
    return CramerRao(
        noise_std**2 * torch.stack([one.unit_variance for one in found]).reshape(*lead, -1),
        torch.tensor([one.rank for one in found], device=jacobian.device).reshape(lead),
        torch.stack([one.non_identifiable for one in found]).reshape(*lead, -1),
        torch.stack([one.unresolved for one in found]).reshape(*lead, -1),
    )


@torch.no_grad()
def decompose(
    jacobian: Tensor,
    *,
    basis: Basis = None,
    error: float | None = None,
    directions: int = 0,
    keep_row_space: bool = False,
) -> Decomposition:
    """Decompose one image's Jacobian by the eigenvalues of its smaller Gram matrix, in float64.

    With ``delta`` the error of the Jacobian and ``g`` that of its Gram matrix, ``|J u|^2 <= (1 + eta) |J~ u|^2 +
    (1 + 1/eta) delta^2``, so ``(1 + eta) J~'J~ + ((1 + 1/eta) delta^2 + g) I`` dominates the Fisher information of
    unit noise. ``unit_variance`` is the sum of squared coordinates of the resolved singular vectors over these larger
    eigenvalues, hence never more than what is proved. Resolved are singular values above 100 ``delta`` and
    10 ``sqrt(g)``; with ``eta = delta / smallest resolved`` either costs a few percent at most. Rows and columns of
    zeros, and inputs in excess of rows, are non-identifiable beyond doubt. A rank that is lower for another reason, for
    instance a narrow layer further up, shows as unresolved: rounding cannot tell it from a small singular value.

    Args:
        jacobian: ``(rows, p)`` of one image, float32 or float64; rows of zeros may be left out.
        basis: orthonormal coordinates of the input; None: the inputs themselves.
        error: bound on the spectral norm of the Jacobian's error, feature units / input units; None: 4 eps of its dtype
            times its Frobenius norm.
        directions: right singular vectors wanted, of the smallest resolved singular values; fewer if the rank is less.
        keep_row_space: whether to keep an orthonormal basis of all directions that move a feature.

    Returns:
        A `Decomposition`; of a Jacobian that is zero its rank is 0, its variances are 0 and all is non-identifiable.

    Raises:
        ValueError: the Jacobian is no matrix with columns or is not finite, ``error`` is negative, or ``basis`` does
            not fit it or is not orthonormal.
    """
    with threads(1) if min(jacobian.shape, default=0) <= _TINY else nullcontext():
        return _decompose(jacobian, basis, error, directions, keep_row_space)


def _decompose(
    jacobian: Tensor, basis: Basis, error: float | None, directions: int, keep_row_space: bool
) -> Decomposition:
    norm = _checked_norm(jacobian, error)
    to_basis = coordinates(basis, jacobian.shape[1])
    factors = _Factors(jacobian)
    limits = _limits(factors.values, norm, _rounding(jacobian, norm) if error is None else error)
    unknown, rank = limits.unresolved, len(limits.dominating)
    # eigenvalues ascend, so the unresolved come first and the smallest resolved next
    rest = factors.right_vectors(slice(0, unknown))
    variance = resolved = to_basis(jacobian.new_zeros(jacobian.shape[1], dtype=torch.float64))
    kept = list[Tensor]()
    for start in range(0, rank, _BLOCK):
        dominating = limits.dominating[start : start + _BLOCK]
        vectors = factors.right_vectors(slice(unknown + start, unknown + start + len(dominating)))
        energy = to_basis(vectors).square()
        variance, resolved = variance + dominating.reciprocal() @ energy, resolved + energy.sum(0)
        if keep_row_space:
            kept.append(vectors)
        if not factors.orthogonal:
            rest.addmm_(rest @ vectors.T, vectors, alpha=-1)
    wanted = slice(unknown, unknown + min(directions, rank))
    smallest = factors.right_vectors(wanted)
    singular_values = factors.values[unknown:].sqrt().flip(0)
    if not factors.orthogonal:
        _orthonormalise(rest)
    remaining = (1 - resolved).clamp(min=0)
    unresolved = torch.zeros_like(resolved)
    for block in torch.split(rest, _BLOCK):
        unresolved = unresolved + to_basis(block).square().sum(0)
    unresolved = torch.minimum(unresolved, remaining)
    return Decomposition(
        variance,
        remaining - unresolved,
        unresolved,
        rank,
        len(rest),
        singular_values,
        norm**2,
        smallest,
        _orthonormalise(torch.cat([*kept, rest])) if keep_row_space else None,
    )


def exact_bytes(rows: int, inputs: int, itemsize: int) -> int:
    """Return the bytes that one Jacobian and `decompose` of it take at most on a CPU; a row space kept comes on top.

    Args:
        rows: active features of one image.
        inputs: entries of the input.
        itemsize: bytes per entry of the Jacobian, 8 for float64.
    """
    side, part = min(rows, inputs), min(max(rows, inputs), _COLUMNS)
    gram = side * (side + max(side, part))
    vectors = side * (side + part + inputs) + 6 * _BLOCK * inputs
    return rows * inputs * itemsize + 8 * max(gram, vectors)


class _Limits(NamedTuple):
    unresolved: int  # how many of the ascending eigenvalues are not resolved
    dominating: Tensor  # (rank,) what the others are at most in the Fisher information of unit noise


class _Factors:
    """Eigenvalues and eigenvectors of the smaller Gram matrix of a Jacobian, without its rows and columns of zeros."""

    def __init__(self, jacobian: Tensor) -> None:
        rows, columns = jacobian.any(1).nonzero().flatten(), jacobian.any(0).nonzero().flatten()
        self._inputs = jacobian.shape[1]
        self.orthogonal = len(columns) < len(rows)  # are the eigenvectors themselves directions of the input?
        self._matrix, self._kept = (jacobian.T, columns) if self.orthogonal else (jacobian, rows)
        self.values, self._vectors = _eigh(self._gram())

    def right_vectors(self, which: slice) -> Tensor:
        """Return unit right singular vectors ``(count, p)`` float64, in ascending order of the singular values."""
        left = self._vectors[:, which].T
        right = left.new_zeros((len(left), self._inputs))
        if self.orthogonal:
            right[:, self._kept] = left
            return right
        for columns in self._columns():
            torch.mm(left, self._part(columns), out=right[:, columns])
        norm = right.norm(dim=1, keepdim=True)
        # of two equal rows the difference is exactly zero: no direction, and not an unresolved one
        return right.div_(norm) if bool(norm.all()) else right[norm[:, 0] > 0] / norm[norm > 0, None]

    def _gram(self) -> Tensor:
        """Return the lower triangle of blocks."""
        size = len(self._kept)
        gram = torch.zeros((size, size), dtype=torch.float64, device=self._matrix.device)
        for columns in self._columns():
            part = self._part(columns)
            for start in range(0, size, _BLOCK):
                stop = min(start + _BLOCK, size)
                gram[start:stop, :stop].addmm_(part[start:stop], part[:stop].T)
        return gram

    def _columns(self) -> list[slice]:
        length = self._matrix.shape[1]
        return [slice(start, min(start + _COLUMNS, length)) for start in range(0, length, _COLUMNS)]

    def _part(self, columns: slice) -> Tensor:
        part = self._matrix[:, columns]
        return (part if len(self._kept) == len(part) else part[self._kept]).double()


def _eigh(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return ascending eigenvalues and eigenvectors, from the lower triangle; ``gram`` is overwritten."""
    if gram.is_cuda or len(gram) <= _SMALL:
        with threads(1):
            values, vectors = torch.linalg.eigh(gram)
        return values, vectors
    import scipy.linalg  # only here, so that a machine with a GPU and torch alone needs none

    # the transpose lies as Fortran has it, so that nothing is copied
    found = scipy.linalg.eigh(gram.numpy().T, lower=False, driver="evr", overwrite_a=True, check_finite=False)
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])


def _limits(eigenvalues: Tensor, norm: float, delta: float) -> _Limits:
    g = _GRAM_ROUNDING * _EPS * norm**2
    resolved = eigenvalues[eigenvalues > max((_MARGIN * delta) ** 2, _MARGIN * g)]
    if len(resolved) == 0:
        return _Limits(len(eigenvalues), resolved)
    smallest = float(resolved[0])
    eta = delta / math.sqrt(smallest)
    # delta * sqrt(smallest) is delta^2 / eta; the last factor is for singular vectors that the rounding of the Gram
    # matrix has turned towards each other
    dominating = ((1 + eta) * resolved + delta**2 + delta * math.sqrt(smallest) + g) * (1 + 4 * g / smallest)
    return _Limits(len(eigenvalues) - len(resolved), dominating)


def _orthonormalise(rows: Tensor) -> Tensor:
    """Make rows orthonormal in place, block by block: LAPACK's QR of them all would need twice their memory."""
    for start in range(0, len(rows), _BLOCK):
        block, before = rows[start : start + _BLOCK], rows[:start]
        for _ in range(2):
            block.addmm_(block @ before.T, before, alpha=-1)
            block.copy_(torch.linalg.qr(block.T).Q.T)
    return rows


def _checked_norm(jacobian: Tensor, error: float | None) -> float:
    if jacobian.dim() != 2 or jacobian.shape[1] == 0 or not jacobian.is_floating_point():
        raise ValueError(
            f"jacobian: expected floating-point (features, inputs), got {jacobian.dtype} {tuple(jacobian.shape)}"
        )
    if error is not None and not (math.isfinite(error) and error >= 0):
        raise ValueError(f"error: expected a finite number >= 0, got {error!r}")
    norm = float(torch.linalg.vector_norm(jacobian, dtype=torch.float64))
    if not math.isfinite(norm):
        raise ValueError("jacobian: expected finite numbers, got NaN or infinity")
    return norm


def _rounding(jacobian: Tensor, norm: float) -> float:
    return _JACOBIAN_ROUNDING * torch.finfo(jacobian.dtype).eps * norm
