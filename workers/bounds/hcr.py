"""The Hammersley-Chapman-Robbins bound of given shifts."""

import math

import torch
from torch import Tensor


def hcr_std_bound(input_shift: Tensor, chi_square: Tensor) -> Tensor:
    """Lower-bound the standard deviation of every unbiased estimate of each input entry.

    ``|shift_k| / sqrt(chi_square)``: Chaudhuri et al. (2024), arXiv:2404.02866v3, Eq. (5). Holds for every unbiased
    estimator and for any shift, so the maximum over several shifts is also a bound. Says nothing about biased
    estimates, e.g. with a prior. Entries may be those of any orthonormal basis, e.g. DCT modes, as long as the shift is
    given in it.

    Args:
        input_shift: ``(..., *input)``, in the unit that the bound shall have, finite, no shift zero altogether.
        chi_square: ``(...)``, one number for every shift, dimensionless, >= 0; ``inf`` gives a bound of 0. Its
            shape says which axes of ``input_shift`` count shifts: ``()``, ``(n,)``, ``(n, m)``, ...

    Returns:
        ``(..., *input)`` float64, unit of ``input_shift``. Where ``chi_square`` is 0, ``inf`` for a nonzero entry and 0
        for a zero one.

    Raises:
        ValueError: the shape of ``chi_square`` is not the beginning of that of ``input_shift``, ``chi_square`` has a
            negative or NaN entry, or a shift is not finite or zero altogether.
    """
    batch = chi_square.dim()
    if chi_square.shape != input_shift.shape[:batch]:
        raise ValueError(
            f"chi_square: expected the first axes of the shifts' shape {tuple(input_shift.shape)}, "
            f"got shape {tuple(chi_square.shape)}"
        )
    if not bool((chi_square >= 0).all()):
        raise ValueError("chi_square: expected numbers >= 0, got a negative one or NaN")
    shift = input_shift.double().abs()
    if not bool(shift.isfinite().all()):
        raise ValueError("input_shift: expected finite numbers, got NaN or an infinite one")
    zero = ~shift.reshape(*chi_square.shape, math.prod(shift.shape[batch:])).any(-1)
    refuse_shifts("input_shift", "expected a nonzero entry, got a shift of zeros", zero)
    bound = shift / chi_square.double().sqrt()[(..., *[None] * (shift.dim() - batch))]
    return torch.where(shift == 0, 0.0, bound)


def refuse_shifts(name: str, reason: str, refused: Tensor) -> None:
    """Name the first of the shifts that are marked in ``refused``, ``(...)`` bool.

    Raises:
        ValueError: one is.
    """
    places = refused.nonzero()
    if len(places):
        index = ", ".join(str(int(place)) for place in places[0])
        more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
        raise ValueError(f"{name}{f'[{index}]' if index else ''}: {reason}{more}")
