"""The sampled divergence against closed forms, within five of its own standard errors."""

import pytest
import torch
from bounds_support import normal
from torch.distributions import Independent, Laplace, Normal, Uniform

from hushsweep.workers.bounds import (
    chi_square_gaussian,
    chi_square_heteroscedastic,
    chi_square_laplace,
    chi_square_monte_carlo,
)

A = normal(5)
STD = normal(5, seed=1).abs() + 0.5


def gaussian(mean: torch.Tensor, std: torch.Tensor) -> Independent:
    return Independent(Normal(mean, std), 1)


@pytest.mark.parametrize("size", [1e-6, 1e-2, 0.3])
def test_it_agrees_with_the_closed_forms(size: float) -> None:
    z, s1 = size * normal(5, seed=2), STD * (1 + size * normal(5, seed=3) / 2)
    one = torch.ones(5, dtype=torch.float64)
    laplace = [Independent(Laplace(mean, 0.8 * one), 1) for mean in (A, A + z)]
    for clean, shifted, exact in (
        (gaussian(A, STD), gaussian(A + z, STD), chi_square_gaussian(z, STD)),
        (gaussian(A, STD), gaussian(A + z, s1), chi_square_heteroscedastic(z, STD, s1)),
        (*laplace, chi_square_laplace(z, 0.8)),
    ):
        found = chi_square_monte_carlo(clean, shifted, draws=100_000, seed=0)
        assert abs(float(found.value - exact)) < 5 * float(found.stderr)
        assert float(found.stderr) < 0.02 * float(exact)


def test_the_standard_error_is_the_spread_over_seeds() -> None:
    clean, shifted = gaussian(A, STD), gaussian(A + 0.2, STD)
    runs = [chi_square_monte_carlo(clean, shifted, draws=500, seed=seed) for seed in range(300)]
    spread = float(torch.stack([run.value for run in runs]).std())
    # the spread of 300 is off by 4 % (one standard deviation)
    assert float(torch.stack([run.stderr for run in runs]).mean()) == pytest.approx(spread, rel=0.2)


def test_a_batch_of_laws_gives_a_batch_of_estimates() -> None:
    z = 0.1 * normal(3, 5, seed=2)
    found = chi_square_monte_carlo(gaussian(A.expand(3, 5), STD), gaussian(A + z, STD), draws=20_001, seed=1)
    assert found.value.shape == found.stderr.shape == (3,)
    assert bool(((found.value - chi_square_gaussian(z, STD)).abs() < 5 * found.stderr).all())


def test_draws_repeat_and_leave_the_global_stream_alone() -> None:
    clean, shifted = gaussian(A, STD), gaussian(A + 0.2, STD)
    before = torch.get_rng_state()
    first, second, other = (chi_square_monte_carlo(clean, shifted, draws=99, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert first == second
    assert first != other


def test_different_supports() -> None:
    wide, narrow = (Uniform(torch.zeros(()).double(), high, validate_args=False) for high in (4.0, 1.0))
    # the density ratio of narrow to wide is 4 on a quarter: chi-square 4 - 1
    inside = chi_square_monte_carlo(wide, narrow, draws=20_000, seed=0)
    assert abs(float(inside.value) - 3) < 5 * float(inside.stderr)
    outside = chi_square_monte_carlo(narrow, wide, draws=1000, seed=0)
    assert (float(outside.value), float(outside.stderr)) == (torch.inf, torch.inf)


def test_bad_input_is_named() -> None:
    clean = gaussian(A, STD)
    with pytest.raises(ValueError, match="draws: expected a number >= 4, got 3"):
        chi_square_monte_carlo(clean, clean, draws=3, seed=0)
    broken = Independent(Normal(A, STD * torch.nan, validate_args=False), 1, validate_args=False)
    with pytest.raises(ValueError, match="log_prob: expected numbers"):
        chi_square_monte_carlo(clean, broken, draws=4, seed=0)
