"""Epsilons of people who are in several training records, against densities multiplied out."""

import math

import pytest
from dp_support import brute_epsilon, density, grid, spent
from scipy.stats import norm

from hushsweep.workers.accounting import Phase, Spending, person_epsilon, training_epsilons


@pytest.mark.parametrize(("copies", "rate", "noise"), [(2, 0.1, 1.0), (3, 0.05, 2.0), (5, 0.3, 3.0)])
def test_copies_are_drawn_each_by_itself(copies: int, rate: float, noise: float) -> None:
    x = grid(noise, copies)
    pair = (density(x, noise, rate, 1, copies), norm.pdf(x, 0, noise), x[1] - x[0])
    found = person_epsilon(spent(noise, steps=2, sampling_rate=rate, copies=copies, delta=1e-4))
    assert found.epsilon == pytest.approx(brute_epsilon([pair, pair], 1e-4), rel=1e-3)
    assert f"{copies} of the training records" in found.reason


def test_one_copy_is_the_training_epsilon() -> None:
    spending = spent(2.0, steps=100, sampling_rate=0.02)
    assert person_epsilon(spending) == (training_epsilons(spending).pld, None)


def test_copies_that_are_never_sampled_move_the_sum_together() -> None:
    found = person_epsilon(spent(6.0, steps=4, sampling_rate=1.0, copies=3))
    assert found.epsilon == pytest.approx(training_epsilons(spent(2.0, steps=4, sampling_rate=1.0)).pld)


def test_more_copies_never_cost_less() -> None:
    found = [
        person_epsilon(spent(4.0, steps=1000, sampling_rate=0.01, copies=copies)).epsilon
        for copies in (1, 2, 5, 20)
    ]
    assert found == sorted(found)
    assert found[1] < 2.5 * found[0]
    # all copies in every release is the worst that can be, and here it is far worse
    assert found[3] < person_epsilon(spent(4.0, steps=1000, sampling_rate=1.0, copies=20)).epsilon


@pytest.mark.parametrize("copies", [2, 3])
def test_sampled_copies_that_are_replaced_are_bounded(copies: int) -> None:
    """No smaller than the epsilon of one pair of neighbours, and than that without the plain phase."""
    sampled = Phase(noise_multiplier=3.0, steps=1, sampling_rate=0.1, examples=100, copies=copies)
    plain = Phase(noise_multiplier=4.0, steps=1, relation="replace_one", examples=100, copies=copies)
    x, y = grid(3.0, copies), grid(4.0, copies)
    one = (density(x, 3.0, 0.1, 1, copies), density(x, 3.0, 0.1, -1, copies), x[1] - x[0])
    two = (norm.pdf(y, copies / 2, 4.0), norm.pdf(y, -copies / 2, 4.0), y[1] - y[0])
    found = person_epsilon(Spending(phases=(sampled, plain), delta=1e-4))
    least = brute_epsilon([one, two], 1e-4)
    assert least <= found.epsilon <= 4 * least
    assert "group privacy" in found.reason


def test_group_privacy_may_promise_nothing() -> None:
    sampled = Phase(noise_multiplier=0.3, steps=1000, sampling_rate=0.1, examples=100, copies=9)
    plain = Phase(noise_multiplier=4.0, steps=1, relation="replace_one", examples=100)
    found = person_epsilon(Spending(phases=(sampled, plain), delta=1e-5))
    assert found.epsilon == math.inf


def test_mixed_records_are_unknown_and_no_noise_is_infinite() -> None:
    found = person_epsilon(spent(1.0, copies=0))
    assert found.epsilon is None
    assert "mixes records" in found.reason
    assert person_epsilon(spent(0.0, copies=4)).epsilon == math.inf


def test_every_copy_answers_for_its_label() -> None:
    found = person_epsilon(
        spent(6.0, steps=1, sampling_rate=1.0, relation="replace_one", copies=3, label_epsilon=0.5)
    )
    without = person_epsilon(spent(6.0, steps=1, sampling_rate=1.0, relation="replace_one", copies=3))
    assert found.epsilon == pytest.approx(without.epsilon + 1.5)
