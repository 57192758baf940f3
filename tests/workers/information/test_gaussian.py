"""Upper bounds against closed forms: constant mixing weight, Gaussian images, and noise that depends on the image."""

import math

import pytest
import torch
from torch import Tensor

from hushsweep.workers.information import (
    gaussian,
    informative_entries,
    upper_diagonal,
    upper_full,
    upper_held_out,
)


def normal(images: int, entries: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, entries, generator=generator, dtype=torch.float64)


def correlated(images: int, entries: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Gaussian images with the covariance that is returned."""
    A = normal(entries, entries, seed=100) / math.sqrt(entries)
    return normal(images, entries, seed) @ A, A.T @ A


def exact(covariance: Tensor, noise_std: float) -> float:
    """I(X; X + noise) of Gaussian X."""
    return float(torch.logdet(torch.eye(len(covariance)).double() + covariance / noise_std**2)) / 2


@pytest.mark.parametrize("w", [0.01, 0.5, 0.7616, 0.999])
def test_a_constant_mixing_weight_on_gaussian_images_has_the_closed_form(w: float) -> None:
    """x' = w x + (1 - w) v: I = 1/2 ln(1 + w^2 var / (1 - w)^2) per entry."""
    x = normal(1000, 4) * torch.tensor([0.1, 1.0, 2.0, 5.0])
    variance = x.var(0, correction=0)
    true = float((1 + w**2 * variance / (1 - w) ** 2).log().sum()) / 2
    assert upper_diagonal(w * x, torch.full_like(x, 1 - w)) == pytest.approx(true, rel=1e-12)


def test_both_hold_and_the_full_one_is_never_above_the_diagonal() -> None:
    x, covariance = correlated(20_000, 12)
    for noise_std in (0.1, 1.0, 10.0):
        std, true = torch.full_like(x, noise_std), exact(covariance, noise_std)
        diagonal, full = upper_diagonal(x, std), upper_full(x, std)
        assert full <= diagonal
        assert full == pytest.approx(true, rel=0.02)
        assert diagonal > true


@pytest.mark.parametrize("images", [8, 40])
def test_full_equals_the_plain_determinant_either_way_round(images: int) -> None:
    """With fewer images than entries and with more; noise of many sizes, different for every image."""
    x, std = normal(images, 20) * 3, normal(images, 20, seed=1).exp()
    noise = std.square().mean(0)
    plain = torch.logdet(torch.cov(x.T, correction=0) + noise.diag()) / 2 - std.log().sum(1).mean()
    assert upper_full(x, std) == pytest.approx(float(plain), rel=1e-10)
    assert upper_full(x, std) <= upper_diagonal(x, std)
    marginal = noise + x.var(0, correction=0)
    assert upper_diagonal(x, std) == pytest.approx(
        float((marginal.log() / 2 - std.log().mean(0)).sum()), rel=1e-12
    )


def test_next_to_no_noise_keeps_its_digits() -> None:
    """Rank 2 of 6 entries and noise of 1e-9: eigenvalues of the Gram matrix alone would be rounding."""
    x = normal(30, 2) @ normal(2, 6, seed=1)
    values = torch.linalg.svdvals(x - x.mean(0))[:2] / math.sqrt(30)
    true = float((values / 1e-9).square().log1p().sum()) / 2
    assert upper_full(x, torch.full_like(x, 1e-9)) == pytest.approx(true, rel=1e-6)


def test_noise_that_hides_everything_leaves_nothing() -> None:
    x = normal(50, 7)
    std = torch.full_like(x, 1e6)
    assert 0 <= upper_full(x, std) <= upper_diagonal(x, std) < 1e-10
    for bound in (upper_diagonal, upper_full):
        assert bound(torch.zeros(5, 3), torch.full((5, 3), 0.3)) == 0
        assert bound(torch.zeros(5, 0), torch.zeros(5, 0)) == 0


def test_wide_values_are_worked_on_in_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    x, std = normal(9, 30), normal(9, 30, seed=1).exp()
    whole = upper_diagonal(x, std), upper_full(x, std), upper_held_out(x, std)
    monkeypatch.setattr("hushsweep.workers.information.channel.WIDTH", 7)
    parts = upper_diagonal(x, std), upper_full(x, std), upper_held_out(x, std)
    assert parts[:2] == pytest.approx(whole[:2], rel=1e-12)
    assert torch.allclose(parts[2], whole[2], rtol=1e-10)


def test_too_many_images_and_entries_are_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian, "LIMIT", 8)
    upper_full(normal(8, 20), torch.ones(8, 20))
    with pytest.raises(ValueError, match="no covariance of 20 entries from 9 images: above 8"):
        upper_full(normal(9, 20), torch.ones(9, 20))


@pytest.mark.parametrize("images", [60, 400])
def test_held_out_holds_for_images_drawn_alike_where_the_estimated_determinant_does_not(images: int) -> None:
    """30 data sets: the mean over them is the expectation, to within four standard errors."""
    found, full = [], []
    for seed in range(30):
        x, covariance = correlated(images, 100, seed)
        std = torch.full_like(x, 0.5)
        found.append(float(upper_held_out(x, std).mean()))
        full.append(upper_full(x, std))
    true, diagonal = exact(covariance, 0.5), float((covariance.diagonal() / 0.25).log1p().sum()) / 2
    error = torch.tensor(found).std() / math.sqrt(30)
    assert sum(found) / 30 > true - 4 * error
    assert sum(full) / 30 < true - 2, "so few images make the covariance look smaller than it is"
    if images == 400:
        assert true < sum(found) / 30 < diagonal


def test_held_out_is_the_divergence_from_the_gaussian_of_the_other_half() -> None:
    from hushsweep.workers.information import held_out

    x, std = normal(20, 3), normal(20, 3, seed=1).exp()
    found = held_out._Reference.fit(x[::2], std[::2], 0.9).divergence(x[1::2], std[1::2])
    covariance = 0.9 * torch.cov(x[::2].T, correction=0)
    covariance += (0.1 * x[::2].var(0, correction=0) + std[::2].square().mean(0)).diag()
    q = torch.distributions.MultivariateNormal(x[::2].mean(0), covariance)
    for row, value in enumerate(found):
        p = torch.distributions.MultivariateNormal(x[2 * row + 1], std[2 * row + 1].square().diag())
        assert float(value) == pytest.approx(float(torch.distributions.kl_divergence(p, q)), rel=1e-10)
    with pytest.raises(ValueError, match="at least 4 images, got 3"):
        upper_held_out(x[:3], std[:3])


def test_entries_without_noise_drop_out_or_are_infinite() -> None:
    mean = torch.tensor([[1.0, 5.0, 2.0], [1.0, 5.0, 3.0]]).double()
    std = torch.tensor([[0.0, 0.1, 0.2], [0.0, 0.1, 0.2]]).double()
    assert [values.shape for values in informative_entries(mean, std)] == [(2, 2), (2, 2)]
    with pytest.raises(ValueError, match="infinite: 1 entries leave without noise and vary"):
        informative_entries(mean, std * torch.tensor([1, 1, 0]))
    std[0, 1] = 0
    with pytest.raises(ValueError, match="infinite: 1 entries leave without noise for some of the images"):
        informative_entries(mean, std)
    same, all_std = normal(3, 2), torch.ones(3, 2)
    assert informative_entries(same, all_std)[0] is same


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        (torch.zeros(2, 3), torch.ones(2, 2), "expected the same shape"),
        (torch.zeros(0, 3), torch.ones(0, 3), "expected the same shape"),
        (torch.zeros(2, 3), torch.zeros(2, 3), "std: expected finite numbers > 0"),
        (torch.full((2, 3), math.nan), torch.ones(2, 3), "mean: expected finite numbers"),
    ],
)
def test_bad_numbers_are_refused(mean: Tensor, std: Tensor, said: str) -> None:
    for bound in (upper_diagonal, upper_full, upper_held_out):
        with pytest.raises(ValueError, match=said):
            bound(mean, std)


def test_broken_values_are_not_called_infinite_information() -> None:
    with pytest.raises(ValueError, match="is not finite"):
        informative_entries(torch.full((2, 2), math.inf), torch.ones(2, 2))
    with pytest.raises(ValueError, match="is negative"):
        informative_entries(torch.zeros(2, 2), -torch.ones(2, 2))
    with pytest.raises(ValueError, match="the same shape"):
        informative_entries(torch.zeros(2, 2), torch.ones(2))
