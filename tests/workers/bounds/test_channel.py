"""Gaussian channels whose noise depends on the input: entries without noise, and the derivative of the divergence."""

import pytest
import torch
from bounds_support import normal
from torch import Tensor
from torch.distributions import Independent, Normal

from hushsweep.workers.bounds import (
    Moments,
    chi_square_channel,
    chi_square_heteroscedastic,
    chi_square_monte_carlo,
    fisher_map,
)

WEIGHTS = normal(12, 6) / 3


def moments(x: Tensor) -> Moments:
    """A small curved channel of 12 entries."""
    hidden = torch.tanh(x @ WEIGHTS.T)
    return Moments(hidden * (1 + hidden), 0.3 + torch.sigmoid(2 * hidden.flip(-1)))


X = normal(6, seed=1)


def test_where_noise_is_it_is_the_heteroscedastic_divergence() -> None:
    clean, shifted = moments(X), moments(X + 0.1 * normal(5, 6, seed=2))
    expected = chi_square_heteroscedastic(shifted.mean - clean.mean, clean.std, shifted.std)
    assert torch.equal(chi_square_channel(clean, shifted), expected)


def test_it_agrees_with_monte_carlo() -> None:
    clean, shifted = moments(X), moments(X + 0.15 * normal(4, 6, seed=2))
    law = Independent(Normal(clean.mean.expand(4, 12), clean.std.expand(4, 12)), 1)
    found = chi_square_monte_carlo(law, Independent(Normal(*shifted), 1), draws=200_000, seed=0)
    exact = chi_square_channel(clean, shifted)
    assert bool((exact > 0.03).all())
    assert bool(((found.value - exact).abs() < 4.5 * found.stderr).all())  # false alarms: 3e-5
    assert bool((found.stderr < 0.05 * exact).all())


def test_entries_without_noise_tell_exactly_what_they_are() -> None:
    clean = Moments(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 0.0, 0.0]))
    constant = Moments(clean.mean + torch.tensor([0.1, 0.0, 0.0]), clean.std)
    noisy = chi_square_heteroscedastic(torch.tensor([0.1]), 0.5, 0.5)
    assert chi_square_channel(clean, constant) == pytest.approx(noisy.item(), rel=1e-6)
    moved = Moments(clean.mean + torch.tensor([0.0, 1e-6, 0.0]), clean.std)
    begun = Moments(clean.mean, torch.tensor([0.5, 0.1, 0.0]))
    lost = Moments(clean.mean, torch.tensor([0.0, 0.0, 0.0]))
    for other in (moved, begun, lost):
        assert bool(chi_square_channel(clean, other).isinf())
    assert chi_square_channel(clean, clean) == 0
    empty = Moments(torch.zeros(4, 0), torch.zeros(4, 0))
    assert chi_square_channel(empty, empty).tolist() == [0.0] * 4


def test_noise_that_rounding_hides_counts_as_none() -> None:
    found = Moments(torch.tensor([2.0, 2.0, 0.0]), torch.tensor([1e-13, 1e-9, 1e-13])).bare
    assert found.tolist() == [True, False, True]
    assert Moments(torch.zeros(2), torch.tensor([1e-30, 0.0])).bare.tolist() == [False, True]


def test_the_divergence_of_a_short_shift_is_the_fisher_information() -> None:
    jacobian = torch.autograd.functional.jacobian(lambda x: fisher_map(moments(x)), X)
    for direction in torch.eye(6, dtype=torch.float64):
        chi_square = chi_square_channel(moments(X), moments(X + 1e-5 * direction))
        assert chi_square / 1e-10 == pytest.approx((jacobian @ direction).square().sum().item(), rel=1e-3)


def test_the_fisher_information_has_its_two_terms() -> None:
    mean, std = torch.autograd.functional.jacobian(lambda x: tuple(moments(x)), X)
    scale = moments(X).std[:, None]
    expected = (mean / scale).T @ (mean / scale) + 2 * (std / scale).T @ (std / scale)
    jacobian = torch.autograd.functional.jacobian(lambda x: fisher_map(moments(x)), X)
    assert torch.allclose(jacobian.T @ jacobian, expected, rtol=1e-12)


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="feature_shift: expected numbers, got NaN"):
        chi_square_channel(moments(X), Moments(moments(X).mean * torch.nan, moments(X).std))
