"""The linear-Gaussian oracle against the information form, simulation, and its limits."""

import pytest
import torch
from bounds_support import normal
from hypothesis import given, settings
from hypothesis import strategies as st

from hushsweep.workers.bounds import dfil, linear_gaussian_mmse, van_trees_mse_bound

FACTOR = normal(6, 6, seed=7)
PRIOR = FACTOR @ FACTOR.T


@settings(deadline=None)
@given(st.integers(0, 999), st.sampled_from([1, 4, 6, 11]), st.floats(0.01, 100))
def test_it_agrees_with_the_inverse_of_the_summed_information(seed: int, n: int, sigma: float) -> None:
    jacobian = normal(2, n, 6, seed=seed)
    posterior = torch.linalg.inv(torch.linalg.inv(PRIOR) + jacobian.mT @ jacobian / sigma**2)
    expected = posterior.diagonal(dim1=-2, dim2=-1).mean(-1)
    assert torch.allclose(linear_gaussian_mmse(jacobian, sigma, PRIOR), expected, rtol=1e-7)


def test_a_simulated_reader_has_this_error_also_for_a_singular_prior() -> None:
    factor, jacobian, sigma, draws = normal(6, 3, seed=1), normal(4, 6), 0.8, 200_000
    prior = factor @ factor.T
    x = normal(draws, 3, seed=2) @ factor.T
    y = x @ jacobian.T + sigma * normal(draws, 4, seed=3)
    gain = prior @ jacobian.T @ torch.linalg.inv(jacobian @ prior @ jacobian.T + sigma**2 * torch.eye(4))
    error = float((y @ gain.T - x).square().mean())
    assert linear_gaussian_mmse(jacobian, sigma, prior).item() == pytest.approx(error, rel=0.01)


def test_many_noise_levels_are_one_axis_more() -> None:
    jacobian, levels = normal(3, 4, 6), torch.tensor([0.1, 1.0, 10.0])
    found = linear_gaussian_mmse(jacobian, levels, PRIOR)
    assert found.shape == (3, 3)
    for column, sigma in zip(found.T, (0.1, 1.0, 10.0), strict=True):
        assert torch.allclose(column, linear_gaussian_mmse(jacobian, sigma, PRIOR), rtol=1e-6)
    assert linear_gaussian_mmse(jacobian, torch.tensor(1.0), PRIOR).shape == (3,)


def test_it_goes_from_what_the_features_do_not_see_to_the_prior() -> None:
    jacobian, prior = normal(4, 6), torch.eye(6, dtype=torch.float64)
    found = linear_gaussian_mmse(jacobian, torch.logspace(-4, 6, 30), prior)
    assert bool((found.diff() > 0).all())
    assert found[0].item() == pytest.approx(2 / 6, rel=1e-6)
    assert found[-1].item() == pytest.approx(1, rel=1e-6)
    assert linear_gaussian_mmse(normal(9, 6), 1e-9, PRIOR).item() == pytest.approx(0, abs=1e-12)
    for blind in (torch.zeros(4, 6), torch.zeros(0, 6)):
        assert linear_gaussian_mmse(blind, 1.0, PRIOR).item() == pytest.approx(PRIOR.trace().item() / 6)


@settings(deadline=None)
@given(st.integers(0, 999), st.floats(0.1, 10), st.floats(0.1, 10))
def test_it_is_never_below_van_trees(seed: int, sigma: float, tau: float) -> None:
    jacobian = normal(4, 6, seed=seed)
    found = linear_gaussian_mmse(jacobian, sigma, tau**2 * torch.eye(6))
    assert found.item() >= van_trees_mse_bound(dfil(jacobian, sigma), 1 / tau**2).item() * (1 - 1e-9)


def test_bad_input_is_named() -> None:
    jacobian = normal(4, 6)
    for bad in (normal(6), jacobian * torch.nan):
        with pytest.raises(ValueError, match="jacobian: expected finite numbers"):
            linear_gaussian_mmse(bad, 1.0, PRIOR)
    for bad in (torch.eye(5), PRIOR + torch.tril(torch.ones(6, 6)), PRIOR * torch.nan):
        with pytest.raises(ValueError, match=r"prior_covariance: expected a symmetric \(6, 6\) matrix"):
            linear_gaussian_mmse(jacobian, 1.0, bad)
    for bad in (-PRIOR, PRIOR - 2 * PRIOR.diag().diag(), -torch.eye(6).double() + 0.5):
        with pytest.raises(ValueError, match="prior_covariance: expected a positive semidefinite matrix"):
            linear_gaussian_mmse(jacobian, 1.0, bad)
    with pytest.raises(ValueError, match="noise_std: expected finite numbers > 0, got"):
        linear_gaussian_mmse(jacobian, 0.0, PRIOR)
    with pytest.raises(ValueError, match=r"noise_std: expected one number or shape \(s,\), got \(1, 2\)"):
        linear_gaussian_mmse(jacobian, torch.ones(1, 2), PRIOR)
