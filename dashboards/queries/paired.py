"""Is a difference between two points real? Statistics of pairs, an image each."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

LEVEL = 0.95
MCNEMAR, BOOTSTRAP = "McNemar, exact", "paired bootstrap"
_SEED = 20240206
"""The same store gives the same interval."""
_RESAMPLES, _FEWER = 9999, 1999
_MANY = 5000
"""Images from which on fewer resamples do: the interval is so narrow that its own error does not show."""
_BATCH = 2_000_000


class Difference(NamedTuple):
    """What pairs say of a difference.

    Attributes:
        mean: Mean over images of a - b, in the unit of the values.
        low: Lower end of its 95 % bootstrap interval.
        high: Upper end.
        p_value: Two-sided, of the hypothesis that the mean difference is 0.
        test: What gave the p-value.
    """

    mean: float
    low: float
    high: float
    p_value: float
    test: str


def compare_pairs(a: Values, b: Values, *, is_share: bool) -> Difference:
    """Compare two values of each image.

    Shares that are all 0 or 1, as of answers that are right or wrong, are compared by McNemar's exact test; all else by
    a bootstrap of the differences over images, which leaves open how they are distributed.

    Args:
        a: ``(n,)``, a value per image; n >= 2.
        b: ``(n,)``, of the same images in the same order.
        is_share: Whether a value is the share of draws with a right answer.
    """
    mean, low, high, p_value = bootstrap(a - b)
    if is_share and bool(np.isin(np.concatenate([a, b]), (0.0, 1.0)).all()):
        return Difference(mean, low, high, mcnemar(int((a > b).sum()), int((a < b).sum())), MCNEMAR)
    return Difference(mean, low, high, p_value, BOOTSTRAP)


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value of McNemar's exact test.

    Args:
        only_a: Images that A alone has right.
        only_b: Images that B alone has right.

    Returns:
        The chance of parts at least so unequal of the images on which A and B differ, were each as likely to fall
        to A as to B; 1 where they differ on none.
    """
    from scipy.stats import binomtest

    differing = only_a + only_b
    return float(binomtest(only_a, differing, 0.5).pvalue) if differing else 1.0


def bootstrap(differences: Values) -> tuple[float, float, float, float]:
    """Mean of the differences, its 95 % percentile interval and a two-sided p-value of the mean being 0.

    Images are drawn with replacement; p is twice the share of resamples whose mean lies on the other side of 0, so that
    it is below 0.05 where the interval leaves 0 out, and never below 2 / (resamples + 1).

    Args:
        differences: ``(n,)``, one per image; n >= 2.
    """
    from scipy.stats import bootstrap as resample

    mean = float(differences.mean())
    if np.ptp(differences) == 0:  # every resample has the same mean
        return mean, mean, mean, 1.0 if mean == 0 else 2.0 * 0.5 ** len(differences)
    found: Any = resample(
        (differences,),
        np.mean,
        n_resamples=_RESAMPLES if len(differences) <= _MANY else _FEWER,
        batch=max(1, _BATCH // len(differences)),
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    )
    means = found.bootstrap_distribution
    beyond = min(int((means <= 0).sum()), int((means >= 0).sum()))
    p_value = min(1.0, 2.0 * (beyond + 1) / (len(means) + 1))
    return mean, float(found.confidence_interval.low), float(found.confidence_interval.high), p_value
