"""The bound of given shifts against the oracle of a linear feature map, and its edge cases."""

import mpmath
import numpy as np
import pytest
import torch
from bounds_support import Linear, normal
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dctn, idctn

from hushsweep.workers.bounds import bound_modes, chi_square_gaussian, dct, hcr_std_bound, idct

WEIGHT = normal(9, 6, seed=5)
INFORMATION = WEIGHT.T @ WEIGHT
SIGMA = 0.7


def bound_of(shift: torch.Tensor, sigma: float = SIGMA) -> torch.Tensor:
    return hcr_std_bound(shift, chi_square_gaussian(shift @ WEIGHT.T, sigma))


@given(st.integers(0, 999), st.floats(1e-6, 3))
def test_a_linear_map_is_never_above_its_cramer_rao_bound(seed: int, size: float) -> None:
    exact = SIGMA * torch.linalg.inv(INFORMATION).diagonal().sqrt()
    assert bool((bound_of(size * normal(4, 6, seed=seed)) <= exact * (1 + 1e-9)).all())


def test_it_reaches_the_cramer_rao_bound_along_the_best_direction_as_the_shift_shrinks() -> None:
    inverse = torch.linalg.inv(INFORMATION)
    shift = (
        inverse / (inverse @ INFORMATION @ inverse).diagonal().sqrt()[:, None]
    )  # row k: optimal for entry k
    for size, tolerance in ((1e-1, 6e-3), (1e-3, 6e-7), (1e-6, 1e-12)):
        reached = bound_of(size * shift * SIGMA).diagonal()
        assert torch.allclose(reached, SIGMA * inverse.diagonal().sqrt(), rtol=tolerance)


@pytest.mark.parametrize(
    ("name", "x", "step"), [("square", 1.0, -1.7), ("square", 0.3, -0.5), ("tanh", 0.5, 4.0)]
)
def test_a_long_shift_of_a_curved_map_exceeds_the_cramer_rao_bound(name: str, x: float, step: float) -> None:
    with mpmath.workdps(40):
        f = {"square": lambda t: t * t, "tanh": mpmath.tanh}[name]
        start, end = mpmath.mpf(x), mpmath.mpf(x) + mpmath.mpf(step)
        exact = float(
            abs(end - start) / mpmath.sqrt(mpmath.expm1(((f(end) - f(start)) / mpmath.mpf(SIGMA)) ** 2))
        )
        cramer_rao = float(SIGMA / mpmath.diff(f, start))
    feature = {"square": torch.square, "tanh": torch.tanh}[name]
    ends = torch.tensor([x, x + step], dtype=torch.float64)
    found = hcr_std_bound(ends[1] - ends[0], chi_square_gaussian(feature(ends).diff(), SIGMA))
    assert found.item() == pytest.approx(exact, rel=1e-12)
    assert found.item() > 1.05 * cramer_rao


@given(st.floats(0.01, 10), st.floats(1.01, 10))
def test_more_noise_bounds_more(sigma: float, factor: float) -> None:
    shift = 0.1 * normal(3, 6)
    assert bool((bound_of(shift, sigma * factor) >= bound_of(shift, sigma)).all())


def test_no_divergence_bounds_nothing_or_everything_and_an_infinite_one_is_no_bound() -> None:
    shift = torch.tensor([[1.0, 0.0], [2.0, -3.0], [2.0, 0.0]])
    bound = hcr_std_bound(shift, torch.tensor([0.0, torch.inf, 4.0]))
    assert bound.dtype == torch.float64
    assert bound.tolist() == [[torch.inf, 0.0], [0.0, 0.0], [1.0, 0.0]]


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"first axes of the shifts' shape \(3, 2\), got shape \(2,\)"):
        hcr_std_bound(torch.ones(3, 2), torch.ones(2))
    with pytest.raises(ValueError, match=r"first axes of the shifts' shape \(3,\), got shape \(3, 1\)"):
        hcr_std_bound(torch.ones(3), torch.ones(3, 1))
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="input_shift: expected finite numbers"):
            hcr_std_bound(torch.tensor([1.0, bad]), torch.tensor(1.0))
    for bad in (-1e-9, torch.nan):
        with pytest.raises(ValueError, match="a negative one or NaN"):
            hcr_std_bound(torch.ones(1, 2), torch.tensor([bad]))


def test_the_shape_of_the_divergences_says_what_a_shift_is() -> None:
    shift, chi_square = normal(2, 3, 4, 5), normal(2, 3, 4, 5, seed=1).square()
    for axes in range(5):
        divergence = chi_square[(..., *[0] * (4 - axes))]
        found = hcr_std_bound(shift, divergence)
        for index in np.ndindex(2, 3, 4, 5):
            expected = abs(float(shift[index])) / float(divergence[index[:axes]]) ** 0.5
            assert found[index].item() == pytest.approx(expected, rel=1e-14)
    assert hcr_std_bound(torch.zeros(0, 3), torch.zeros(0)).shape == (0, 3)


def test_a_shift_of_zeros_is_named() -> None:
    shift = torch.ones(2, 3, 4)
    shift[1, 2] = 0
    with pytest.raises(
        ValueError, match=r"input_shift\[1, 2\]: expected a nonzero entry, got a shift of zeros$"
    ):
        hcr_std_bound(shift, torch.ones(2, 3))
    shift[0] = 0
    with pytest.raises(ValueError, match=r"input_shift\[0, 0\]: .* \(and 3 more\)"):
        hcr_std_bound(shift, torch.ones(2, 3))
    with pytest.raises(ValueError, match="input_shift: expected a nonzero entry"):
        hcr_std_bound(torch.zeros(4), torch.tensor(0.0))
    assert hcr_std_bound(shift, torch.tensor(4.0)).amax() == 0.5  # one shift of all entries


@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (1, 3, 7, 5), (4, 1)])
def test_the_cosine_transform_is_scipys(shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    assert torch.allclose(dct(x), torch.from_numpy(dctn(x.numpy(), axes=(-2, -1), norm="ortho")), atol=1e-12)
    assert torch.allclose(
        idct(x), torch.from_numpy(idctn(x.numpy(), axes=(-2, -1), norm="ortho")), atol=1e-12
    )
    assert torch.allclose(idct(dct(x)), x, atol=1e-12)
    assert dct(x.float()).dtype == torch.float64


def test_modes_take_the_largest_bound_over_shifts_whatever_the_batch() -> None:
    model, x, shift = Linear(normal(10, 12)), normal(3, 1, 3, 4), 0.1 * normal(3, 5, 1, 3, 4, seed=1)
    whole, parts = (
        bound_modes(model, x, shift, lambda z: chi_square_gaussian(z, SIGMA), max_batch=size)
        for size in (512, 2)
    )
    for i in range(3):
        single = [
            hcr_std_bound(dct(e)[None], chi_square_gaussian(model.features(e[None]), SIGMA))[0]
            for e in shift[i]
        ]
        assert torch.allclose(whole.modes[i], torch.stack(single).amax(0), rtol=1e-9)
        norms = torch.stack([model.features(e[None]).norm() for e in shift[i]])
        assert torch.allclose(whole.feature_norm[i], norms, rtol=1e-9)
    assert torch.allclose(whole.input_norm, shift.flatten(2).norm(dim=2))
    for together, apart in zip(whole, parts, strict=True):
        assert torch.allclose(together, apart, rtol=1e-9)


def test_a_shift_of_zeros_bounds_no_mode_and_spoils_no_other() -> None:
    model, x, shift = Linear(normal(10, 12)), normal(2, 1, 3, 4), 0.1 * normal(2, 3, 1, 3, 4, seed=1)
    shift[0, 1] = shift[1] = 0
    found = bound_modes(model, x, shift, lambda z: chi_square_gaussian(z, SIGMA))
    others = bound_modes(model, x[:1], shift[:1, ::2], lambda z: chi_square_gaussian(z, SIGMA))
    assert torch.allclose(found.modes[:1], others.modes, rtol=1e-12)
    assert bool((found.modes[1] == 0).all())
    # a matrix product may round an image differently beside other images
    assert found.chi_square[1].tolist() == pytest.approx([0, 0, 0], abs=1e-25)
