"""What leaves is Gaussian given the input, and its size depends on the input as well as its mean.

An entry with next to no noise (`Moments.bare`) has no Fisher information in float64: it tells its mean exactly. Bounds
then hold for a reader who is told every input that such an entry depends on, which can only lower them.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hushsweep.workers.bounds.heteroscedastic import chi_square_heteroscedastic

_BARE = 2.0**-40
"""Noise below this share of the largest mean is none: the mean's own rounding is a 4000th of it."""


class Moments(NamedTuple):
    """Mean and standard deviation of independent Gaussian entries, ``(..., d)`` each, in the entries' own unit."""

    mean: Tensor
    std: Tensor

    @property
    def bare(self) -> Tensor:
        """``(..., d)`` bool: entries that leave without noise, constants among them."""
        if self.mean.shape[-1] == 0:
            return torch.zeros_like(self.mean, dtype=torch.bool)
        largest = self.mean.detach().abs().amax(-1, keepdim=True)
        return self.std.detach() <= _BARE * largest


def chi_square_channel(clean: Moments, shifted: Moments) -> Tensor:
    """Return the chi-square divergence of ``shifted`` from ``clean``, as `chi_square_heteroscedastic` where noise is.

    An entry without noise adds nothing if the shift leaves it exactly as it is, and makes it infinite otherwise: a
    reader who sees it tells the two inputs apart without error. So does one that loses its noise by the shift.

    Args:
        clean: at the true input, ``(..., d)``; an empty d tells nothing.
        shifted: at the shifted one, of a shape to which ``clean`` broadcasts.

    Returns:
        ``(...)`` float64, dimensionless, >= 0.

    Raises:
        ValueError: a number is NaN, or a standard deviation is infinite.
    """
    mean, std = (value.double().expand(shifted.mean.shape) for value in clean)
    bare = clean.bare.expand(shifted.mean.shape)
    shift = shifted.mean.double() - mean
    changed = bare & ((shift != 0) | (shifted.std != std))
    lost = ~bare & (shifted.std == 0)
    finite = chi_square_heteroscedastic(
        torch.where(bare, 0.0, shift),
        torch.where(bare, 1.0, std),
        torch.where(bare, 1.0, torch.where(lost, std, shifted.std.double())),
    )
    return torch.where((changed | lost).any(-1), torch.inf, finite)


def fisher_map(moments: Moments) -> Tensor:
    """Return the map whose Jacobian G gives the Fisher information of the input as G'G.

    ``[mean / std0 ; sqrt(2) ln std]`` with ``std0`` the standard deviation at hand, not differentiated:
    ``J' S^-2 J + 2 (dS/S)' (dS/S)`` for mean and size of independent Gaussian entries (Kay 1993, Fundamentals of
    Statistical Signal Processing I, Eq. 3.31). It is meant to be differentiated where it is evaluated, and nowhere
    else. Entries without noise are 0.

    Args:
        moments: differentiable, ``(..., d)``.

    Returns:
        ``(..., 2 d)``, dimensionless.
    """
    bare = moments.bare
    std = torch.where(bare, 1.0, moments.std)
    mean = torch.where(bare, 0.0, moments.mean / std.detach())
    return torch.cat([mean, math.sqrt(2) * std.log()], dim=-1)
