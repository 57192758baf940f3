"""Chi-square divergence between additive noise around two feature vectors, in closed form.

With independent noise on every feature, ``1 + chi_square`` is a product over the features; it is summed in logarithms,
so that neither a tiny nor a huge shift loses the result.
"""

import math

import torch
from torch import Tensor


def chi_square_gaussian(feature_shift: Tensor, noise_std: float | Tensor) -> Tensor:
    """Return the chi-square divergence of Gaussian noise around two feature vectors.

    ``expm1(|feature_shift|^2 / noise_std^2)``: Chaudhuri et al. (2024), arXiv:2404.02866v3, Eq. (5). The published code
    forms ``exp(d^2) - 1`` in float32, which is 5 % off at d = 1/1000.

    Args:
        feature_shift: ``(..., features)``, feature units.
        noise_std: standard deviation of the noise on every feature, feature units, > 0: one number, or a tensor that
            broadcasts to ``feature_shift``, e.g. ``(features,)``.

    Returns:
        ``(...)`` float64, dimensionless, >= 0; ``inf`` where it overflows (the bound is then 0).

    Raises:
        ValueError: ``noise_std`` is not positive or does not fit, or ``feature_shift`` has a NaN.
    """
    return torch.expm1(_in_units_of(noise_std, "noise_std", feature_shift).square().sum(-1))


def chi_square_anisotropic(feature_shift: Tensor, covariance: Tensor) -> Tensor:
    """Return the chi-square divergence of correlated Gaussian noise around two feature vectors.

    ``expm1(z' covariance^-1 z)`` by Cholesky's factorisation: `chi_square_gaussian` of the whitened shift.

    Args:
        feature_shift: ``(..., features)``, feature units, finite.
        covariance: of the noise, ``(features, features)``, feature units squared, symmetric positive definite.

    Returns:
        ``(...)`` float64, dimensionless, >= 0; ``inf`` where it overflows.

    Raises:
        ValueError: the shapes do not fit, ``covariance`` is not symmetric positive definite, or an entry of
            ``feature_shift`` is not finite.
    """
    features = feature_shift.shape[-1]
    if covariance.shape != (features, features):
        raise ValueError(f"covariance: expected shape {(features, features)}, got {tuple(covariance.shape)}")
    if not bool(feature_shift.isfinite().all()):
        raise ValueError("feature_shift: expected finite numbers, got NaN or an infinite one")
    covariance = covariance.double()
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if bool(failed) or not torch.allclose(covariance, covariance.T, rtol=1e-9, atol=0):
        raise ValueError("covariance: expected a symmetric positive definite matrix")
    z = feature_shift.double()
    # the substitution of a huge shift may overflow to inf - inf, of a shift of size 1 it does not
    size = z.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(z.dtype).tiny)
    white = torch.linalg.solve_triangular(factor, (z / size).unsqueeze(-1), upper=False).squeeze(-1)
    return torch.expm1((white.norm(dim=-1) * size.squeeze(-1)).square())


def chi_square_laplace(feature_shift: Tensor, scale: float) -> Tensor:
    """Return the chi-square divergence of Laplace noise around two feature vectors.

    For one feature shifted by ``t`` scales ``1 + chi_square = (2/3) exp(t) + (1/3) exp(-2 t)``; in the form
    ``chi_square = expm1(-t)^2 (2 exp(t) + 1) / 3`` nothing cancels at small ``t``.

    Args:
        feature_shift: ``(..., features)``, feature units.
        scale: scale b of the noise on every feature, feature units, > 0; its standard deviation is b sqrt(2).

    Returns:
        ``(...)`` float64, dimensionless, >= 0; ``inf`` where it overflows.

    Raises:
        ValueError: ``scale`` is not a positive number, or ``feature_shift`` has a NaN.
    """
    t = _in_units_of(scale, "scale", feature_shift).abs()
    # log(expm1(-t)^2 (2 e^t + 1) / 3 + 1), split at t = 30 where the small terms are below rounding
    small = t.clamp(max=30)
    log1p = torch.log1p(torch.expm1(-small).square() * (2 * torch.exp(small) + 1) / 3)
    return torch.expm1(torch.where(t > 30, t + math.log(2 / 3), log1p).sum(-1))


def require_positive(name: str, value: float) -> None:
    """Refuse a number that is not finite and > 0.

    Raises:
        ValueError: it is not.
    """
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: expected a finite number > 0, got {value!r}")


def positive_like(name: str, value: float | Tensor, like: Tensor) -> Tensor:
    """Return a positive number or tensor as float64 on the device of ``like``, to whose shape it must broadcast.

    Raises:
        ValueError: an entry is not finite and > 0, or the shape does not fit.
    """
    if not isinstance(value, Tensor):
        require_positive(name, value)
        return torch.as_tensor(value, dtype=torch.float64, device=like.device)
    try:
        value.expand(like.shape)
    except RuntimeError as error:
        raise ValueError(
            f"{name}: shape {tuple(value.shape)} does not broadcast to {tuple(like.shape)}"
        ) from error
    value = value.to(like.device, torch.float64)
    wrong = ~(value.isfinite() & (value > 0))
    if bool(wrong.any()):
        raise ValueError(f"{name}: expected finite numbers > 0, got {value[wrong][0].item()!r}")
    return value


def _in_units_of(unit: float | Tensor, name: str, feature_shift: Tensor) -> Tensor:
    scale = positive_like(name, unit, feature_shift)
    if torch.isnan(feature_shift).any():
        raise ValueError("feature_shift: expected numbers, got NaN")
    return feature_shift.double() / scale
