"""The known Gaussian channel from an image to what leaves: X' = m(X) + s(X) z, z ~ N(0, I), entry by entry."""

from collections.abc import Iterator

import torch
from torch import Tensor

WIDTH = 4096
"""Entries worked on at once where a whole matrix of images by entries would be copied."""
_ROUNDING = 1e-6
"""Relative difference of means that is taken for rounding: a network rounds alike inputs a little differently."""


def informative_entries(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Leave out the entries that say nothing, and refuse those that say everything.

    An entry without noise (standard deviation 0 for every image) is a constant if its mean is: then it carries no
    information and drops out. If its mean varies it is a noiseless view of a continuous value, and the mutual
    information is infinite. So is the closed form where only some images have noise in an entry.

    Args:
        mean: m of each image, ``(n, d)`` float64, in the units of what leaves.
        std: s of each image, ``(n, d)`` float64, same unit, >= 0.

    Returns:
        Both without the constant entries, ``(n, d')`` float64; d' may be 0. The tensors given if nothing drops out.

    Raises:
        ValueError: the information is infinite, or a number is not finite, or a standard deviation negative.
    """
    if mean.dim() != 2 or mean.shape != std.shape or not len(mean):
        raise ValueError(
            f"mean, std: expected the same shape (images, entries), got {tuple(mean.shape)} and {tuple(std.shape)}"
        )
    if not (bool(mean.isfinite().all()) and bool(std.isfinite().all())):
        raise ValueError("a mean or a standard deviation of what leaves is not finite")
    if bool((std < 0).any()):
        raise ValueError("a standard deviation of what leaves is negative")
    silent = std == 0
    without = silent.all(0)
    varying = without & (mean.amax(0) - mean.amin(0) > _ROUNDING * mean.abs().amax(0))
    if bool(varying.any()):
        raise ValueError(
            f"infinite: {int(varying.sum())} entries leave without noise and vary between images"
        )
    partly = silent.any(0) & ~without
    if bool(partly.any()):
        raise ValueError(f"infinite: {int(partly.sum())} entries leave without noise for some of the images")
    if not bool(without.any()):
        return mean, std
    return mean[:, ~without], std[:, ~without]


def columns(entries: int) -> Iterator[slice]:
    """Cut the entries into slices of at most `WIDTH`."""
    for start in range(0, entries, WIDTH):
        yield slice(start, min(start + WIDTH, entries))


def checked(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in float64 if every entry has noise.

    Raises:
        ValueError: shapes differ, or a standard deviation is not a finite number > 0.
    """
    if mean.dim() != 2 or mean.shape != std.shape or not len(mean):
        raise ValueError(
            f"mean, std: expected the same shape (images, entries), got {tuple(mean.shape)} and {tuple(std.shape)}"
        )
    if not bool((std.isfinite() & (std > 0)).all()):
        raise ValueError("std: expected finite numbers > 0; see informative_entries")
    if not bool(mean.isfinite().all()):
        raise ValueError("mean: expected finite numbers")
    return mean.to(torch.float64), std.to(torch.float64)
