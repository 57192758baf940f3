"""Barankin's bound from several shifts at once, in the form of McAulay and Seidman, under Gaussian noise."""

import torch
from torch import Tensor

from hushsweep.workers.bounds.basis import Basis, coordinates
from hushsweep.workers.bounds.chi_square import require_positive
from hushsweep.workers.bounds.hcr import refuse_shifts

_ROUNDING = 1e-11
_LEAST_ROUNDING = 1e-15  # that of the factorisation itself
_LONG = 709.0  # exp overflows soon after


def barankin_variance_bound(
    input_shifts: Tensor,
    feature_shifts: Tensor,
    noise_std: float,
    basis: Basis = None,
    *,
    rounding: float = _ROUNDING,
) -> Tensor:
    """Lower-bound the variance of every unbiased estimate of each coordinate by several shifts at once.

    With shifts e_1 ... e_m of the input and displacements z_i = features(x + e_i) - features(x), the diagonal of
    ``E G^-1 E'``, ``E = [e_1 ... e_m]``, ``G_ij = expm1(z_i . z_j / noise_std^2)``: McAulay and Seidman (1969), IEEE
    Trans. Inf. Theory 15(2), their form of Barankin (1949). Holds for every unbiased estimator and any shifts, however
    they were found; says nothing about biased estimates, e.g. with a prior. Never below the square of the HCR bound of
    any one of the shifts, and not below that of fewer shifts but for what ``rounding`` costs.

    Args:
        input_shifts: ``(..., m, inputs)``, in the unit that the bound shall have the square of.
        feature_shifts: ``(..., m, features)``, exact, feature units.
        noise_std: standard deviation of the Gaussian noise on every feature, feature units, > 0.
        basis: orthonormal coordinates in which the bound is stated; see `coordinates`.
        rounding: see `barankin_from_gram`.

    Returns:
        ``(..., k)`` float64, square of the unit of ``input_shifts``, >= 0.

    Raises:
        ValueError: shapes differ, a number is not finite, a shift moves no feature (the bound would be infinite; its
            coordinates are not identifiable), or what `barankin_from_gram` raises.
    """
    if input_shifts.dim() < 2 or input_shifts.shape[:-1] != feature_shifts.shape[:-1]:
        raise ValueError(
            "input_shifts, feature_shifts: expected shapes (..., m, inputs) and (..., m, features), "
            f"got {tuple(input_shifts.shape)} and {tuple(feature_shifts.shape)}"
        )
    z = feature_shifts.double()
    modes = coordinates(basis, input_shifts.shape[-1])(input_shifts)
    return barankin_from_gram(modes, z @ z.mT, noise_std, rounding=rounding)


def barankin_from_gram(
    modes: Tensor, gram: Tensor, noise_std: float, *, rounding: float = _ROUNDING
) -> Tensor:
    """Compute `barankin_variance_bound` from what does not depend on the noise, for many noise levels.

    ``G`` is scaled to a unit diagonal, and ``m rounding (1 + |z_i|^2 / noise_std^2)`` is added to entry (i, i). That
    dominates any error of the inner products up to ``rounding |z_i| |z_j|``, and adding to ``G`` can only lower the
    bound, so the result stays a bound though ``G`` be singular to rounding (shifts nearly parallel, or more of them
    than the features tell apart). The largest single-shift bound is taken where the regularised one is below it. A
    shift with |z_i|^2 > 709 noise_std^2 is left out: it would bound nothing (exp overflows).

    Args:
        modes: shifts in the basis, ``(..., m, k)``, m >= 1.
        gram: inner products z_i . z_j of their displacements, ``(..., m, m)``, feature units squared.
        noise_std: standard deviation of the Gaussian noise on every feature, feature units, > 0.
        rounding: error of ``gram`` relative to ``|z_i| |z_j|``. The default fits float64 features a with
            |a| < 100,000 |z_i|, whose difference z_i is off by some 1e-16 |a|; raise it for less exact displacements.

    Returns:
        ``(..., k)`` float64, square of the unit of ``modes``, >= 0.

    Raises:
        ValueError: shapes differ, a number is not finite, a nonzero shift has a zero displacement, or ``gram`` is not
            positive semidefinite to ``rounding``.
    """
    require_positive("noise_std", noise_std)
    modes, gram = modes.double(), gram.double()
    _check(modes, gram, rounding)
    squared = gram.diagonal(dim1=-2, dim2=-1) / noise_std / noise_std  # (..., m)
    used = (squared >= torch.finfo(squared.dtype).tiny) & (squared <= _LONG)
    # G to unit diagonal; a shift left aside has a row of zeros in `scaled` and one of the identity in G
    scale = torch.where(used, torch.expm1(squared), torch.inf).rsqrt().unsqueeze(-1)
    scaled = modes * scale
    both = used.unsqueeze(-1) & used.unsqueeze(-2)
    unit = torch.where(both, torch.expm1(gram / noise_std / noise_std) * scale * scale.mT, 0.0)
    loading = gram.shape[-1] * rounding * (1 + squared)
    unit.diagonal(dim1=-2, dim2=-1).copy_(1 + torch.where(used, loading, 0.0))
    factor, failed = torch.linalg.cholesky_ex(unit)
    if bool(failed.any()) or not bool(factor.isfinite().all()):
        raise ValueError(
            f"gram: expected a matrix that is positive semidefinite to rounding={rounding:g}; "
            "for displacements that are less exact give a larger rounding"
        )
    joint = torch.linalg.solve_triangular(factor, scaled, upper=False).square().sum(-2)
    return torch.maximum(joint, scaled.square().amax(-2))


def _check(modes: Tensor, gram: Tensor, rounding: float) -> None:
    if modes.dim() < 2 or modes.shape[-2] < 1 or gram.shape != (*modes.shape[:-1], modes.shape[-2]):
        raise ValueError(
            "modes, gram: expected shapes (..., m, k) and (..., m, m) with m >= 1, "
            f"got {tuple(modes.shape)} and {tuple(gram.shape)}"
        )
    if not rounding >= _LEAST_ROUNDING:
        raise ValueError(f"rounding: expected a number >= {_LEAST_ROUNDING:g}, got {rounding}")
    for name, value in (("shifts", modes), ("displacements", gram)):
        if not bool(value.isfinite().all()):
            raise ValueError(f"{name}: expected finite numbers, got NaN or an infinite one")
    still = (gram.diagonal(dim1=-2, dim2=-1) == 0) & (modes != 0).any(-1)
    refuse_shifts("shifts", "moves no feature, so what it changes is not identifiable: leave it out", still)
