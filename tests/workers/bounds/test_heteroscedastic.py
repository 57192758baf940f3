"""Noise that depends on the input: against quadrature, mpmath, and the case of equal noise."""

import mpmath
import pytest
import torch
from bounds_support import normal
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from hushsweep.workers.bounds import chi_square_gaussian, chi_square_heteroscedastic


@pytest.mark.parametrize(
    ("z", "s0", "s1"), [(0.7, 1.0, 1.2), (-0.3, 0.5, 0.3), (0.0, 2.0, 2.6), (1.0, 1.0, 1.0)]
)
def test_one_feature_agrees_with_quadrature(z: float, s0: float, s1: float) -> None:
    def integrand(y: float) -> float:
        return float(norm.pdf(y, z, s1) ** 2 / norm.pdf(y, 0, s0))

    expected = quad(integrand, -15 * s0, 15 * s0, points=[0, z], limit=400)[0] - 1
    found = chi_square_heteroscedastic(torch.tensor([z], dtype=torch.float64), s0, s1)
    assert found.item() == pytest.approx(expected, rel=1e-7)


def exact(z: float, s0: float, s1: float) -> float:
    with mpmath.workdps(300):
        a, b, t = mpmath.mpf(s0) ** 2, mpmath.mpf(s1) ** 2, mpmath.mpf(z) ** 2
        return float(a / mpmath.sqrt(b * (2 * a - b)) * mpmath.exp(t / (2 * a - b)) - 1)


@given(st.floats(1e-3, 1e3), st.floats(-0.7, 0.4), st.floats(-12, 0), st.floats(-3, 3))
def test_it_loses_no_digits_however_close_the_two_are(
    s0: float, spread: float, power: float, z: float
) -> None:
    s1, z = s0 * (1 + spread * 10**power), z * s0 * 10**power
    found = chi_square_heteroscedastic(torch.tensor([z], dtype=torch.float64), s0, s1)
    assert found.item() == pytest.approx(exact(z, s0, s1), rel=1e-11, abs=1e-300)


@pytest.mark.parametrize("ratio", [1e-150, 1e-9, 0.5, 1.4142135])
def test_very_different_noise_agrees_with_many_digits(ratio: float) -> None:
    found = chi_square_heteroscedastic(torch.tensor([0.0], dtype=torch.float64), 1.0, ratio)
    assert found.item() == pytest.approx(exact(0.0, 1.0, ratio), rel=1e-9)


def test_it_diverges_from_twice_the_variance_on() -> None:
    s1 = torch.tensor([[1.0, 1.5], [1.0, 1.41], [2.0, 0.1]])
    found = chi_square_heteroscedastic(torch.zeros(3, 2), 1.0, s1)
    assert found.isinf().tolist() == [True, False, True]
    assert bool(chi_square_heteroscedastic(torch.tensor([1e200]), 1.0, 1.1).isinf())


def test_equal_noise_is_the_homoscedastic_case_and_features_multiply() -> None:
    z, s0, s1 = normal(4, 6), normal(6, seed=1).abs() + 0.5, normal(6, seed=2).abs() / 4 + 0.3
    assert torch.allclose(chi_square_heteroscedastic(z, s0, s0), chi_square_gaussian(z, s0), rtol=1e-12)
    apart = torch.stack([chi_square_heteroscedastic(z[:, [i]], float(s0[i]), float(s1[i])) for i in range(6)])
    assert torch.allclose(chi_square_heteroscedastic(z, s0, s1), (1 + apart).prod(0) - 1, rtol=1e-11)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"shifted_noise_std: expected a finite number > 0, got 0\.0"):
        chi_square_heteroscedastic(torch.ones(2), 1.0, 0.0)
    with pytest.raises(ValueError, match=r"noise_std: shape \(3,\) does not broadcast to \(2,\)"):
        chi_square_heteroscedastic(torch.ones(2), torch.ones(3), 1.0)
    with pytest.raises(ValueError, match="feature_shift: expected numbers, got NaN"):
        chi_square_heteroscedastic(torch.tensor([torch.nan]), 1.0, 1.0)
