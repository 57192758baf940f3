"""Several shifts at once against 600-digit arithmetic, Cramer-Rao, single shifts, and where rounding would lie."""

from collections.abc import Callable
from itertools import pairwise

import mpmath
import pytest
import torch
from bounds_support import normal
from hypothesis import given, settings
from hypothesis import strategies as st

from hushsweep.workers.bounds import (
    barankin_from_gram,
    barankin_variance_bound,
    chi_square_gaussian,
    dct,
    hcr_std_bound,
)

SIGMA = 0.7
properties = settings(max_examples=30, deadline=None)  # many small factorisations, slow on a busy machine
WEIGHT = normal(9, 6, seed=5)


def exact(e: torch.Tensor, z: list[list[mpmath.mpf]], sigma: float) -> list[float]:
    """The bound of shifts (m, inputs) whose displacements are known to 600 digits."""
    with mpmath.workdps(600):
        m = len(z)
        gram = mpmath.matrix(m, m)
        for i in range(m):
            for j in range(m):
                gram[i, j] = mpmath.expm1(mpmath.fdot(z[i], z[j]) / mpmath.mpf(sigma) ** 2)
        columns = [mpmath.matrix(column) for column in e.T.tolist()]
        return [float(mpmath.fdot(column, mpmath.lu_solve(gram, column))) for column in columns]


def linear(e: torch.Tensor, weight: torch.Tensor) -> list[list[mpmath.mpf]]:
    with mpmath.workdps(600):
        product = mpmath.matrix(e.tolist()) * mpmath.matrix(weight.T.tolist())
        return product.tolist()


def single(e: torch.Tensor, z: torch.Tensor, sigma: float = SIGMA) -> torch.Tensor:
    return hcr_std_bound(e, chi_square_gaussian(z, sigma)).square().amax(-2)


def bound_of(e: torch.Tensor, sigma: float = SIGMA) -> torch.Tensor:
    return barankin_variance_bound(e, e @ WEIGHT.T, sigma)


@pytest.mark.parametrize(("first", "second"), [(1.0, -0.5), (0.3, 0.31), (2.0, 1e-3), (-1e-3, 1e-3)])
def test_two_shifts_in_one_dimension_have_a_closed_form(first: float, second: float) -> None:
    x, e = 0.2, torch.tensor([[first], [second]], dtype=torch.float64)
    with mpmath.workdps(600):
        z1, z2 = (
            mpmath.tanh(mpmath.mpf(x) + mpmath.mpf(t)) - mpmath.tanh(mpmath.mpf(x)) for t in (first, second)
        )
        a, b, c = (mpmath.expm1(p / mpmath.mpf(SIGMA) ** 2) for p in (z1 * z1, z2 * z2, z1 * z2))
        t1, t2 = mpmath.mpf(first), mpmath.mpf(second)
        closed = float((t1**2 * b - 2 * t1 * t2 * c + t2**2 * a) / (a * b - c * c))
    z = torch.tanh(x + e) - torch.tanh(torch.tensor(x, dtype=torch.float64))
    found = barankin_variance_bound(e, z, SIGMA).item()
    # what the regularisation costs is largest for the nearly equal shifts and the tiny ones
    assert closed * (1 - 1e-4) <= found <= closed * (1 + 1e-12)
    assert found >= single(e, z).item() * (1 - 1e-12)


@properties
@given(st.integers(0, 999), st.integers(1, 8), st.floats(1e-3, 2))
def test_a_linear_map_is_never_above_its_cramer_rao_bound(seed: int, m: int, size: float) -> None:
    cramer_rao = SIGMA**2 * torch.linalg.inv(WEIGHT.T @ WEIGHT).diagonal()
    e = size * normal(m, 6, seed=seed)
    found = bound_of(e)
    assert bool((found <= cramer_rao * (1 + 1e-9)).all())
    assert bool((found >= single(e, e @ WEIGHT.T) * (1 - 1e-12)).all())


def test_shifts_that_span_the_inputs_reach_cramer_rao_as_they_shrink_and_single_ones_do_not() -> None:
    cramer_rao = SIGMA**2 * torch.linalg.inv(WEIGHT.T @ WEIGHT).diagonal()
    for size, tolerance in ((1e-2, 5e-2), (1e-3, 5e-4), (1e-6, 1e-7)):
        e = size * normal(6, 6)
        assert torch.allclose(bound_of(e), cramer_rao, rtol=tolerance)
        assert not torch.allclose(single(e, e @ WEIGHT.T), cramer_rao, rtol=0.3)


@properties
@given(st.integers(0, 999), st.floats(0.05, 2))
def test_more_shifts_never_bound_less(seed: int, size: float) -> None:
    e = size * normal(10, 6, seed=seed)
    found = torch.stack([bound_of(e[:m]) for m in range(1, 11)])
    assert bool((found[1:] >= found[:-1] * (1 - 1e-6)).all())


@properties
@given(st.integers(0, 999), st.floats(1e-3, 3))
def test_rotating_the_features_changes_nothing_and_rotating_the_basis_keeps_the_trace(
    seed: int, size: float
) -> None:
    e = size * normal(4, 6, seed=seed)
    z = e @ WEIGHT.T
    rotation, turned = (torch.linalg.qr(normal(k, k, seed=seed)).Q for k in (9, 6))
    found = barankin_variance_bound(e, z, SIGMA)
    assert torch.allclose(barankin_variance_bound(e, z @ rotation, SIGMA), found, rtol=1e-6)
    other = barankin_variance_bound(e, z, SIGMA, turned)
    inside = barankin_variance_bound(e @ turned.T, z, SIGMA)
    assert torch.allclose(other, inside, rtol=1e-12)
    # the maximum with single shifts touches nothing here, so the bound is the diagonal of one matrix
    assert other.sum().item() == pytest.approx(found.sum().item(), rel=1e-6)


@properties
@given(st.floats(0.01, 10), st.floats(1.01, 10))
def test_more_noise_bounds_more(sigma: float, factor: float) -> None:
    e = 0.1 * normal(3, 6)
    assert bool((bound_of(e, sigma * factor) >= bound_of(e, sigma) * (1 - 1e-9)).all())


def test_a_transform_as_basis_and_batches_and_noise_levels_from_one_gram_matrix() -> None:
    e = 0.3 * normal(2, 5, 4, 6)
    z = e @ WEIGHT.T

    def modes(v: torch.Tensor) -> torch.Tensor:
        return dct(v.unflatten(-1, (1, 2, 3))).flatten(-3)

    for sigma in (0.1, 1.0, 30.0):
        found = barankin_variance_bound(e, z, sigma, modes)
        assert found.shape == (2, 5, 6)
        assert torch.allclose(barankin_from_gram(modes(e), z @ z.mT, sigma), found, rtol=1e-12)
        alone = barankin_variance_bound(modes(e[1, 3]), z[1, 3], sigma)
        assert torch.allclose(alone, found[1, 3], rtol=1e-7)


def nearly_parallel() -> torch.Tensor:
    e = 1e-3 * normal(3, 6)
    return torch.cat([e, e * (1 + 1e-9), e + 1e-12 * normal(3, 6, seed=1), 2 * e])


HARD: dict[str, Callable[[], torch.Tensor]] = {
    "a step of a thousandth": lambda: 1e-3 * normal(6, 6),
    "nearly parallel": nearly_parallel,
    "more shifts than inputs": lambda: 1e-3 * normal(14, 6),
    "short and long": lambda: torch.tensor([1e-6, 1e-3, 0.1, 1, 3.0])[:, None] * normal(5, 6),
}


@pytest.mark.parametrize("weight", [WEIGHT, WEIGHT[:4]], ids=["full rank", "rank 4 of 6"])
@pytest.mark.parametrize("case", HARD)
def test_rounding_never_lifts_it_above_the_truth(case: str, weight: torch.Tensor) -> None:
    e = HARD[case]().double()
    truth = torch.tensor(exact(e, linear(e, weight), SIGMA), dtype=torch.float64)
    clean = 30 * normal(len(weight), seed=2)  # the displacements carry the rounding of features of size 30
    z = (clean + e @ weight.T) - clean
    # each shift's own bound carries twice the relative error of its displacement
    error = 2 * 2.0**-52 * float(clean.norm() / z.norm(dim=1).amin())
    for displacement, excess in ((e @ weight.T, 1e-12), (z, 1e-12 + error)):
        found = barankin_variance_bound(e, displacement, SIGMA)
        assert bool((found <= truth * (1 + excess)).all())
        assert bool((found >= single(e, displacement) * (1 - 1e-12)).all())
    if len(weight) > 6 and case != "short and long":
        best = SIGMA**2 * torch.linalg.inv(WEIGHT.T @ WEIGHT).diagonal()
        # the three pairs of nearly parallel shifts do not span the inputs
        assert bool((found > (0.0 if case == "nearly parallel" else 0.99) * best).all())


def test_duplicates_change_nothing() -> None:
    e = 1e-3 * normal(4, 6)
    assert torch.allclose(bound_of(torch.cat([e, e, e[:1]])), bound_of(e), rtol=1e-6)


def test_different_shifts_with_one_displacement_are_bounded_by_what_rounding_leaves() -> None:
    # nothing tells the two apart: the truth is infinite, the regularised bound huge
    e, z = torch.eye(2, dtype=torch.float64), torch.ones(2, 3, dtype=torch.float64)
    found = barankin_variance_bound(e, z, 1.0)
    assert bool((found > 1e6).all())
    assert bool(found.isfinite().all())


def test_long_shifts_drop_out() -> None:
    short, long = 0.1 * normal(3, 6), 200 * normal(4, 6, seed=1)
    assert bool(((long @ WEIGHT.T).norm(dim=1) > 50 * SIGMA).all())
    assert torch.allclose(bound_of(torch.cat([long[:2], short, long[2:]])), bound_of(short), rtol=1e-8)
    assert bool((bound_of(long) == 0).all())
    for d in (10.0, 26.0, 26.62, 26.64, 50.0, 1e6, 1e100):
        e = torch.tensor([[d], [0.9 * d], [1e-3]], dtype=torch.float64)
        found = barankin_variance_bound(e, e, 1.0)
        # one dimension, noise 1: Cramer-Rao is 1, and the short shift alone nearly reaches it
        assert 1 - 1e-6 < found.item() <= 1


def test_a_shift_of_zeros_that_moves_nothing_changes_nothing() -> None:
    e = 0.1 * normal(4, 6)
    e[2] = 0
    assert torch.allclose(bound_of(e), bound_of(e[[0, 1, 3]]), rtol=1e-8)


def test_a_larger_rounding_bounds_less_and_float32_displacements_need_one() -> None:
    e = 0.1 * normal(8, 6)
    gram = e @ WEIGHT.T @ WEIGHT @ e.T
    bounds = [barankin_from_gram(e, gram, SIGMA, rounding=r) for r in (1e-15, 1e-11, 1e-6, 1e-2)]
    for tight, loose in pairwise(bounds):
        assert bool((tight >= loose).all())
    noise = normal(8, 8, seed=3)
    norms = gram.diagonal().sqrt()
    off = gram + 1e-3 * (noise + noise.T) * norms[:, None] * norms
    with pytest.raises(
        ValueError, match="positive semidefinite to rounding=1e-11; for displacements that are less"
    ):
        barankin_from_gram(1e-3 * e, 1e-6 * off, SIGMA)
    truth = SIGMA**2 * torch.linalg.inv(WEIGHT.T @ WEIGHT).diagonal()
    assert bool((barankin_from_gram(1e-3 * e, 1e-6 * off, SIGMA, rounding=1e-2) <= truth * 1.01).all())


def test_bad_input_is_named() -> None:
    e, z = normal(2, 3, 4), normal(2, 3, 5)
    still = z.clone()
    still[1, 0] = 0
    with pytest.raises(ValueError, match=r"shifts\[1, 0\]: moves no feature"):
        barankin_variance_bound(e, still, 1.0)
    with pytest.raises(ValueError, match=r"got \(2, 3, 4\) and \(2, 2, 5\)"):
        barankin_variance_bound(e, z[:, :2], 1.0)
    with pytest.raises(ValueError, match=r"modes, gram: .* got \(2, 3, 4\) and \(2, 3, 5\)"):
        barankin_from_gram(e, z, 1.0)
    with pytest.raises(ValueError, match=r"with m >= 1, got \(0, 4\) and \(0, 0\)"):
        barankin_variance_bound(e[0, :0], z[0, :0], 1.0)
    for sigma in (0.0, torch.inf, torch.nan):
        with pytest.raises(ValueError, match="noise_std: expected a finite number > 0"):
            barankin_variance_bound(e, z, sigma)
    for rounding in (0.0, torch.nan):
        with pytest.raises(ValueError, match="rounding: expected a number >= 1e-15"):
            barankin_variance_bound(e, z, 1.0, rounding=rounding)
    with pytest.raises(ValueError, match="displacements: expected finite numbers"):
        barankin_variance_bound(e, z * torch.nan, 1.0)
    with pytest.raises(ValueError, match="shifts: expected finite numbers"):
        barankin_variance_bound(e * torch.inf, z, 1.0)
