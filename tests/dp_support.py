"""Spendings, and epsilons by brute force: densities on a grid, all steps multiplied out."""

import functools
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, norm

from hushsweep.workers.accounting import Phase, Spending
from hushsweep.workers.accounting.spending import Relation

STEPS, EXAMPLES, DELTA = 39_062, 50_000, 1 / 75_000


def spent(
    noise_multiplier: float,
    *,
    steps: int = STEPS,
    sampling_rate: float = 128 / EXAMPLES,
    relation: Relation = "add_or_remove",
    copies: int = 1,
    delta: float = DELTA,
    label_epsilon: float = 0.0,
    query_noise_multiplier: float = 0.0,
) -> Spending:
    """One phase; unless told otherwise, the one of the guide to DP-SGD that the docs recompute."""
    phase = Phase(
        noise_multiplier=noise_multiplier,
        steps=steps,
        sampling_rate=sampling_rate,
        relation=relation,
        examples=EXAMPLES,
        copies=copies,
    )
    return Spending(
        phases=(phase,),
        delta=delta,
        label_epsilon=label_epsilon,
        query_noise_multiplier=query_noise_multiplier,
    )


def grid(noise: float, largest: float, points: int = 1500) -> np.ndarray:
    """Sums that are at all likely when records move them by at most ``largest`` either way."""
    return np.linspace(-largest - 9 * noise, largest + 9 * noise, points)


def density(x: np.ndarray, noise: float, rate: float, shift: float, copies: int = 1) -> np.ndarray:
    """Of a release in which Binomial(copies, rate) records move the sum by ``shift`` each."""
    chances = binom.pmf(np.arange(copies + 1), copies, rate)
    return sum(chance * norm.pdf(x, count * shift, noise) for count, chance in enumerate(chances))


def brute_epsilon(pairs: Sequence[tuple[np.ndarray, np.ndarray, float]], delta: float) -> float:
    """Least epsilon of independent releases, by multiplying out their densities.

    Args:
        pairs: per release densities with and without, and the grid's spacing.
        delta: which it may fail with.
    """
    p = functools.reduce(np.multiply.outer, [p * step for p, _, step in pairs]).ravel()
    q = functools.reduce(np.multiply.outer, [q * step for _, q, step in pairs]).ravel()

    def excess(epsilon: float) -> float:
        both = (np.maximum(a - np.exp(epsilon) * b, 0).sum() for a, b in ((p, q), (q, p)))
        return max(both) - delta

    return brentq(excess, 0, 60) if excess(0) > 0 else 0.0
