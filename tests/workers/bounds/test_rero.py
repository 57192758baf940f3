"""The bound on reconstruction against the likelihood-ratio test that reaches it, and a reader of many candidates."""

import math

import mpmath
import pytest
import torch
from bounds_support import normal
from hypothesis import given
from hypothesis import strategies as st

from hushsweep.workers.bounds import rero_bound


@pytest.mark.parametrize(("kappa", "mu"), [(0.1, 0.5), (0.01, 2.0), (0.5, 1.0)])
def test_the_likelihood_ratio_test_reaches_it(kappa: float, mu: float) -> None:
    draws = 400_000
    direction = mu * torch.nn.functional.normalize(normal(6), dim=0)
    reference = normal(draws, 6, seed=1)
    # log of the density ratio of noise around `direction` to noise around 0
    log_ratio = reference @ direction
    threshold = log_ratio.quantile(1 - kappa)
    power = float(((normal(draws, 6, seed=2) + direction) @ direction > threshold).double().mean())
    # five standard errors: of the power, and of the sampled threshold times the ratio of the densities there
    ratio = math.exp(float(threshold) - mu**2 / 2)
    error = 5 * (0.5 + ratio * kappa**0.5) / draws**0.5
    assert power == pytest.approx(rero_bound(kappa, mu).item(), abs=error)
    assert error < 0.1 * power


def test_the_best_reader_of_ten_candidates_stays_below_it() -> None:
    # equally likely features on a sphere of radius mu around 0: a blind guess is right once in ten
    mu, draws = 1.5, 50_000
    candidates = mu * torch.nn.functional.normalize(normal(10, 4), dim=1)
    truth = torch.arange(10).repeat(draws // 10)
    guess = torch.cdist(candidates[truth] + normal(draws, 4, seed=1), candidates).argmin(1)
    success = float((guess == truth).double().mean())
    assert 0.2 < success <= rero_bound(0.1, mu).item()


def test_two_candidates_are_told_apart_as_often_as_it_says() -> None:
    # from the middle of the two each is half the separation away
    separation, draws = 1.4, 200_000
    sent = torch.arange(2).repeat(draws // 2)
    right = ((sent * separation + normal(draws)) > separation / 2) == (sent == 1)
    assert float(right.double().mean()) == pytest.approx(rero_bound(0.5, separation / 2).item(), abs=5e-3)


@given(st.floats(1e-300, 1), st.floats(0, 60))
def test_it_agrees_with_mpmath(kappa: float, mu: float) -> None:
    found = rero_bound(kappa, mu).item()
    assert kappa <= found <= 1
    with mpmath.workdps(400):
        start = mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(kappa) - 1) if 1e-20 < kappa < 1 else None
        if start is not None:
            assert found == pytest.approx(float(mpmath.ncdf(start + mpmath.mpf(mu))), rel=1e-11)


def test_it_grows_from_the_blind_guess_to_certainty() -> None:
    mu = torch.linspace(0, 8, 50, dtype=torch.float64)
    found = rero_bound(0.01, mu)
    assert found[0].item() == pytest.approx(0.01, rel=1e-12)
    assert bool((found.diff() > 0).all())
    assert rero_bound(torch.tensor([0.0, 1e-9, 1.0]), 1e6).tolist() == [0, 1, 1]
    assert rero_bound(torch.tensor([0.0, 0.5, 1.0]), torch.inf).tolist() == [1, 1, 1]
    assert rero_bound(torch.tensor([0.0, 1.0]), 0.0).tolist() == [0, 1]


def test_bad_input_is_named() -> None:
    for bad in (-0.1, 1.1, torch.nan):
        with pytest.raises(ValueError, match="prior_success: expected numbers from 0 to 1"):
            rero_bound(bad, 1.0)
    for bad in (-0.1, torch.nan):
        with pytest.raises(ValueError, match="distance: expected numbers >= 0, got a negative one or NaN"):
            rero_bound(0.1, bad)
