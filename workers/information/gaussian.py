"""Closed-form upper bounds on the mutual information of a known Gaussian channel."""

import torch
from torch import Tensor

from hushsweep.workers.information.channel import checked, columns

LIMIT = 8192
"""Largest of min(images, entries) for which a covariance is decomposed: a float64 matrix of 0.5 GiB, and minutes."""
_STEEP = 1e10
"""Ratio of signal to noise from which eigenvalues of the Gram matrix are too coarse, and singular values are taken."""


def upper_diagonal(mean: Tensor, std: Tensor) -> float:
    """Upper-bound I(X; X') from the variance of every entry of X' alone.

    ``sum_j 1/2 ln Var(X'_j) - E sum_j ln s_j(X)`` with ``Var(X'_j) = Var m_j + E s_j^2``, over images *and* noise: the
    entropy of X' is at most that of a Gaussian with the same variances and independent entries. Holds for every
    attacker who sees X' once, whatever the images' distribution, of which their variances and E ln s are taken. From n
    images these are estimates: with d entries of Gaussian images the bound comes out too small by about d / n nats (by
    less where the noise is what varies).

    Args:
        mean: m of each image, ``(n, d)``, in the units of what leaves.
        std: s of each image, ``(n, d)``, same unit, > 0 (see `informative_entries`).

    Returns:
        Nats, >= 0; 0 for no entries.

    Raises:
        ValueError: shapes differ, or a standard deviation is not a finite number > 0.
    """
    mean, std = checked(mean, std)
    total = 0.0
    for part in columns(mean.shape[1]):
        noise = std[:, part].square().mean(0)
        signal = (mean[:, part] - mean[:, part].mean(0)).square().mean(0) / noise
        total += float((signal.log1p() / 2 + _spread(std[:, part])).sum())
    return total


def upper_full(mean: Tensor, std: Tensor) -> float:
    """Upper-bound I(X; X') from the covariance of X': never above `upper_diagonal`.

    ``1/2 ln det(Cov m + diag E s^2) - E sum_j ln s_j(X)``: the entropy of X' is at most that of a Gaussian with the
    same covariance. Holds for every attacker who sees X' once, and for images whose covariance *is* that of the n
    given. As a statement about all images like them it needs n well above d: the logarithm of the determinant of a
    covariance estimated from n images is too small, by some d^2 / (4n) nats where the signal is strong, and more if
    n < d. Then see `upper_held_out`.

    The determinant is that of ``I + U U'`` with U the centred means over the noise, whichever way U U' is smaller.

    Args:
        mean: m of each image, ``(n, d)``, in the units of what leaves.
        std: s of each image, ``(n, d)``, same unit, > 0 (see `informative_entries`).

    Returns:
        Nats, >= 0; 0 for no entries.

    Raises:
        ValueError: as `upper_diagonal`, or both n and d are above `LIMIT`.
    """
    mean, std = checked(mean, std)
    images, entries = mean.shape
    if min(images, entries) > LIMIT:
        raise ValueError(
            f"no covariance of {entries} entries from {images} images: above {LIMIT} of both it takes too long; "
            "use fewer images"
        )
    noise = std.square().mean(0)
    spread = sum(float(_spread(std[:, part]).sum()) for part in columns(entries))
    powers = _powers((mean - mean.mean(0)) / (images * noise).sqrt())
    return float(powers.log1p().sum()) / 2 + spread


def _spread(std: Tensor) -> Tensor:
    """``1/2 ln E s^2 - E ln s`` of each entry: >= 0, and exactly 0 where the noise does not depend on the image."""
    relative = std / std[:1]
    return relative.square().mean(0).log() / 2 - relative.log().mean(0)


def _powers(scaled: Tensor) -> Tensor:
    """Eigenvalues of ``scaled' scaled`` that are not 0, all >= 0."""
    images, entries = scaled.shape
    if entries <= images:
        gram = scaled.T @ scaled
    else:
        gram = scaled.new_zeros(images, images)
        for part in columns(entries):
            gram += scaled[:, part] @ scaled[:, part].T
    powers: Tensor = torch.linalg.eigvalsh(gram).clamp(min=0)
    if len(powers) and float(powers[-1]) > _STEEP:  # rounding of the largest would drown the smallest
        powers = torch.linalg.svdvals(scaled).square()
    return powers
