"""Bounds for every estimator, biased or not, from two inputs whose noised features are hard to tell apart (Le Cam)."""

import math

import torch
from torch import Tensor

from hushsweep.workers.bounds.chi_square import require_positive

_NODES = 160
_ROUNDING = 1e-13  # relative, of the quadrature; given away so that the bound stays one


def two_point_mse_bound(shift_norm: Tensor, distance: Tensor) -> Tensor:
    """Lower-bound the squared error of every estimator, averaged over two inputs, under Gaussian noise.

    ``|e|^2 g(d)``, the exact Bayes error for the inputs x and x + e with equal odds: g(d) = E[pi (1 - pi)],
    pi = 1 / (1 + exp L), L ~ N(d^2 / 2, d^2); g(0) = 1/4. Holds for every estimator, biased or not, whatever it knows:
    the squared errors at x and at x + e average to at least this, so one of them is at least this. It says nothing
    about x alone: guessing x whatever happens is exact at x. Le Cam (1973); e.g. Tsybakov (2009), section 2.2.

    Args:
        shift_norm: Euclidean norm of e, ``(...)``, unit of the input.
        distance: d, Euclidean norm of the displacement of the features in units of the noise's standard deviation.

    Returns:
        Float64 of the shape that both broadcast to, square of the input's unit: the total over all entries. Never
        above the exact value, and within 1e-12 of it, relatively, up to d = 40.

    Raises:
        ValueError: a number is negative or NaN, or ``shift_norm`` is infinite.
    """
    return _size(shift_norm).square() * _posterior_variance(_at_least_zero("distance", distance))


def two_point_mse_bound_laplace(shift_norm: Tensor, feature_shift: Tensor, scale: float) -> Tensor:
    """Lower-bound the squared error of every estimator, averaged over two inputs, under Laplace noise.

    ``|e|^2 BC^2 / 4`` with the Bhattacharyya coefficient ``BC = prod (1 + |z| / 2b) exp(-|z| / 2b)`` over the
    features; by Cauchy-Schwarz the exact Bayes error is at least that. Otherwise as `two_point_mse_bound`.

    Args:
        shift_norm: Euclidean norm of e, ``(...)``, unit of the input.
        feature_shift: displacement of the features, ``(..., features)``, feature units.
        scale: scale b of the noise on every feature, feature units, > 0; its standard deviation is b sqrt(2).

    Returns:
        ``(...)`` float64, square of the input's unit: the total over all entries.

    Raises:
        ValueError: ``scale`` is not a positive number, ``shift_norm`` is negative or not finite, or ``feature_shift``
            has a NaN.
    """
    require_positive("scale", scale)
    half = _at_least_zero("feature_shift", feature_shift.abs()) / scale / 2
    logarithm = torch.where(half.isinf(), -torch.inf, torch.log1p(half) - half).sum(-1)
    return _size(shift_norm).square() * torch.exp(2 * logarithm) / 4


def indistinguishability_radius(shift_norm: Tensor, distance: Tensor, threshold: float) -> Tensor:
    """Return the length of the longest shift whose noised features stay within a distance of those of the input.

    Every reader who tells x from x + e at distance d errs with probability at least Phi(-d / 2) on average. A lower
    bound of the true radius, for every estimator: only the shifts given were tried.

    Args:
        shift_norm: Euclidean norms of the shifts, ``(..., m)``, unit of the input.
        distance: norms of the displacements of the features in units of the noise's standard deviation, ``(..., m)``.
        threshold: largest distance that counts as indistinguishable, >= 0.

    Returns:
        ``(...)`` float64, unit of the input; 0 where no shift is that close.

    Raises:
        ValueError: shapes differ, a number is negative or NaN, or ``shift_norm`` is infinite.
    """
    if shift_norm.shape != distance.shape or shift_norm.dim() < 1:
        raise ValueError(
            "shift_norm, distance: expected one shape (..., m), "
            f"got {tuple(shift_norm.shape)} and {tuple(distance.shape)}"
        )
    if not threshold >= 0:
        raise ValueError(f"threshold: expected a number >= 0, got {threshold}")
    near = torch.where(_at_least_zero("distance", distance) <= threshold, _size(shift_norm), 0.0)
    return torch.nn.functional.pad(near, (1, 0)).amax(-1)


def _posterior_variance(distance: Tensor) -> Tensor:
    """Compute ``g``, ``(...)`` to ``(...)``.

    Around the middle of the two points g(d) = exp(-d^2 / 8) / 4 E[1 / cosh(y d / 2)] with y ~ N(0, 1): nothing
    cancels. The integrand is analytic but for poles at distance pi / d from the real axis, so the trapezoidal rule of
    step h <= 1 / (2 d) is exact to exp(-2 pi^2 / (d h)) = exp(-39).
    """
    d = distance.clamp(max=100).unsqueeze(-1)  # g(100) underflows to 0
    step = 0.5 / d.clamp(min=1)
    y = step * torch.arange(_NODES + 1, dtype=d.dtype, device=d.device)
    f = torch.exp(-y.square() / 2) / torch.cosh(y * d / 2)
    mean = (2 * f.sum(-1) - f[..., 0]) * step.squeeze(-1) / math.sqrt(2 * math.pi)
    g = torch.exp(-distance.clamp(max=100).square() / 8) / 4 * mean * (1 - _ROUNDING)
    return torch.where(distance == 0, 0.25, g)


def _size(shift_norm: Tensor) -> Tensor:
    size = _at_least_zero("shift_norm", shift_norm)
    if bool(size.isinf().any()):
        raise ValueError("shift_norm: expected finite numbers, got an infinite one")
    return size


def _at_least_zero(name: str, value: Tensor) -> Tensor:
    if not bool((value >= 0).all()):
        raise ValueError(f"{name}: expected numbers >= 0, got a negative one or NaN")
    return value.double()
