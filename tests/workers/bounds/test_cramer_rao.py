"""The Cramer-Rao bound against numpy's pseudo-inverse, and the shares against projections made by hand."""

import numpy as np
import pytest
import torch
from bounds_support import normal
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hushsweep.workers.bounds import cramer_rao as module
from hushsweep.workers.bounds.cosine import dct
from hushsweep.workers.bounds.cramer_rao import cramer_rao_variance_bound, decompose, exact_bytes
from hushsweep.workers.bounds.hcr import hcr_std_bound


def with_spectrum(singular_values: list[float], rows: int, p: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return a matrix of these singular values, and its right singular vectors as rows."""
    left, right = (
        torch.linalg.qr(normal(rows, rows, seed=seed)).Q,
        torch.linalg.qr(normal(p, p, seed=seed + 1)).Q,
    )
    k = len(singular_values)
    return left[:, :k] * torch.tensor(singular_values).double() @ right[:, :k].T, right[:, :k].T


def rotation(p: int, seed: int = 5) -> Tensor:
    return torch.linalg.qr(normal(p, p, seed=seed)).Q


@pytest.mark.parametrize(("rows", "p"), [(20, 8), (8, 20), (12, 12), (1, 6), (6, 1)])
@pytest.mark.parametrize("rotated", [False, True])
def test_it_is_the_diagonal_of_the_pseudo_inverse(rows: int, p: int, rotated: bool) -> None:
    jacobian, basis = normal(3, 2, rows, p), rotation(p) if rotated else torch.eye(p).double()
    found = cramer_rao_variance_bound(jacobian, 0.7, basis if rotated else None)
    inverse = np.linalg.pinv((jacobian.mT @ jacobian).numpy())
    expected = 0.49 * np.einsum("kp,abpq,kq->abk", basis.numpy(), inverse, basis.numpy())
    assert np.allclose(found.variance.numpy(), expected, rtol=1e-6)
    assert (found.rank == min(rows, p)).all()
    assert found.rank.shape == (3, 2)
    assert torch.allclose(
        found.non_identifiable.sum(-1), torch.tensor(max(0.0, p - rows)).double(), atol=1e-9
    )
    assert found.unresolved.eq(0).all()


def test_a_callable_basis_is_the_same_as_its_matrix() -> None:
    jacobian = normal(10, 2 * 4 * 3)
    transform = lambda v: dct(v.reshape(*v.shape[:-1], 2, 4, 3)).flatten(-3)  # noqa: E731
    matrix = transform(torch.eye(24).double()).T
    one, other = decompose(jacobian, basis=transform), decompose(jacobian, basis=matrix)
    assert torch.allclose(one.unit_variance, other.unit_variance, rtol=1e-9)
    assert torch.allclose(one.non_identifiable, other.non_identifiable, atol=1e-9)


@pytest.mark.parametrize(("rows", "p"), [(9, 15), (15, 9)])
def test_small_singular_values_are_unresolved_and_their_energy_is_counted_apart(rows: int, p: int) -> None:
    jacobian, right = with_spectrum([3, 2, 1, 0.5, 1e-9, 1e-11], rows, p)
    found = decompose(jacobian, directions=2, keep_row_space=True)
    assert (found.rank, found.unresolved_rank) == (4, min(rows, p) - 4)
    assert found.singular_values.tolist() == pytest.approx([3, 2, 1, 0.5], rel=1e-9)
    assert found.squared_norm == pytest.approx(9 + 4 + 1 + 0.25)
    expected = (right[:4].square() / torch.tensor([9, 4, 1, 0.25]).double()[:, None]).sum(0)
    assert torch.allclose(found.unit_variance, expected, rtol=1e-6)
    resolved = right[:4].square().sum(0)
    assert torch.allclose(
        found.unresolved + found.non_identifiable + resolved, torch.ones(p).double(), atol=1e-9
    )
    # the two small ones that are there are certainly among the unresolved directions
    assert (found.unresolved >= right[4:].square().sum(0) - 1e-4).all()
    assert found.unresolved.sum().item() == pytest.approx(min(rows, p) - 4, abs=1e-6)
    signs = (found.directions * right[[3, 2]]).sum(1)
    assert torch.allclose(signs.abs(), torch.ones(2).double(), atol=1e-9)
    null = found.project_to_null_space(normal(5, p, seed=3))
    assert (null @ jacobian.T).abs().max() < 1e-13
    assert (null @ right.T).abs().max() < 1e-4
    assert torch.allclose(found.project_to_null_space(null), null, atol=1e-12)


def test_unresolved_directions_that_differ_by_many_orders_are_told_apart() -> None:
    jacobian, right = with_spectrum([1, 1, 1e-8, 1e-10, 1e-12], 5, 12)
    found = decompose(jacobian)
    assert (found.rank, found.unresolved_rank) == (2, 3)
    assert torch.allclose(found.unresolved, right[2:].square().sum(0), atol=1e-3)


def test_dead_inputs_dead_features_and_equal_features() -> None:
    jacobian = normal(6, 5)
    jacobian[:, 1] = 0
    jacobian[[0, 3]] = 0
    found = decompose(jacobian)
    alive = decompose(jacobian[[1, 2, 4, 5]][:, [0, 2, 3, 4]])
    assert found.non_identifiable[1] == 1
    assert found.unit_variance[1] == 0
    assert torch.allclose(found.unit_variance[[0, 2, 3, 4]], alive.unit_variance, rtol=1e-9)
    twice = decompose(torch.cat([torch.eye(3), torch.eye(3)[:1]])[:, :2].double())
    assert twice.unit_variance.tolist() == pytest.approx([0.5, 1])


def test_a_zero_jacobian_has_rank_0_and_the_bound_refuses_it() -> None:
    found = decompose(torch.zeros(3, 4), directions=2, keep_row_space=True)
    assert (found.rank, found.unresolved_rank, found.squared_norm) == (0, 0, 0)
    assert found.unit_variance.tolist() == [0] * 4
    assert found.non_identifiable.tolist() == [1] * 4
    assert found.directions.shape == (0, 4)
    assert torch.equal(found.project_to_null_space(torch.ones(4)), torch.ones(4).double())
    assert decompose(torch.zeros(0, 4)).rank == 0
    with pytest.raises(ValueError, match="features do not depend on the input"):
        cramer_rao_variance_bound(torch.zeros(2, 3, 4), 1.0)


@given(st.integers(0, 200), st.sampled_from([(7, 5), (5, 7), (6, 6)]))
def test_with_a_known_error_it_stays_below_the_truth_and_close_to_it(
    seed: int, shape: tuple[int, int]
) -> None:
    truth, error = normal(*shape, seed=seed), 1e-4
    noise = normal(*shape, seed=seed + 1000)
    noisy = truth + noise * (error / torch.linalg.matrix_norm(noise, 2))
    found, exact = decompose(noisy, error=error, directions=7), decompose(truth)
    if found.rank == min(shape) and shape[0] >= shape[1]:
        assert (found.unit_variance <= exact.unit_variance).all()
        assert (found.unit_variance >= exact.unit_variance * 0.9).all()
    # along every resolved direction the Fisher information taken for it is at least the true one
    taken = 1 / decompose(noisy, error=error, basis=found.directions).unit_variance
    assert (taken >= (found.directions @ truth.T).square().sum(1)).all()


def test_the_rounding_of_float32_only_lowers_the_bound() -> None:
    spectrum = [*torch.logspace(0, -5, 20).tolist()]
    exact, _ = with_spectrum(spectrum, 30, 20)
    single = decompose(exact.float())
    double = decompose(exact)
    assert double.rank == 20
    assert 10 < single.rank < 20
    assert single.rank + single.unresolved_rank == 20
    assert (single.unit_variance < double.unit_variance).all()
    floor = 100 * 4 * torch.finfo(torch.float32).eps * exact.norm().item()
    assert single.singular_values[-1] > floor


@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_no_single_shift_in_the_row_space_of_a_linear_map_bounds_more(seed: int, noise_std: float) -> None:
    jacobian = normal(6, 9, seed=seed)
    shift = normal(4, 6, seed=seed + 1) @ jacobian * 1e-3
    chi_square = torch.expm1((shift @ jacobian.T).square().sum(1) / noise_std**2)
    single = hcr_std_bound(shift, chi_square).amax(0)
    assert (single**2 <= cramer_rao_variance_bound(jacobian, noise_std).variance * (1 + 1e-6)).all()


@given(st.integers(0, 1000))
def test_at_full_column_rank_the_mean_is_at_least_the_inverse_of_dfil(seed: int) -> None:
    jacobian = normal(9, 6, seed=seed)
    dfil = jacobian.square().sum() / 6
    assert cramer_rao_variance_bound(jacobian, 1.0).variance.mean() >= 1 / dfil * (1 - 1e-9)


@given(st.integers(0, 1000))
def test_rotating_the_features_changes_nothing_and_rotating_the_input_turns_the_basis(seed: int) -> None:
    jacobian, basis = normal(5, 7, seed=seed), rotation(7, seed)
    first = decompose(jacobian, basis=basis)
    other = decompose(rotation(5, seed + 1) @ jacobian @ basis.T)
    assert torch.allclose(first.unit_variance, other.unit_variance, rtol=1e-6)
    assert torch.allclose(first.non_identifiable, other.non_identifiable, atol=1e-9)


@pytest.mark.parametrize(("rows", "p"), [(30, 70), (70, 30)])
def test_blocks_and_either_eigenvalue_routine_give_the_same(
    rows: int, p: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    jacobian, _ = with_spectrum([*torch.linspace(2, 1, 20).tolist(), *[1e-9] * 6], rows, p)
    jacobian[:, 3] = 0
    whole = decompose(jacobian, basis=rotation(p))
    monkeypatch.setattr(module, "_BLOCK", 4)
    monkeypatch.setattr(module, "_COLUMNS", 9)
    monkeypatch.setattr(module, "_SMALL", 0)
    parts = decompose(jacobian, basis=rotation(p))
    assert (parts.rank, parts.unresolved_rank) == (whole.rank, whole.unresolved_rank)
    assert torch.allclose(parts.unit_variance, whole.unit_variance, rtol=1e-9)
    assert torch.allclose(parts.singular_values, whole.singular_values, rtol=1e-9)
    assert parts.unresolved.sum().item() == pytest.approx(whole.unresolved.sum().item(), abs=1e-6)


def test_the_bytes_said_beforehand_grow_with_the_problem() -> None:
    assert exact_bytes(100, 784, 8) > 100 * 784 * 8
    assert exact_bytes(12_500, 24_843, 8) < 8 * 2**30
    assert exact_bytes(100, 784, 8) - exact_bytes(100, 784, 4) == 100 * 784 * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise_std": 0.0}, "noise_std: expected a finite number > 0, got 0.0"),
        ({"noise_std": float("nan")}, "noise_std"),
        ({"jacobian": torch.full((2, 3), torch.inf)}, "expected finite numbers"),
        ({"jacobian": torch.zeros(3)}, r"expected shape \(..., features, inputs\), got \(3,\)"),
        ({"jacobian": torch.zeros(3, 0)}, r"got \(3, 0\)"),
        ({"jacobian": torch.zeros(0, 2, 3)}, r"got \(0, 2, 3\)"),
        ({"jacobian": torch.ones(2, 3, dtype=torch.int64)}, "floating-point"),
        ({"basis": torch.ones(2, 3)}, "orthonormal"),
        ({"basis": torch.eye(4)}, "basis"),
        ({"error": -1.0}, "error: expected a finite number >= 0, got -1.0"),
    ],
)
def test_bad_input_is_refused(change: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=message):
        cramer_rao_variance_bound(**{"jacobian": normal(2, 3), "noise_std": 1.0, **change})


def test_a_row_space_that_was_not_kept_cannot_be_projected_out() -> None:
    with pytest.raises(ValueError, match="keep_row_space"):
        decompose(normal(2, 3)).project_to_null_space(torch.ones(3))
