"""Chi-square divergence where the size of the noise depends on the input as well."""

import torch
from torch import Tensor

from hushsweep.workers.bounds.chi_square import positive_like


def chi_square_heteroscedastic(
    feature_shift: Tensor, noise_std: float | Tensor, shifted_noise_std: float | Tensor
) -> Tensor:
    """Return the chi-square divergence of independent Gaussian features whose standard deviations change, too.

    Of N(a + z, s1^2) from N(a, s0^2): ``1 + chi_square`` is the product over the features of
    ``s0^2 / (s1 sqrt(2 s0^2 - s1^2)) exp(z^2 / (2 s0^2 - s1^2))``, the Gaussian integral of the squared density
    ratio; it diverges once s1^2 >= 2 s0^2 for some feature. With s0 at the true input and s1 at the shifted one,
    `hcr_std_bound` holds for every unbiased estimator at the true input. Even z = 0 is told apart if the noise differs.

    Args:
        feature_shift: z, ``(..., features)``, feature units.
        noise_std: s0, feature units, > 0: one number, or a tensor that broadcasts to ``feature_shift``.
        shifted_noise_std: s1, likewise.

    Returns:
        ``(...)`` float64, dimensionless, >= 0; ``inf`` where it diverges or overflows (the bound is then 0).

    Raises:
        ValueError: a standard deviation is not positive or does not fit, or ``feature_shift`` has a NaN.
    """
    clean = positive_like("noise_std", noise_std, feature_shift)
    shifted = positive_like("shifted_noise_std", shifted_noise_std, feature_shift)
    if torch.isnan(feature_shift).any():
        raise ValueError("feature_shift: expected numbers, got NaN")
    ratio = shifted / clean
    # r = s1^2 / s0^2 - 1, whose digits survive when both are nearly equal; the factor before exp is (1 - r^2)^(-1/2)
    r = (shifted - clean) / clean * (ratio + 1)
    log_factor = -0.5 * torch.where(
        r.abs() < 0.5, torch.log1p(-r.square()), 2 * ratio.log() + torch.log1p(-r)
    )
    log1p = log_factor + (feature_shift.double() / clean).square() / (1 - r)
    return torch.expm1(torch.where(r >= 1, torch.inf, log1p).sum(-1))
