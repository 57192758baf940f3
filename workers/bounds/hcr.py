"""The Hammersley-Chapman-Robbins bound of given shifts."""

import torch
from torch import Tensor


def hcr_std_bound(input_shift: Tensor, chi_square: Tensor) -> Tensor:
    """Lower-bound the standard deviation of every unbiased estimate of each input entry.

    ``|shift_k| / sqrt(chi_square)``: Chaudhuri et al. (2024), arXiv:2404.02866v3, Eq. (5). Holds for any shift, so
    the maximum over several shifts is also a bound. Says nothing about biased estimates, e.g. with a prior. Entries
    may be those of any orthonormal basis, e.g. DCT modes, as long as the shift is given in it.

    Args:
        input_shift: ``(n, *input)``, in the unit that the bound shall have.
        chi_square: ``(n,)``, dimensionless, >= 0; ``inf`` gives a bound of 0.

    Returns:
        ``(n, *input)`` float64, unit of ``input_shift``. Where ``chi_square`` is 0, ``inf`` for a nonzero entry and 0
        for a zero one.

    Raises:
        ValueError: batch sizes differ, or ``chi_square`` has a negative or NaN entry.
    """
    if chi_square.shape != input_shift.shape[:1]:
        raise ValueError(
            f"chi_square: expected shape ({input_shift.shape[0]},) as for {input_shift.shape[0]} shifts, "
            f"got {tuple(chi_square.shape)}"
        )
    if not bool((chi_square >= 0).all()):
        raise ValueError("chi_square: expected numbers >= 0, got a negative one or NaN")
    shift = input_shift.double().abs()
    bound = shift / chi_square.double().sqrt().reshape(-1, *[1] * (shift.dim() - 1))
    return torch.where(shift == 0, 0.0, bound)
