"""Privacy loss distributions: the tightest epsilon, by numerical composition on a grid that is refined."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from hushsweep.workers.accounting.renyi import multiplier
from hushsweep.workers.accounting.spending import Phase, Relation, Spending

_COARSEST = 0.05
_FINER = 4
_SETTLED = 1e-3
"""The error falls with the square of the step: what is left is a fifteenth of this last change."""
_POINTS = 2e6


class Refined(NamedTuple):
    """An epsilon, and the grid's step that gave it."""

    epsilon: float
    step: float


def exact_epsilon(spending: Spending) -> float | None:
    """Epsilon in closed form, where nothing is sampled; else None.

    Gaussian releases compose to one: Dong, Roth & Su (2022), arXiv:1905.02383, Corollary 3.3. Its epsilon: Balle &
    Wang (2018), arXiv:1805.06530, Theorem 8.
    """
    if any(phase.sampling_rate < 1 for phase in spending.phases):
        return None
    noises = [(multiplier(phase, spending.relation), phase.steps) for phase in spending.phases]
    if any(noise == 0 for noise, _ in noises):
        return math.inf
    return gaussian_epsilon(sum(steps / noise**2 for noise, steps in noises) ** -0.5, spending.delta)


def gaussian_epsilon(noise_multiplier: float, delta: float) -> float:
    """Epsilon of one Gaussian release, exact: Balle & Wang (2018), arXiv:1805.06530, Theorem 8."""
    from dp_accounting import get_epsilon_gaussian

    return float(get_epsilon_gaussian(noise_multiplier, delta))


def loss_epsilon(spending: Spending) -> float:
    """Epsilon of all phases composed, an upper bound within about 1e-4 of the exact one.

    Of sampled releases the worst pair of neighbours is known under both relations: dp-accounting's supplement on
    privacy loss distributions.
    """
    exact = exact_epsilon(spending)
    if exact is not None:
        return exact
    if any(phase.noise_multiplier == 0 for phase in spending.phases):
        return math.inf
    return refined_epsilon(spending).epsilon


def refined_epsilon(spending: Spending) -> Refined:
    """The same by numerical composition alone, with the step at which it settled."""
    return refined(lambda step: grid_epsilon(spending, step))


def grid_epsilon(spending: Spending, step: float) -> float:
    """Epsilon of all phases on a grid of ``step``, an upper bound whatever the step."""
    return float(composed(spending, step).get_epsilon_for_delta(spending.delta))


def composed(spending: Spending, step: float) -> Any:
    """Privacy loss distribution of all phases on a grid of ``step``; a coarser one only errs on the safe side."""
    from dp_accounting.pld.privacy_loss_distribution import identity

    total = identity(step)
    for phase in spending.phases:
        total = total.compose(_single(phase, spending.relation, step))
    return total


def _single(phase: Phase, relation: Relation, step: float) -> Any:
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    # dp-accounting counts noise against one record's norm under either relation: our sensitivity when one is added
    noise, steps = multiplier(phase, "add_or_remove"), phase.steps
    if phase.sampling_rate == 1:
        noise, steps = noise / math.sqrt(steps), 1
    return from_gaussian_mechanism(
        noise,
        value_discretization_interval=step,
        sampling_prob=phase.sampling_rate,
        neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE
        if relation == "add_or_remove"
        else NeighboringRelation.REPLACE_ONE,
    ).self_compose(steps)


def refined(epsilon_of: Callable[[float], float], *, finest: float = 0.0) -> Refined:
    """Refine a grid until its epsilon settles; each is an upper bound, so the least is.

    Args:
        epsilon_of: gives the epsilon on a grid of some step.
        finest: no step below this one.
    """
    step = max(_COARSEST, finest)
    best = Refined(epsilon_of(step), step)
    while step > finest and best.epsilon > 0 and best.epsilon / step < _POINTS:
        step = max(step / _FINER, finest)
        found = Refined(epsilon_of(step), step)
        settled = found.epsilon > best.epsilon * (1 - _SETTLED)
        best = min(best, found)
        if settled:
            break
    return best
