"""Two inputs hard to tell apart: against brute-force integration of the Bayes error and 50-digit arithmetic."""

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import laplace, norm

from hushsweep.workers.bounds import (
    indistinguishability_radius,
    two_point_mse_bound,
    two_point_mse_bound_laplace,
)

ONE = torch.tensor(1.0, dtype=torch.float64)


def g(*distance: float) -> list[float]:
    return two_point_mse_bound(ONE, torch.tensor(distance, dtype=torch.float64)).tolist()


def bayes_error(density, shift: float, scale: float, tail: float = 12) -> float:  # type: ignore[no-untyped-def]
    """Mean squared error of the posterior mean of x in {0, 1} seen as shift x + noise, with equal odds."""

    def integrand(y: float) -> float:
        p0, p1 = density.pdf(y, 0, scale), density.pdf(y, shift, scale)
        guess = p1 / (p0 + p1)
        return float((p0 * guess**2 + p1 * (1 - guess) ** 2) / 2)

    ends = (-tail * scale, shift + tail * scale)
    return float(quad(integrand, *ends, points=[0, shift / 2, shift], limit=500, epsabs=0, epsrel=1e-11)[0])


@pytest.mark.parametrize("d", [0.01, 0.3, 1.0, 2.5, 6.0, 10.0])
def test_it_is_the_bayes_error_in_one_dimension(d: float) -> None:
    assert g(d)[0] == pytest.approx(bayes_error(norm, 0.5 * d, 0.5), rel=1e-9)


def definition(d: float) -> mpmath.mpf:
    with mpmath.workdps(50):
        d_ = mpmath.mpf(d)
        # L = d^2 / 2 + d t with t ~ N(0, 1); pi (1 - pi) = 1 / (4 cosh(L / 2)^2) has its peak at L = 0
        peak = [(point - d_**2 / 2) / d_ for point in mpmath.linspace(-100, 100, 401)]
        ends = sorted({*mpmath.linspace(-40, 20, 61), *(t for t in peak if abs(t) < 40)})
        return mpmath.quad(
            lambda t: mpmath.npdf(t) / (4 * mpmath.cosh((d_**2 / 2 + d_ * t) / 2) ** 2), ends, maxdegree=5
        )


@pytest.mark.parametrize("d", [1e-9, 0.1, 0.5, 0.99, 1.0, 1.5, 3.0, 8.0, 20.0, 40.0])
def test_it_is_just_below_its_definition(d: float) -> None:
    exact = definition(d)
    assert exact * (1 - mpmath.mpf("1e-12")) <= mpmath.mpf(g(d)[0]) <= exact


def test_it_falls_from_a_quarter_to_nothing() -> None:
    assert g(0.0) == [0.25]
    values = torch.tensor(g(*torch.linspace(0, 40, 4001).tolist()), dtype=torch.float64)
    assert bool((values.diff() < 0).all())
    assert g(1e-300, 200.0, math.inf) == [pytest.approx(0.25, rel=1e-12), 0, 0]


@given(st.floats(0, 60))
def test_it_is_between_le_cams_inequalities(d: float) -> None:
    # min(pi, 1 - pi) / 2 <= pi (1 - pi) <= min(pi, 1 - pi), whose mean is Phi(-d / 2)
    testing = float(norm.cdf(-d / 2))
    assert testing / 2 * (1 - 1e-12) <= g(d)[0] <= testing * (1 + 1e-12)


def test_it_scales_with_the_square_of_the_shift_and_broadcasts() -> None:
    size, distance = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0, 2.0])
    found = two_point_mse_bound(size, distance)
    assert found.shape == (2, 3)
    assert found.dtype == torch.float64
    assert torch.allclose(found[1], 9 * found[0], rtol=1e-14)


@pytest.mark.parametrize("shift", [0.01, 0.5, 2.0, 5.0])
def test_laplace_is_below_the_bayes_error_and_its_coefficient_is_the_integral(shift: float) -> None:
    scale = 0.8
    found = two_point_mse_bound_laplace(ONE, torch.tensor([shift], dtype=torch.float64), scale).item()
    affinity = quad(
        lambda y: math.sqrt(laplace.pdf(y, 0, scale) * laplace.pdf(y, shift, scale)),
        -40 * scale,
        shift + 40 * scale,
        points=[0, shift],
        limit=400,
    )[0]
    assert found == pytest.approx(affinity**2 / 4, rel=1e-9)
    error = bayes_error(laplace, shift, scale, tail=40)
    assert error / 4 <= found <= error * (1 + 1e-9)


def test_laplace_features_multiply_and_huge_shifts_bound_nothing() -> None:
    z = torch.tensor([[0.3, -2.0, 1.0], [torch.inf, 0.0, 0.0], [1e300, 1e300, 0.0], [0, 0, 0]]).double()
    found = two_point_mse_bound_laplace(torch.tensor([2.0] * 4), z, 0.5)
    apart = [two_point_mse_bound_laplace(ONE, z[0, [i]], 0.5).item() for i in range(3)]
    assert found[0].item() == pytest.approx(4 * 16 * math.prod(apart), rel=1e-12)
    assert found[1:].tolist() == [0, 0, 1]


def test_the_radius_is_the_longest_shift_that_is_near_enough() -> None:
    size = torch.tensor([[1.0, 5.0, 3.0], [1.0, 5.0, 3.0]])
    distance = torch.tensor([[0.1, 2.0, 1.0], [1.1, 2.0, 1.2]])
    assert indistinguishability_radius(size, distance, 1.0).tolist() == [3, 0]
    assert indistinguishability_radius(size, distance, 2.0).tolist() == [5, 5]
    assert indistinguishability_radius(size[:, :0], distance[:, :0], 1.0).tolist() == [0, 0]


def test_bad_input_is_named() -> None:
    for bad in (-1.0, torch.nan):
        value = torch.tensor(bad)
        for call in (two_point_mse_bound, lambda e, d: indistinguishability_radius(e[None], d[None], 1.0)):
            with pytest.raises(
                ValueError, match="shift_norm: expected numbers >= 0, got a negative one or NaN"
            ):
                call(value, ONE)
            with pytest.raises(
                ValueError, match="distance: expected numbers >= 0, got a negative one or NaN"
            ):
                call(ONE, value)
        with pytest.raises(ValueError, match="threshold: expected a number >= 0, got"):
            indistinguishability_radius(ONE[None], ONE[None], bad)
    with pytest.raises(ValueError, match="shift_norm: expected finite numbers, got an infinite one"):
        two_point_mse_bound(torch.tensor(torch.inf), ONE)
    with pytest.raises(ValueError, match="feature_shift: expected numbers >= 0, got a negative one or NaN"):
        two_point_mse_bound_laplace(ONE, torch.tensor([torch.nan]), 1.0)
    with pytest.raises(ValueError, match="scale: expected a finite number > 0"):
        two_point_mse_bound_laplace(ONE, torch.ones(1), 0.0)
    with pytest.raises(ValueError, match=r"expected one shape \(..., m\), got \(2,\) and \(3,\)"):
        indistinguishability_radius(torch.ones(2), torch.ones(3), 1.0)
