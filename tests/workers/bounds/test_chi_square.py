"""Closed forms against quadrature and against 60-digit arithmetic."""

import mpmath
import pytest
import torch
from bounds_support import normal
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import laplace, norm

from hushsweep.workers.bounds import chi_square_anisotropic, chi_square_gaussian, chi_square_laplace

LAWS = {"gaussian": (chi_square_gaussian, norm), "laplace": (chi_square_laplace, laplace)}
SIZES = st.floats(1e-12, 20)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("shift", "scale"), [(0.05, 1.0), (-0.7, 2.0), (1.5, 0.5), (-2.0, 1.3)])
def test_one_feature_agrees_with_quadrature(law: str, shift: float, scale: float) -> None:
    chi_square, density = LAWS[law]

    def integrand(y: float) -> float:
        return density.pdf(y, shift, scale) ** 2 / density.pdf(y, 0, scale)

    expected = (
        quad(integrand, -30 * scale, 30 * scale, points=sorted([0, shift, 2 * shift]), limit=400)[0] - 1
    )
    found = chi_square(torch.tensor([shift], dtype=torch.float64), scale)
    assert found.item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("law", LAWS)
def test_independent_features_multiply(law: str) -> None:
    chi_square, _ = LAWS[law]
    shift = 0.3 * normal(4, 6)
    apart = chi_square(shift.unsqueeze(-1), 0.8)
    assert torch.allclose(chi_square(shift, 0.8), (1 + apart).prod(1) - 1, rtol=1e-12)


@given(SIZES)
def test_laplace_loses_no_digits_at_any_size(t: float) -> None:
    with mpmath.workdps(60):
        t_ = mpmath.mpf(t)
        expected = float(mpmath.mpf(2) / 3 * mpmath.exp(t_) + mpmath.exp(-2 * t_) / 3 - 1)
    assert chi_square_laplace(torch.tensor([t], dtype=torch.float64), 1.0).item() == pytest.approx(
        expected, rel=1e-13
    )


@given(SIZES)
def test_gaussian_loses_no_digits_at_any_size(d: float) -> None:
    with mpmath.workdps(60):
        expected = float(mpmath.expm1(mpmath.mpf(d) ** 2))
    assert chi_square_gaussian(torch.tensor([d], dtype=torch.float64), 1.0).item() == pytest.approx(
        expected, rel=1e-12
    )


def test_a_step_of_a_thousandth_in_float32_is_exact_where_the_published_formula_is_not() -> None:
    shift = torch.full((784,), 1e-3 / 28, dtype=torch.float32)
    published = torch.exp(shift.norm().square()) - 1
    found = chi_square_gaussian(shift, 1.0)
    assert found.item() == pytest.approx(1e-6, rel=1e-6)
    assert abs(published.item() / 1e-6 - 1) > 0.04


def test_a_huge_shift_overflows_to_infinity_and_none_is_zero() -> None:
    shift = torch.tensor([[1e3, -1e3], [1e200, 0], [0, 0]], dtype=torch.float64)
    for chi_square, _ in LAWS.values():
        assert chi_square(shift, 1.0).tolist() == [torch.inf, torch.inf, 0]
    # far beyond exp's range per feature, but just inside it in the sum
    assert chi_square_laplace(torch.tensor([350.0, 350.0]), 1.0).item() == pytest.approx(
        float(mpmath.exp(700) * 4 / 9), rel=1e-10
    )


@given(st.floats(1e-3, 10), st.floats(1.001, 10), st.integers(0, 99))
def test_more_noise_means_less_divergence(scale: float, factor: float, seed: int) -> None:
    shift = normal(5, 8, seed=seed)
    for chi_square, _ in LAWS.values():
        less, more = chi_square(shift, scale * factor), chi_square(shift, scale)
        assert bool((less <= more).all())
        assert bool((less < more).any()) or bool(less.isinf().all())


@given(st.integers(0, 99))
def test_rotating_the_features_changes_nothing_under_gaussian_noise(seed: int) -> None:
    rotation = torch.linalg.qr(normal(8, 8, seed=seed)).Q
    shift = normal(5, 8, seed=seed + 1)
    assert torch.allclose(
        chi_square_gaussian(shift @ rotation, 1.7), chi_square_gaussian(shift, 1.7), rtol=1e-12
    )


def test_repeated_queries_compose_like_less_noise() -> None:
    shift = normal(3, 8)
    single, averaged = chi_square_gaussian(shift, 2.0), chi_square_gaussian(shift, 2.0 / 5**0.5)
    assert torch.allclose((1 + single) ** 5 - 1, averaged, rtol=1e-12)


@pytest.mark.parametrize("chi_square", [chi_square_gaussian, chi_square_laplace])
def test_bad_input_is_named(chi_square) -> None:  # type: ignore[no-untyped-def]
    for unit in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"expected a finite number > 0, got"):
            chi_square(torch.ones(2), unit)
    with pytest.raises(ValueError, match="feature_shift: expected numbers, got NaN"):
        chi_square(torch.tensor([1.0, torch.nan]), 1.0)


def test_a_standard_deviation_for_each_feature_is_a_unit_for_each() -> None:
    shift, std = normal(4, 3, 6), normal(6, seed=1).abs() + 0.1
    apart = torch.stack([chi_square_gaussian(shift[..., [i]], float(std[i])) for i in range(6)])
    assert torch.allclose(chi_square_gaussian(shift, std), (1 + apart).prod(0) - 1, rtol=1e-11)
    assert torch.equal(
        chi_square_gaussian(shift, torch.tensor(0.7, dtype=torch.float64)),
        chi_square_gaussian(shift, 0.7 + 0 * std),
    )
    assert torch.equal(
        chi_square_gaussian(shift, std.expand(3, 6))[1, 2], chi_square_gaussian(shift[1, 2], std)
    )


def covariance(size: int = 5) -> torch.Tensor:
    factor = normal(size, size, seed=3)
    return factor @ factor.T + 0.1 * torch.eye(size)


def test_correlated_noise_agrees_with_the_quadratic_form_in_60_digits() -> None:
    shift, c = 0.3 * normal(4, 5), covariance()
    with mpmath.workdps(60):
        inverse = mpmath.matrix(c.tolist()) ** -1
        for z, found in zip(shift.tolist(), chi_square_anisotropic(shift, c), strict=True):
            z_ = mpmath.matrix(z)
            assert found.item() == pytest.approx(float(mpmath.expm1((z_.T * inverse * z_)[0])), rel=1e-11)


def test_a_diagonal_covariance_is_a_standard_deviation_for_each_feature() -> None:
    shift, std = normal(4, 6), normal(6, seed=1).abs() + 0.1
    assert torch.allclose(
        chi_square_anisotropic(shift, std.square().diag()), chi_square_gaussian(shift, std), rtol=1e-12
    )


def test_correlated_noise_overflows_to_infinity_and_loses_nothing_small() -> None:
    shift = torch.tensor([[1e300, -1e300, 1e300, 0, 1e300], [0] * 5], dtype=torch.float64)
    assert chi_square_anisotropic(shift, covariance()).tolist() == [torch.inf, 0]
    tiny = 1e-150 * normal(5)
    expected = 1e-300 * float(normal(5) @ torch.linalg.solve(covariance(), normal(5)))
    assert chi_square_anisotropic(tiny, covariance()).item() == pytest.approx(expected, rel=1e-11)


def test_bad_tensors_of_standard_deviations_and_covariances_are_named() -> None:
    with pytest.raises(ValueError, match=r"noise_std: expected finite numbers > 0, got -1\.0"):
        chi_square_gaussian(torch.ones(2), torch.tensor([1.0, -1.0]))
    for shape in ((3,), (2, 2)):
        with pytest.raises(ValueError, match=r"noise_std: shape .* does not broadcast to \(2,\)"):
            chi_square_gaussian(torch.ones(2), torch.ones(shape))
    with pytest.raises(ValueError, match=r"covariance: expected shape \(2, 2\), got \(3, 3\)"):
        chi_square_anisotropic(torch.ones(2), torch.eye(3))
    skew, indefinite = torch.tensor([[2.0, 1.0], [0.5, 2.0]]), torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    for bad in (skew, skew.T, indefinite, torch.zeros(2, 2), torch.full((2, 2), torch.nan)):
        with pytest.raises(ValueError, match="covariance: expected a symmetric positive definite matrix"):
            chi_square_anisotropic(torch.ones(2), bad)
    with pytest.raises(ValueError, match="feature_shift: expected finite numbers"):
        chi_square_anisotropic(torch.tensor([1.0, torch.inf]), torch.eye(2))
