"""How well the best reader would do if the features were linear and the inputs Gaussian."""

import torch
from torch import Tensor

from hushsweep.workers.bounds.chi_square import positive_like


def linear_gaussian_mmse(jacobian: Tensor, noise_std: float | Tensor, prior_covariance: Tensor) -> Tensor:
    """Return the least mean squared error per entry for inputs N(m, C) seen through features ``J x`` plus noise.

    ``tr(C - C J' (J C J' + noise_std^2 I)^-1 J C) / p``: the posterior covariance of linear-Gaussian Bayes; C may be
    singular, it is never inverted. For a network, J being its Jacobian at the true image, this is an oracle's level
    and neither a bound nor an attack: the network is not linear, the images are not Gaussian, and J is not known to
    the reader.

    Args:
        jacobian: J, ``(..., features, inputs)``.
        noise_std: standard deviation of the Gaussian noise on every feature, feature units, > 0: one number, or
            several as ``(s,)``, which share one eigendecomposition.
        prior_covariance: C, ``(inputs, inputs)``, square of the input's unit, positive semidefinite.

    Returns:
        ``(...)``, or ``(..., s)`` for several ``noise_std``, float64, square of the input's unit; from 0 to
            ``tr C / p``.

    Raises:
        ValueError: the shapes do not fit, a number is not finite, ``noise_std`` is not positive or
            ``prior_covariance`` not symmetric and positive semidefinite.
    """
    if jacobian.dim() < 2 or not bool(jacobian.isfinite().all()):
        raise ValueError(
            f"jacobian: expected finite numbers (..., features, inputs), got {tuple(jacobian.shape)}"
        )
    J, C = jacobian.double(), prior_covariance.double()
    n, p = J.shape[-2:]
    if C.shape != (p, p) or not bool(((C - C.T).abs() <= 1e-9 * C.abs().amax()).all()):
        raise ValueError(f"prior_covariance: expected a symmetric ({p}, {p}) matrix, got {tuple(C.shape)}")
    std = torch.as_tensor(noise_std, dtype=torch.float64, device=J.device)
    if std.dim() > 1:
        raise ValueError(f"noise_std: expected one number or shape (s,), got {tuple(std.shape)}")
    variances = positive_like("noise_std", std, std).square().reshape(-1, 1)
    if n > p:
        J = torch.linalg.qr(J, mode="r").R  # the same J'J in p rows
    JC = J @ C
    values, vectors = torch.linalg.eigh(JC @ J.mT)
    rounding = 1e-8 * values.abs().sum(-1, keepdim=True)
    if bool((values < -rounding).any()) or bool((C.diagonal() < 0).any()):
        raise ValueError("prior_covariance: expected a positive semidefinite matrix, got a negative variance")
    told = (vectors.mT @ JC).square().sum(-1)  # |C J' u|^2 of every eigenvector u
    error: Tensor = C.trace() - (told.unsqueeze(-2) / (values.clamp(min=0).unsqueeze(-2) + variances)).sum(-1)
    error = error.clamp(min=0) / p
    return error if std.dim() else error.squeeze(-1)
