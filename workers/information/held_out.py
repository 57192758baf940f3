"""An upper bound that also holds for images that nobody looked at, by a Gaussian fitted to other images."""

from typing import NamedTuple

import torch
from torch import Tensor

from hushsweep.workers.information.channel import checked, columns
from hushsweep.workers.information.gaussian import LIMIT

SHRINKAGES = (0.0, 0.5, 0.9, 0.99)
"""How much of the covariance between entries a fit keeps; which, is decided within the images that it is fitted to."""


def upper_held_out(mean: Tensor, std: Tensor) -> Tensor:
    """Upper-bound I(X; X') without trusting any estimated entropy: one number per image, to be averaged.

    For every density q, ``I(X; X') <= E KL(p(x'|X) || q)``: the two sides differ by KL(p(x') || q). Here q is a
    Gaussian fitted to one half of the images (every other one) and the divergence, in closed form, is taken at the
    other half, and the other way round. The mean over images is then an unbiased estimate of an upper bound for images
    *drawn like these*, for every attacker who sees X' once, however few images there are and however poor the fit is.
    Its standard error is that of the mean (images of one half share a fit).

    The covariance of q is ``a Cov(m) + (1 - a) diag Var(m) + diag E s^2``, with the a of `SHRINKAGES` that does best
    between two quarters of the images that it is fitted to.

    Args:
        mean: m of each image, ``(n, d)``, in the units of what leaves; images in random or any evenly mixed order.
        std: s of each image, ``(n, d)``, same unit, > 0 (see `informative_entries`).

    Returns:
        ``(n,)`` float64, nats, >= 0 each.

    Raises:
        ValueError: shapes differ, a standard deviation is not a finite number > 0, fewer than 4 images, or more than
            2 x 8192 images and 8192 entries.
    """
    mean, std = checked(mean, std)
    images, entries = mean.shape
    if images < 4:
        raise ValueError(f"a held-out bound needs at least 4 images, got {images}")
    if min((images + 1) // 2, entries) > LIMIT:
        raise ValueError(
            f"no covariance of {entries} entries from {(images + 1) // 2} images: above {LIMIT} of both it takes too "
            "long; use fewer images"
        )
    found = mean.new_empty(images)
    halves = (slice(0, None, 2), slice(1, None, 2))
    for fitted, other in (halves, halves[::-1]):
        keep = _best(mean[fitted], std[fitted])
        found[other] = _Reference.fit(mean[fitted], std[fitted], keep).divergence(mean[other], std[other])
    return found


def _best(mean: Tensor, std: Tensor) -> float:
    """Return the share of the covariance that serves best between the two halves of these images."""
    even, odd = slice(0, None, 2), slice(1, None, 2)

    def cost(keep: float) -> float:
        return float(_Reference.fit(mean[even], std[even], keep).divergence(mean[odd], std[odd]).mean())

    return min(SHRINKAGES, key=cost)


class _Reference(NamedTuple):
    """A Gaussian of mean ``centre`` and covariance ``B^(1/2) (I + U' U) B^(1/2)``, B = diag(scale^2)."""

    centre: Tensor
    scale: Tensor
    rows: Tensor
    """U, ``(r, d)``."""
    factor: Tensor
    """Cholesky factor of ``I + U U'``, ``(r, r)``."""

    @classmethod
    def fit(cls, mean: Tensor, std: Tensor, keep: float) -> "_Reference":
        centre = mean.mean(0)
        scale = ((1 - keep) * (mean - centre).square().mean(0) + std.square().mean(0)).sqrt()
        rows = (
            (mean - centre) / scale * (keep / len(mean)) ** 0.5 if keep else mean.new_zeros(0, mean.shape[1])
        )
        if len(rows) > rows.shape[1]:  # the same U'U from fewer rows
            rows = torch.linalg.qr(rows, mode="r").R
        gram = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
        for part in columns(rows.shape[1]):
            gram += rows[:, part] @ rows[:, part].T
        return cls(centre, scale, rows, torch.linalg.cholesky(gram))

    def divergence(self, mean: Tensor, std: Tensor) -> Tensor:
        """KL divergence of N(mean, diag std^2) from this Gaussian, ``(n,)``, nats."""
        total = 2 * self.factor.diagonal().log().sum().expand(len(mean)).clone()
        projected = mean.new_zeros(len(mean), len(self.factor))
        for part in columns(mean.shape[1]):
            rows = torch.linalg.solve_triangular(self.factor, self.rows[:, part], upper=False)
            distance = (mean[:, part] - self.centre[part]) / self.scale[part]
            variance = (std[:, part] / self.scale[part]).square()
            total += (distance.square() + variance - variance.log() - 1).sum(
                1
            ) - variance @ rows.square().sum(0)
            projected += distance @ rows.T
        return (total - projected.square().sum(1)) / 2
