"""Renyi differential privacy: of phases, composed, and what epsilon it comes to."""

import logging
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hushsweep.workers.accounting.spending import Phase, Spending

ORDERS: tuple[float, ...] = (*(1 + step / 10 for step in range(1, 100)), *range(12, 64))
"""1.1 to 10.9 in steps of 0.1, then 12 to 63: the list of TensorFlow Privacy's tutorial."""


class RenyiEpsilon(NamedTuple):
    """An epsilon, and the order that gave it.

    Attributes:
        epsilon: nats.
        order: None where the epsilon is 0 or infinite.
        at_end: Whether that is the first or last of the orders.
    """

    epsilon: float
    order: float | None
    at_end: bool


def wider_orders(largest: int) -> tuple[float, ...]:
    """The default orders and further integers up to ``largest``, about 5 % apart."""
    further, order = list[int](), 64
    while order < largest:
        further.append(order)
        order = math.ceil(order * 1.05)
    return (*ORDERS, *further, *([largest] if largest > ORDERS[-1] else []))


def renyi(spending: Spending, orders: Sequence[float]) -> np.ndarray:
    """Renyi divergence of all phases composed, per order.

    Under ``replace_one`` a sampled release has no formula in dp-accounting. There the record is taken out and another
    put in: D_a(P|Q) <= (a - 1/2) / (a - 1) D_2a(P|R) + D_(2a-1)(R|Q), Mironov (2017), arXiv:1702.07476, Corollary 4.

    Args:
        spending: what was released.
        orders: each > 1.

    Returns:
        ``(orders,)`` float64, nats, ``inf`` without noise.
    """
    total = np.zeros(len(orders))
    for phase in spending.phases:
        if spending.relation == "add_or_remove" or phase.sampling_rate == 1:
            total += _single(phase, multiplier(phase, spending.relation), orders)
        else:
            a, noise = np.asarray(orders, dtype=np.float64), multiplier(phase, "add_or_remove")
            total += (a - 0.5) / (a - 1) * _single(phase, noise, 2 * a) + _single(phase, noise, 2 * a - 1)
    return total


def multiplier(phase: Phase, relation: str) -> float:
    """Noise multiplier of a phase under another relation: replacing moves a sum twice as far as adding."""
    if phase.relation == relation:
        return phase.noise_multiplier
    return phase.noise_multiplier * (2 if relation == "add_or_remove" else 0.5)


def _single(phase: Phase, noise: float, orders: Sequence[float] | np.ndarray) -> np.ndarray:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
    from dp_accounting.rdp import RdpAccountant

    sampled = PoissonSampledDpEvent(phase.sampling_rate, GaussianDpEvent(noise))
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(
        logging.ERROR
    )  # orders close to 1 whose series does not converge are infinite, and no news
    try:
        found: np.ndarray = RdpAccountant(list(orders)).compose(SelfComposedDpEvent(sampled, phase.steps)).rdp
    finally:
        logger.setLevel(level)
    return found


def classic(divergence: np.ndarray, orders: Sequence[float], delta: float) -> RenyiEpsilon:
    """Mironov (2017), arXiv:1702.07476, Proposition 3: the least divergence - log(delta) / (order - 1)."""
    epsilons = divergence - math.log(delta) / (np.asarray(orders) - 1)
    best = int(np.argmin(epsilons))
    return _epsilon(float(epsilons[best]), float(orders[best]), divergence, orders)


def improved(divergence: np.ndarray, orders: Sequence[float], delta: float) -> RenyiEpsilon:
    """Canonne, Kamath & Steinke (2020), arXiv:2004.00010, Proposition 12, as dp-accounting has it."""
    from dp_accounting.rdp import compute_epsilon

    epsilon, order = compute_epsilon(list(orders), list(divergence), delta)
    return _epsilon(float(epsilon), float(order), divergence, orders)


def _epsilon(epsilon: float, order: float, divergence: np.ndarray, orders: Sequence[float]) -> RenyiEpsilon:
    if not 0 < epsilon < math.inf:
        return RenyiEpsilon(epsilon, None, False)
    usable = np.asarray(orders)[np.isfinite(divergence)]
    return RenyiEpsilon(epsilon, order, order in (usable[0], usable[-1]))
