"""Epsilon of a person of whom over-sampling has made several training records."""

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom

from hushsweep.workers.accounting.epsilons import label_epsilon
from hushsweep.workers.accounting.extra import require_dp
from hushsweep.workers.accounting.loss_distribution import composed, loss_epsilon, refined
from hushsweep.workers.accounting.renyi import multiplier
from hushsweep.workers.accounting.spending import Phase, Spending

_NEVER = 1e-30
"""Probability of more copies in one release than are reckoned with; far below any delta."""
_SHIFTED = 10
"""Standard deviations of noise within which practically all of it lies."""
_HOPELESS = 64.0
"""Epsilon from which e^epsilon times what the grid cuts off, 1e-22, is above any delta."""
_POINTS = 2e4
"""Grid points of one release of several copies; each takes a root search."""


class PersonEpsilon(NamedTuple):
    """An epsilon per person, or why there is none; beside one, what it rests on."""

    epsilon: float | None
    reason: str | None


def person_epsilon(spending: Spending) -> PersonEpsilon:
    """Epsilon of all records that over-sampling made of one person's record, by privacy loss distributions.

    Of k copies Poisson sampling takes a Binomial(k, rate) number, and at worst all move the sum the same way: a
    mixture of Gaussians, Choquette-Choo et al. (2024), arXiv:2310.15526, whose dominating pair is exact. Where nothing
    is sampled the sum moves k times as far. Sampled copies that are replaced, for which there is no such pair, are
    taken out and put in: twice the epsilon at (1 + e^epsilon) times the delta, Vadhan (2017), Lemma 7.2.2.

    Args:
        spending: what was released.

    Raises:
        PlugInError: the extra dp is not installed.
    """
    require_dp("an epsilon")
    copies = [phase.copies for phase in spending.phases]
    if 0 in copies:
        return PersonEpsilon(
            None,
            "unknown: over-sampling mixes records, so one person is in an unknown number of training records",
        )
    most = max(copies)
    labels = most * label_epsilon(spending)
    if most == 1:
        return PersonEpsilon(loss_epsilon(spending) + labels, None)
    reason = f"of a person with {most} of the training records, the most that over-sampling made of one"
    phases = tuple(_together(phase) for phase in spending.phases)
    if any(phase.noise_multiplier == 0 for phase in phases):
        return PersonEpsilon(math.inf, reason)
    spending = replace(spending, phases=phases)
    sampled = tuple(phase for phase in phases if phase.copies > 1)
    if not sampled:
        return PersonEpsilon(loss_epsilon(spending) + labels, reason)
    finest = max(_range(phase) / _POINTS for phase in sampled)
    if spending.relation == "add_or_remove":
        found = refined(
            lambda step: float(_all(phases, step).get_epsilon_for_delta(spending.delta)), finest=finest
        )
        return PersonEpsilon(found.epsilon + labels, reason)
    half = replace(spending, delta=spending.delta / 2)
    found = refined(lambda step: _replaced(_all(sampled, step), half.delta), finest=finest)
    rest = tuple(phase for phase in phases if phase.copies == 1)
    epsilon = found.epsilon + (loss_epsilon(replace(half, phases=rest)) if rest else 0.0)
    return PersonEpsilon(
        epsilon + labels, f"{reason}; sampled copies by group privacy of two, half of delta each, hence loose"
    )


def _together(phase: Phase) -> Phase:
    """Copies that are all in every release are one record that moves the sum as many times as far."""
    if phase.sampling_rate < 1 or phase.copies == 1:
        return phase
    return replace(phase, noise_multiplier=phase.noise_multiplier / phase.copies, copies=1)


def _all(phases: tuple[Phase, ...], step: float) -> Any:
    """Privacy loss distribution of phases with copies, under ``add_or_remove``."""
    from dp_accounting.pld.privacy_loss_distribution import from_mixture_gaussian_mechanism

    total: Any = None
    for phase in phases:
        if phase.copies == 1:
            alone = replace(
                phase, noise_multiplier=multiplier(phase, "add_or_remove"), relation="add_or_remove"
            )
            single = composed(Spending(phases=(alone,), delta=0.5), step)
        else:
            chances = _chances(phase)
            single = from_mixture_gaussian_mechanism(
                multiplier(phase, "add_or_remove"),
                [float(count) for count in range(len(chances))],
                chances.tolist(),
                value_discretization_interval=step,
            ).self_compose(phase.steps)
        total = single if total is None else total.compose(single)
    return total


def _chances(phase: Phase) -> np.ndarray:
    """Chance of 0, 1, ... copies in one release; what practically never happens is put to the last of them."""
    counts = np.arange(phase.copies + 1)
    likely = counts[binom.sf(counts - 1, phase.copies, phase.sampling_rate) > _NEVER]
    chances: np.ndarray = binom.pmf(likely, phase.copies, phase.sampling_rate)
    # not what is missing to 1, which rounding may make negative
    chances[-1] = binom.sf(likely[-1] - 1, phase.copies, phase.sampling_rate)
    return chances


def _range(phase: Phase) -> float:
    """About the largest privacy loss of one release."""
    most, noise = len(_chances(phase)) - 1, multiplier(phase, "add_or_remove")
    return float(most * (most / 2 + _SHIFTED * noise) / noise**2)


def _replaced(losses: Any, delta: float) -> float:
    """Epsilon when a person is replaced, of the losses when one is added or taken out."""

    def gap(epsilon: float) -> float:
        # log1p(e^epsilon), and not e^epsilon, which overflows
        left = float(losses.get_delta_for_epsilon(epsilon))
        return float(np.logaddexp(0, epsilon)) + math.log(max(left, 1e-300)) - math.log(delta)

    high = 1.0
    while gap(high) > 0:
        high *= 2
        if high > _HOPELESS:
            return math.inf
    if gap(0.0) <= 0:
        return 0.0
    low = 0.0 if high == 1.0 else high / 2
    root = float(brentq(gap, low, high, xtol=1e-9 * high))
    return 2 * (root if gap(root) <= 0 else root + 1e-8 * high)
