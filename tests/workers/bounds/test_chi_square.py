"""Closed forms against quadrature and against 60-digit arithmetic."""

import mpmath
import pytest
import torch
from bounds_support import normal
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import laplace, norm

from hushsweep.workers.bounds import chi_square_gaussian, chi_square_laplace

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
