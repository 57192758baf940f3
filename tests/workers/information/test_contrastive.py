"""Bounds by contrast: against brute force, the exact value, their caps and a source of two images."""

import math

import pytest
import torch
from torch import Tensor

from hushsweep.workers.information import contrast, contrastive, log_densities, upper_diagonal


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(unit: Tensor, own: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    samples = mean[own] + std[own] * unit
    density = torch.distributions.Normal(mean, std)
    half = mean.shape[1] / 2 * math.log(2 * math.pi)
    return torch.stack([density.log_prob(sample).sum(1) + half for sample in samples])


def test_densities_are_those_of_the_channel() -> None:
    mean, std = 3 * normal(12, 5), normal(12, 5, seed=1).exp()
    own = torch.tensor([3, 0, 11])
    unit = normal(3, 5, seed=2)
    assert torch.allclose(log_densities(unit, own, mean, std), plain(unit, own, mean, std), rtol=1e-10)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_near_duplicates_under_tiny_noise_keep_their_digits(
    offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A squared distance of 10 beside products of 1e16: only the exact differences see it."""
    mean = normal(6, 4)
    mean[3] = mean[0] + 1e-8
    mean[4] = mean[0]
    mean = mean + offset * (torch.arange(4) == 0)
    std, own, unit = torch.full_like(mean, 1e-8), torch.arange(6), normal(6, 4, seed=1)
    monkeypatch.setattr(contrastive, "_PAIRS", 8)  # several blocks
    found = log_densities(unit, own, mean, std)
    shift = (mean[own][:, None] - mean[None] + std[own][:, None] * unit[:, None]) / std[None]
    expected = -shift.square().sum(2) / 2 - std.log().sum(1)
    near = expected > expected.diagonal()[:, None] - 50
    assert int(near.sum()) == 6 + 6, "0, 3 and 4 are near each other"
    assert torch.allclose(found[near], expected[near], rtol=1e-9)
    assert bool((found[~near] < found.diagonal()[:, None].expand(6, 6)[~near] - 50).all())


@pytest.mark.parametrize(("entries", "noise_std"), [(1, 1.0), (2, 0.5), (3, 3.0)])
def test_lower_and_upper_hold_a_gaussian_channel_between_them(entries: int, noise_std: float) -> None:
    x = normal(1500, entries)
    std, own = torch.full_like(x, noise_std), torch.arange(len(x))
    true = entries / 2 * math.log1p(1 / noise_std**2)
    found = contrast(log_densities(normal(*x.shape, seed=7), own, x, std), own)
    error = 4 * float(found.lower.std()) / math.sqrt(len(x))
    assert found.lower.mean() < true + error
    assert found.lower.mean() == pytest.approx(true, abs=error + 0.05)
    assert found.upper.mean() > true - error
    assert bool((found.lower <= math.log(len(x)) + 1e-12).all())


def test_low_noise_ends_at_the_cap() -> None:
    x = normal(64, 10)
    std, own = torch.full_like(x, 1e-3), torch.arange(64)
    found = contrast(log_densities(normal(64, 10, seed=1), own, x, std), own)
    assert torch.allclose(found.lower, torch.tensor(math.log(64), dtype=torch.float64), rtol=1e-12)
    assert found.upper.mean() > upper_diagonal(x, std) > math.log(64)


def test_of_two_images_the_lower_bound_is_the_information_itself() -> None:
    """X = +-1 equally likely, X' = X + noise: I = ln 2 - E ln(1 + exp(-2 (1 + sz) / s^2)), by quadrature."""
    s, draws = 1.3, 200_000
    mean = torch.tensor([[1.0], [-1.0]]).double()
    own = torch.arange(draws) % 2
    unit = normal(draws, 1, seed=3)
    found = contrast(log_densities(unit, own, mean, torch.full_like(mean, s)), own).lower.mean()
    z = torch.linspace(-10, 10, 100_001).double()
    weight = (-z.square() / 2).exp() / math.sqrt(2 * math.pi) * (z[1] - z[0])
    true = math.log(2) - float((weight * torch.nn.functional.softplus(-2 * (1 + s * z) / s**2)).sum())
    assert float(found) == pytest.approx(true, abs=0.005)


def test_a_part_of_the_images_gives_the_same_terms() -> None:
    mean, std = normal(20, 3), normal(20, 3, seed=1).exp()
    unit, own = normal(20, 3, seed=2), torch.arange(20)
    whole = contrast(log_densities(unit, own, mean, std), own)
    part = contrast(log_densities(unit[13:], own[13:], mean, std), own[13:])
    assert torch.allclose(part.lower, whole.lower[13:], rtol=1e-12)
    assert torch.allclose(part.upper, whole.upper[13:], rtol=1e-12)


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="K >= 2"):
        contrast(torch.zeros(1, 1), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match=r"unit: expected \(2, 3\)"):
        log_densities(torch.zeros(2, 4), torch.arange(2), torch.zeros(5, 3), torch.ones(5, 3))
