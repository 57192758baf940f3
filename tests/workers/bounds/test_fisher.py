"""Trace bounds against closed forms, Monte Carlo Fisher information and Gaussian Bayes."""

import pytest
import torch
from bounds_support import normal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Laplace, Normal

from hushsweep.workers.bounds import dfil, van_trees_mse_bound


def test_it_is_the_mean_square_of_the_score() -> None:
    jacobian, std, draws = normal(3, 2), 0.7, 400_000
    for law, unit in ((Normal, std), (Laplace, std)):
        torch.manual_seed(0)
        y = law(torch.zeros(3, dtype=torch.float64), unit).sample((draws,)).requires_grad_()
        (score,) = torch.autograd.grad(law(torch.zeros(3, dtype=torch.float64), unit).log_prob(y).sum(), y)
        measured = float((score @ jacobian).square().mean())
        assert measured == pytest.approx(dfil(jacobian, std).item(), rel=0.01)


@settings(deadline=None)
@given(st.integers(0, 999), st.floats(0.01, 100))
def test_it_never_exceeds_cramer_rao_at_full_column_rank(seed: int, sigma: float) -> None:
    jacobian = normal(4, 9, 6, seed=seed)
    cramer_rao = sigma**2 * torch.linalg.inv(jacobian.mT @ jacobian).diagonal(dim1=-2, dim2=-1).mean(-1)
    assert dfil(jacobian, sigma).shape == (4,)
    assert bool((1 / dfil(jacobian, sigma) <= cramer_rao * (1 + 1e-12)).all())
    orthogonal = 3 * torch.linalg.qr(jacobian).Q
    assert torch.allclose(1 / dfil(orthogonal, sigma), torch.tensor(sigma**2 / 9, dtype=torch.float64))


@settings(deadline=None)
@given(st.integers(0, 999), st.floats(0.01, 100), st.floats(0.01, 100))
def test_gaussian_bayes_obeys_van_trees_and_reaches_it_for_orthogonal_features(
    seed: int, sigma: float, tau: float
) -> None:
    jacobian = normal(5, 6, seed=seed)
    identity = torch.eye(6, dtype=torch.float64)

    def bayes(j: torch.Tensor) -> float:
        return torch.linalg.inv(j.T @ j / sigma**2 + identity / tau**2).diagonal().mean().item()

    assert van_trees_mse_bound(dfil(jacobian, sigma), 1 / tau**2).item() <= bayes(jacobian) * (1 + 1e-9)
    rotation = torch.linalg.qr(normal(6, 6, seed=seed)).Q
    reached = van_trees_mse_bound(dfil(rotation, sigma), 1 / tau**2).item()
    assert reached == pytest.approx(bayes(rotation), rel=1e-9)


def test_numbers_and_tensors_broadcast() -> None:
    found = van_trees_mse_bound(torch.tensor([0.0, 1.0]), 4.0)
    assert found.dtype == torch.float64
    assert found.tolist() == [0.25, 0.2]
    assert van_trees_mse_bound(1.0, torch.tensor([[1.0], [3.0]])).tolist() == [[0.5], [0.25]]


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="noise_std: expected a finite number > 0, got 0"):
        dfil(torch.ones(2, 2), 0)
    for bad in (torch.ones(2), torch.full((2, 2), torch.nan)):
        with pytest.raises(ValueError, match=r"jacobian: expected finite numbers \(..., features, inputs\)"):
            dfil(bad, 1.0)
    for bad in (-1.0, torch.nan, torch.inf):
        with pytest.raises(ValueError, match="mean_dfil: expected finite numbers >= 0"):
            van_trees_mse_bound(bad, 1.0)
    for bad in (-1.0, torch.nan, 0.0):
        with pytest.raises(ValueError, match="prior_information: expected finite numbers > 0"):
            van_trees_mse_bound(1.0, bad)
