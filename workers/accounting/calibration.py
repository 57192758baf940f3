"""Noise for an epsilon that is given, and what a budget has to satisfy."""

import math
from collections.abc import Callable, Sequence

from scipy.optimize import brentq

from hushsweep.workers.accounting.epsilons import ACCOUNTANTS, Accountant
from hushsweep.workers.accounting.extra import require_dp
from hushsweep.workers.accounting.loss_distribution import grid_epsilon, loss_epsilon, refined_epsilon
from hushsweep.workers.accounting.renyi import ORDERS, classic, improved, renyi
from hushsweep.workers.accounting.spending import Phase, Relation, Spending
from hushsweep.workers.errors import PlugInError

_LEAST, _MOST = 0.05, 1e5
_TOLERANCE = 1e-4


def check_budget(delta: float, examples: int) -> None:
    """Refuse a delta that says nothing about a single record.

    Raises:
        PlugInError: ``delta`` is not between 0 and 1 / ``examples``, both excluded.
    """
    if not 0 < delta < 1:
        raise PlugInError(f"delta: expected > 0 and < 1, got {delta:g}; usual is 1e-5")
    if delta >= 1 / examples:
        raise PlugInError(
            f"delta: expected less than 1 / {examples} examples = {1 / examples:.3g}, got {delta:g}: so large a delta "
            "would allow publishing a whole record; give a smaller one"
        )


def noise_for_epsilon(
    epsilon: float,
    delta: float,
    *,
    steps: int,
    sampling_rate: float,
    relation: Relation = "add_or_remove",
    accountant: Accountant = "pld",
    orders: Sequence[float] = ORDERS,
    before: tuple[Phase, ...] = (),
) -> float:
    """Find the least noise with which a number of releases stays within an epsilon.

    Args:
        epsilon: that is not exceeded.
        delta: > 0 and < 1.
        steps: number of releases.
        sampling_rate: chance of each record to be in one.
        relation: when two data sets are neighbours.
        accountant: ``pld``, ``rdp`` or ``rdp_classic``.
        orders: of RDP.
        before: releases whose noise is settled, and which the epsilon has to cover as well.

    Returns:
        The noise multiplier: standard deviation over the sensitivity under ``relation``, at most 0.1 % too large.

    Raises:
        PlugInError: no noise comes to this epsilon, or the extra dp is not installed.
    """
    require_dp("a target epsilon")
    if accountant not in ACCOUNTANTS:
        raise PlugInError(f"accountant: expected one of {', '.join(ACCOUNTANTS)}, got {accountant!r}")
    if not 0 < epsilon < math.inf:
        raise PlugInError(f"target_epsilon: expected a finite number > 0, got {epsilon:g}")

    def spending(noise: float) -> Spending:
        phase = Phase(
            noise_multiplier=noise, steps=steps, sampling_rate=sampling_rate, relation=relation, examples=1
        )
        return Spending(phases=(*before, phase), delta=delta)

    def by_orders(noise: float) -> float:
        convert = classic if accountant == "rdp_classic" else improved
        return convert(renyi(spending(noise), orders), orders, delta).epsilon

    if accountant != "pld":
        return _solve(by_orders, epsilon, f"{accountant} over orders up to {orders[-1]:g}")
    if before:
        return _solve(lambda noise: loss_epsilon(spending(noise)), epsilon, "pld of all that is released")
    if sampling_rate == 1:
        from dp_accounting import get_sigma_gaussian

        return float(get_sigma_gaussian(epsilon, delta)) * math.sqrt(steps) * (1 + 1e-9)
    # the grid is chosen close to the solution; the search does with one that is safe by at most 0.1 %
    near = _central_limit(epsilon, delta, steps, sampling_rate, relation)
    step = 2 * refined_epsilon(spending(near)).step
    noise = _solve(lambda noise: grid_epsilon(spending(noise), step), epsilon, "pld", start=near, factor=1.1)
    while loss_epsilon(spending(noise)) > epsilon:
        noise *= 1 + _TOLERANCE
    return noise


def _central_limit(
    epsilon: float, delta: float, steps: int, sampling_rate: float, relation: Relation
) -> float:
    """About the noise wanted, many releases taken for one: Dong, Roth & Su (2022), arXiv:1905.02383, Corollary 5.4."""
    from dp_accounting import get_sigma_gaussian

    moved = 1 if relation == "add_or_remove" else 2
    mu = 1 / float(get_sigma_gaussian(epsilon, delta)) / moved
    noise = math.log1p((mu / sampling_rate) ** 2 / steps) ** -0.5 / moved
    return float(min(max(noise, _LEAST), _MOST))


def _solve(
    epsilon_of: Callable[[float], float],
    target: float,
    accountant: str,
    *,
    start: float = 1.0,
    factor: float = 2.0,
) -> float:
    """Find the least noise multiplier whose epsilon is at most ``target``, from ``start`` by ``factor`` at first."""
    low = high = start
    while epsilon_of(high) > target:
        low, high = high, factor * high
        if high > _MOST:
            least = epsilon_of(_MOST)
            raise PlugInError(
                f"target_epsilon {target:g}: unreachable for {accountant}, which gives {least:.4g} even at noise "
                f"multiplier {_MOST:g}; ask for more, or take accountant pld, larger RDP orders or a larger delta"
            )
    while low == high or epsilon_of(low) <= target:
        low, high = low / factor, low
        if low < _LEAST:
            raise PlugInError(
                f"target_epsilon {target:g}: reached with a noise multiplier below {_LEAST:g}, where it protects "
                "nothing; ask for less"
            )
    root = brentq(
        lambda log: epsilon_of(math.exp(log)) - target, math.log(low), math.log(high), xtol=_TOLERANCE
    )
    noise = math.exp(root)
    while epsilon_of(noise) > target:
        noise *= 1 + _TOLERANCE
    return noise
