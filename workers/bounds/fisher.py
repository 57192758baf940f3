"""Bounds from the trace of the Fisher information alone."""

import torch
from torch import Tensor

from hushsweep.workers.bounds.chi_square import require_positive


def dfil(jacobian: Tensor, noise_std: float) -> Tensor:
    """Return the diagonal Fisher information leakage, ``tr(J'J) / (p noise_std^2)`` for p inputs.

    Maeng et al. (2023), arXiv:2305.04146. For every unbiased estimator of the whole input the mean squared error per
    entry is at least ``1 / dfil``, which is finite even where the Jacobian has no full column rank and no such
    estimator exists. For biased ones see `van_trees_mse_bound`. The Fisher information of Laplace noise of scale b is
    1 / b^2: give b, not its standard deviation b sqrt(2), as ``noise_std``.

    Args:
        jacobian: J of the features, ``(..., features, inputs)``.
        noise_std: standard deviation of the Gaussian noise on every feature (or Laplace's scale), feature units, > 0.

    Returns:
        ``(...)`` float64, one over the square of the input's unit, >= 0.

    Raises:
        ValueError: ``noise_std`` is not a positive number, or ``jacobian`` is no finite matrix.
    """
    require_positive("noise_std", noise_std)
    if jacobian.dim() < 2 or not bool(jacobian.isfinite().all()):
        raise ValueError(
            f"jacobian: expected finite numbers (..., features, inputs), got {tuple(jacobian.shape)}"
        )
    return (jacobian.double() / noise_std).square().sum((-2, -1)) / jacobian.shape[-1]


def van_trees_mse_bound(mean_dfil: Tensor | float, prior_information: Tensor | float) -> Tensor:
    """Lower-bound the mean squared error per entry of every estimator, biased or not, given a prior of the inputs.

    ``1 / (mean_dfil + prior_information)``: van Trees' inequality, with the trace form of Maeng et al. (2023),
    arXiv:2305.04146. Holds for every estimator, as an average over inputs drawn from the prior over which
    ``mean_dfil`` is averaged, too. It says nothing about one input: a constant guess is exact at one.

    Args:
        mean_dfil: expectation of `dfil` over the prior, one over the square of the input's unit, >= 0.
        prior_information: trace of the prior's own Fisher information divided by the number of inputs, same unit, > 0.
            For inputs to which N(0, tau^2) was added, entry by entry, it is at most ``1 / tau^2``, whatever they were.

    Returns:
        Float64 of the shape that both broadcast to, square of the input's unit.

    Raises:
        ValueError: a number is negative or not finite, or ``prior_information`` is 0.
    """
    information = torch.as_tensor(mean_dfil, dtype=torch.float64)
    prior = torch.as_tensor(prior_information, dtype=torch.float64, device=information.device)
    if not bool((information.isfinite() & (information >= 0)).all()):
        raise ValueError("mean_dfil: expected finite numbers >= 0")
    if not bool((prior.isfinite() & (prior > 0)).all()):
        raise ValueError("prior_information: expected finite numbers > 0")
    return 1 / (information + prior)
