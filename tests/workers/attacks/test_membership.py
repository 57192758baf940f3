"""Scores, rates and the bound that epsilon puts on them, against simple counts and simulated attackers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from hushsweep.workers.attacks.membership import area, rate_at, rate_bound, standardised


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_area_counts_pairs() -> None:
    members, others = rng(1).integers(0, 6, 40).astype(float), rng(2).integers(-2, 5, 30).astype(float)
    pairs = members[:, None] - others[None, :]
    assert area(members, others).value == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
    assert area(others, others).value == pytest.approx(0.5)
    assert area(members + 100, others) == pytest.approx((1.0, 0.0))


def test_the_standard_error_is_the_spread_of_many_draws() -> None:
    draws = rng(3).normal(size=(2000, 2, 100))
    found = [area(0.5 + one, other) for one, other in draws]
    spread = np.std([one.value for one in found])
    # 2000 draws know a standard deviation to 1.6 %
    assert np.mean([one.stderr for one in found]) == pytest.approx(spread, rel=0.08)


def test_the_rate_at_a_false_positive_rate() -> None:
    others = np.arange(1000.0)
    members = np.array([998.5, 999.0, 999.5, 989.5, 990.5, 1.0, 2.0, 3.0])
    strict = rate_at(members, others, 0.001)
    assert (strict.value, strict.false_positives) == (3 / 8, 1)
    loose = rate_at(members, others, 0.01)
    assert (loose.value, loose.false_positives) == (5 / 8, 10)
    assert rate_at(members, others[:999], 0.001) is None
    assert rate_at(members, np.zeros(1000), 0.01).false_positives == 0


@pytest.mark.parametrize(("hits", "count"), [(0, 40), (3, 40), (40, 40)])
def test_intervals_are_those_of_clopper_and_pearson(hits: int, count: int) -> None:
    members = np.r_[np.full(hits, 2.0), np.full(count - hits, -2.0)]
    found = rate_at(members, rng().uniform(size=1000), 0.001)
    assert found.value == hits / count
    if hits:
        assert binom.sf(hits - 1, count, found.low) == pytest.approx(0.025)
    else:
        assert found.low == 0
    if hits < count:
        assert binom.cdf(hits, count, found.high) == pytest.approx(0.025)
    else:
        assert found.high == 1


def test_the_bound() -> None:
    assert rate_bound(0, 0, 0.01) == pytest.approx(0.01)
    assert rate_bound(1, 1e-5, 0.001) == pytest.approx(math.e * 0.001 + 1e-5)
    assert rate_bound(8, 1e-5, 0.01) == pytest.approx(1 - math.exp(-8) * (0.99 - 1e-5))
    assert rate_bound(2000, 0, 0.001) == 1.0
    assert rate_bound(0, 1.0, 0.0) == 1.0


@given(st.floats(0, 30), st.floats(0, 0.5), st.floats(0, 1), st.floats(0, 1))
def test_the_bound_is_a_rate_that_grows(epsilon: float, delta: float, rate: float, more: float) -> None:
    bound = rate_bound(epsilon, delta, rate)
    assert rate - 1e-12 <= bound <= 1
    for larger in (
        (epsilon + more, delta, rate),
        (epsilon, delta + more / 2, rate),
        (epsilon, delta, max(rate, more)),
    ):
        assert rate_bound(*larger) >= bound - 1e-12


def test_no_test_of_a_gaussian_release_beats_its_bound() -> None:
    """The best test between N(0, 1) and N(mu, 1) is a threshold, and its bound is close for some epsilon."""
    mu, rate = 1.2, 0.01
    best = norm.sf(norm.isf(rate) - mu)

    def delta(epsilon: float) -> float:
        return norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)

    bounds = [rate_bound(epsilon, delta(epsilon), rate) for epsilon in np.linspace(0, 6, 61)]
    assert best <= min(bounds) <= 1.01 * best


def test_confidences_are_set_against_their_class() -> None:
    known_labels = np.repeat([0, 1, 2], [100, 100, 1])
    centre, spread = np.array([0.0, 5.0, 0.0]), np.array([1.0, 3.0, 1.0])
    known = rng(5).normal(centre[known_labels], spread[known_labels])
    labels = np.array([0, 1, 0, 1, 2, 7])
    found = standardised(np.array([2.0, 5.0, 0.0, 11.0, 9.0, 9.0]), labels, known, known_labels)
    # means of 100 are known to 0.1 and standard deviations to 7 %
    assert found[:4] == pytest.approx([2, 0, 0, 2], abs=0.6)
    # one image of a class, or none: the mean of all and the spread within classes
    assert found[4] == found[5] == pytest.approx((9 - known.mean()) / math.sqrt(5), rel=0.1)


def test_knowing_the_class_tells_more() -> None:
    """Members are a little more confident than others of their class, and classes differ much more."""
    labels = rng(6).integers(0, 10, 4000)
    member = np.arange(4000) % 2 == 0
    confidence = rng(7).normal(5.0 * labels + 1.0 * member)
    known, tested = np.flatnonzero(~member)[::2], np.flatnonzero(~member)[1::2]
    scores = standardised(confidence, labels, confidence[known], labels[known])
    by_class = area(scores[member], scores[tested]).value
    # two unit Gaussians one apart: Phi(1 / sqrt 2) = 0.76
    assert by_class == pytest.approx(0.76, abs=0.03)
    assert area(confidence[member], confidence[~member]).value < 0.56
