"""Was this image learned from? What scores give away, and what (epsilon, delta) leaves an attacker at most."""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import beta, rankdata

_FEW = 16
"""Images of a class below which its spread is that of all classes."""


class Rate(NamedTuple):
    """A true positive rate at a false positive rate, with its 95 % interval."""

    value: float
    low: float
    high: float
    false_positives: int
    """Non-members above the threshold."""


class Area(NamedTuple):
    """Area under the curve of true against false positive rates, with its standard error."""

    value: float
    stderr: float


def area(members: np.ndarray, others: np.ndarray) -> Area:
    """Chance that a member's score is above a non-member's, ties counting half.

    The standard error is that of DeLong, DeLong & Clarke-Pearson (1988).

    Args:
        members: ``(m,)`` scores, m >= 2.
        others: ``(n,)`` scores of non-members, n >= 2.
    """
    both = rankdata(np.concatenate([members, others]))
    beaten = (both[: len(members)] - rankdata(members)) / len(others)
    beating = 1 - (both[len(members) :] - rankdata(others)) / len(members)
    variance = beaten.var(ddof=1) / len(members) + beating.var(ddof=1) / len(others)
    return Area(float(beaten.mean()), float(math.sqrt(variance)))


def rate_at(members: np.ndarray, others: np.ndarray, false_rate: float) -> Rate | None:
    """True positive rate at the lowest threshold that at most a share ``false_rate`` of non-members is above.

    The interval is that of Clopper & Pearson (1934) for the members, the threshold taken as given.

    Args:
        members: ``(m,)`` scores, m >= 1.
        others: ``(n,)`` scores of non-members.
        false_rate: > 0 and < 1.

    Returns:
        None where a single false positive is more than the share.
    """
    allowed = math.floor(false_rate * len(others) + 1e-9)
    if allowed < 1:
        return None
    threshold = np.sort(others)[-1 - allowed]
    hits, count = int((members > threshold).sum()), len(members)
    low = float(beta.ppf(0.025, hits, count - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0
    return Rate(hits / count, low, high, int((others > threshold).sum()))


def rate_bound(epsilon: float, delta: float, false_rate: float) -> float:
    """Largest true positive rate of any attack at a false positive rate.

    min(e^epsilon FPR + delta, 1 - e^-epsilon (1 - delta - FPR)): Kairouz, Oh & Viswanath (2015), arXiv:1311.0776.

    Args:
        epsilon: nats, >= 0.
        delta: >= 0.
        false_rate: 0 to 1.
    """
    # the first grows beyond all floats; from 700 on it is above 1 for every rate that a float can hold
    first = math.exp(min(epsilon, 700.0)) * false_rate + delta
    second = 1 - math.exp(-epsilon) * (1 - delta - false_rate)
    return min(1.0, max(0.0, min(first, second)))


def standardised(
    confidence: np.ndarray, labels: np.ndarray, known: np.ndarray, known_labels: np.ndarray
) -> np.ndarray:
    """Confidences in standard deviations above what is usual for non-members of their class.

    The test of Carlini et al. (2022), arXiv:2112.03570, Section VI, with the population in place of shadow models, as
    the attack P of Ye et al. (2022), arXiv:2111.09679: weaker, since it does not know how hard an image is by itself.

    Args:
        confidence: ``(n,)`` log(p / (1 - p)) of the label's probability.
        labels: ``(n,)``.
        known: ``(k,)`` confidences of non-members that are not among them, k >= 2.
        known_labels: ``(k,)``.

    Returns:
        ``(n,)``. A class with fewer than 2 known images has the mean of all, one with fewer than 16 their spread about
        the class means.
    """
    mean, count = (
        known.mean(),
        {label: int((known_labels == label).sum()) for label in np.unique(known_labels)},
    )
    means = {label: known[known_labels == label].mean() for label, many in count.items() if many >= 2}
    centred = known - np.array([means.get(label, mean) for label in known_labels])
    pooled = math.sqrt(float((centred**2).sum()) / max(1, len(known) - max(1, len(means))))
    spreads = {
        label: known[known_labels == label].std(ddof=1) for label, many in count.items() if many >= _FEW
    }
    centre = np.array([means.get(label, mean) for label in labels])
    spread = np.array([spreads.get(label, pooled) for label in labels])
    scores: np.ndarray = (confidence - centre) / np.maximum(spread, 1e-150)
    return scores
