"""Bounds from telling images apart, with the exact density of what leaves given each image."""

from typing import NamedTuple

import torch
from torch import Tensor

from hushsweep.workers.information.channel import checked, columns

_ROUNDING = 1e-14
"""Relative rounding of a squared distance that is expanded into products."""
_TOLERATED = 1e-6
"""Rounding of a log density, nats, above which it is computed again without expanding."""
_NEGLIGIBLE = 60.0
"""Nats below the image's own log density at which another image no longer matters."""
_PAIRS = 2**22
"""Differences held at once: 32 MiB."""


class Contrast(NamedTuple):
    """Two bounds on I(X; X'), nats, one number per image whose noised version was looked at; see `contrast`."""

    lower: Tensor
    """InfoNCE, ``(n,)`` float64, each at most ln K: the mean over all K images is a lower bound."""
    upper: Tensor
    """Leave-one-out, ``(n,)`` float64: the mean over all K images is an upper bound."""


def contrast(log_density: Tensor, own: Tensor) -> Contrast:
    """Bound I(X; X') from the exact densities ``p(x'_i | x_k)`` of K images drawn independently.

    *Lower* (InfoNCE, van den Oord et al. 2018, arXiv:1807.03748, with the exact density for its critic; the image
    itself is among the K): the mean over i of ``ln p(x'_i|x_i) - ln (1/K) sum_k p(x'_i|x_k)``. Given the images and a
    random i, X' has the mixture ``q = (1/K) sum_k p(.|x_k)`` for its density, and so
    ``I(X; X') - E[lower] = E KL(q || p(x')) >= 0``. No value is above ln K, as the sum holds the numerator: where the
    truth is larger it says no more than ln K. Were there no other images than these K, all equally likely, its
    expectation over the noise would be I(X; X') itself.

    *Upper* (leave-one-out, Poole et al. 2019, arXiv:1905.06922, section 2): the same with the K - 1 *other* images in
    the mean. They are independent of x'_i, so by Jensen ``E ln (1/(K-1)) sum p(x'_i|x_k) <= E ln p(x'_i)``. It is of
    use where the noise hides an image among others, and very large where it does not.

    Both hold in expectation over images and noise for every attacker who sees X' once, and for images drawn like
    these; what is returned are their terms.

    Args:
        log_density: ``ln p(x'_i | x_k)``, nats, ``(n, K)`` float64 from `log_densities`, K >= 2.
        own: number k of the image that x'_i came from, ``(n,)`` integers.

    Raises:
        ValueError: fewer than 2 images, or shapes do not fit.
    """
    if log_density.dim() != 2 or own.shape != log_density.shape[:1] or log_density.shape[1] < 2:
        raise ValueError(
            f"log_density: expected (n, K) with K >= 2 and own (n,), got {tuple(log_density.shape)} "
            f"and {tuple(own.shape)}"
        )
    images = log_density.shape[1]
    log_density = log_density.to(torch.float64)
    true = log_density.gather(1, own[:, None]).squeeze(1)
    others = log_density.scatter(1, own[:, None], -torch.inf).logsumexp(1)
    count = torch.tensor([images, images - 1], dtype=torch.float64).log().tolist()
    return Contrast(true - torch.logaddexp(true, others) + count[0], true - others + count[1])


def log_densities(unit: Tensor, own: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log density of noised images, given each of K images.

    Products of matrices do most of it; pairs of which rounding could show (near duplicates under little noise) are
    computed again one by one.

    Args:
        unit: N(0, I) noise z of ``x'_i = m(x_i) + s(x_i) z_i``, ``(n, d)``.
        own: number of the image that each row of noise belongs to, ``(n,)`` integers, 0..K-1.
        mean: m of the K images, ``(K, d)``, in the units of what leaves.
        std: s of the K images, ``(K, d)``, same unit, > 0.

    Returns:
        ``ln p(x'_i | x_k)`` plus ``(d/2) ln 2 pi``, which no difference sees, ``(n, K)`` float64, nats.

    Raises:
        ValueError: shapes differ, or a standard deviation is not a finite number > 0.
    """
    mean, std = checked(mean, std)
    if unit.shape != (len(own), mean.shape[1]):
        raise ValueError(f"unit: expected ({len(own)}, {mean.shape[1]}), got {tuple(unit.shape)}")
    unit = unit.to(torch.float64)
    distance, size = (mean.new_zeros(len(unit), len(mean)) for _ in range(2))
    log_std = mean.new_zeros(len(mean))
    for part in columns(mean.shape[1]):
        centre = mean[:, part].mean(0)
        sample = mean[own, part] + std[own, part] * unit[:, part] - centre
        centred, weight = mean[:, part] - centre, std[:, part].square().reciprocal()
        squares = sample.square() @ weight.T + (centred.square() * weight).sum(1)
        size += squares
        distance += squares - 2 * sample @ (centred * weight).T
        log_std += std[:, part].log().sum(1)
    found = -distance / 2 - log_std
    exact = -unit.square().sum(1) / 2 - log_std[own]
    error = _ROUNDING * size
    matters = (error > _TOLERATED) & (found + error > (exact - _NEGLIGIBLE)[:, None])
    matters.scatter_(1, own[:, None], False)
    found.scatter_(1, own[:, None], exact[:, None])
    pairs, step = matters.nonzero(), max(1, _PAIRS // max(1, mean.shape[1]))
    for start in range(0, len(pairs), step):
        # (m_i - m_k + s_i z) / s_k, without the size of the means themselves
        row, other = pairs[start : start + step].T
        there = own[row]
        shift = (mean[there] - mean[other] + std[there] * unit[row]) / std[other]
        found[row, other] = -shift.square().sum(1) / 2 - log_std[other]
    return found
