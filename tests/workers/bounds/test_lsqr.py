"""Batched LSQR against numpy's least squares and scipy's LSQR, one problem at a time."""

from typing import NamedTuple, Self

import numpy as np
import pytest
import torch
from bounds_support import normal
from scipy.sparse.linalg import lsqr as scipy_lsqr
from torch import Tensor

from hushsweep.workers.bounds.search.lsqr import lsqr


class Matrices(NamedTuple):
    """Dense matrices ``(m, q, p)``; counts the products that each batch size took."""

    matrices: Tensor
    products: list[int]

    def matvec(self, v: Tensor) -> Tensor:
        self.products.append(len(v))
        return torch.einsum("mqp,mp->mq", self.matrices, v)

    def rmatvec(self, u: Tensor) -> Tensor:
        return torch.einsum("mqp,mq->mp", self.matrices, u)

    def restrict(self, rows: Tensor) -> Self:
        return type(self)(self.matrices[rows], self.products)


def with_spectrum(singular_values: Tensor, q: int, p: int, seed: int) -> Tensor:
    left, right = torch.linalg.qr(normal(q, q, seed=seed)).Q, torch.linalg.qr(normal(p, p, seed=seed + 1)).Q
    k = len(singular_values)
    return left[:, :k] * singular_values @ right[:, :k].T


def solve(matrices: Tensor, b: Tensor, atol: float = 1e-13, **options: float):  # type: ignore[no-untyped-def]
    limits = {"btol": 1e-13, "max_iterations": 500, **options}
    return lsqr(Matrices(matrices, []), b, atol=torch.full((len(b),), atol), **limits)


@pytest.mark.parametrize(("q", "p"), [(12, 7), (7, 12), (9, 9)])
def test_solutions_are_the_minimum_norm_least_squares_ones(q: int, p: int) -> None:
    matrices, b = normal(5, q, p), normal(5, q, seed=1)
    found = solve(matrices, b)
    for i in range(5):
        expected = np.linalg.lstsq(matrices[i].numpy(), b[i].numpy(), rcond=None)[0]
        assert np.allclose(found.x[i].numpy(), expected, atol=1e-9)
        residual = (matrices[i] @ found.x[i] - b[i]).norm() / b[i].norm()
        assert found.residual[i].item() == pytest.approx(residual.item(), abs=1e-9)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-8])
@pytest.mark.parametrize("consistent", [False, True])
def test_it_stops_where_scipy_does(tolerance: float, consistent: bool) -> None:
    matrices = torch.stack(
        [with_spectrum(torch.logspace(0, -0.5, 15, dtype=torch.float64), 20, 15, seed) for seed in range(4)]
    )
    b = torch.einsum("mqp,mp->mq", matrices, normal(4, 15, seed=7)) if consistent else normal(4, 20, seed=7)
    found = solve(matrices, b, atol=tolerance, btol=1e-6)
    for i in range(4):
        x, _, iterations, residual = scipy_lsqr(
            matrices[i].numpy(), b[i].numpy(), atol=tolerance, btol=1e-6, conlim=1e8
        )[:4]
        assert found.iterations[i] == iterations
        assert np.allclose(found.x[i].numpy(), x, atol=1e-9)
        assert found.residual[i].item() == pytest.approx(residual / b[i].norm().item(), rel=1e-6)


def test_a_matrix_of_rank_r_needs_r_iterations_where_plain_lsqr_needs_many_more() -> None:
    singular_values = torch.logspace(0, -4, 30, dtype=torch.float64)
    matrix = with_spectrum(singular_values, 90, 80, 3)[None]
    b = torch.einsum("mqp,mp->mq", matrix, normal(1, 80, seed=2))
    kept = solve(matrix, b, atol=1e-12)
    plain = solve(matrix, b, atol=1e-12, basis_size=1)
    assert kept.iterations.item() <= 31
    assert plain.iterations.item() > 60
    assert torch.allclose(
        kept.x, torch.einsum("mpq,mq->mp", torch.linalg.pinv(matrix, rtol=1e-10), b), atol=1e-6
    )


def test_each_problem_stops_on_its_own_and_does_not_feel_the_others() -> None:
    spectra = [torch.ones(3), torch.logspace(0, -1, 10), torch.logspace(0, -3, 30), torch.ones(1)]
    matrices = torch.stack([with_spectrum(s.double(), 40, 35, seed) for seed, s in enumerate(spectra)])
    b = torch.einsum("mqp,mp->mq", matrices, normal(4, 35))
    linear_map = Matrices(matrices, [])
    together = lsqr(linear_map, b, atol=torch.full((4,), 1e-10), max_iterations=200)
    for i in range(4):
        alone = solve(matrices[i : i + 1], b[i : i + 1], atol=1e-10, btol=1e-6)
        assert together.iterations[i] == alone.iterations[0]
        assert torch.allclose(together.x[i], alone.x[0], rtol=1e-12, atol=1e-12)
    assert together.iterations[3] == 1
    assert together.iterations[2] > 20
    assert linear_map.products[0] == 4
    assert linear_map.products[-1] == 1, "the batch shrinks as problems are done"


def test_a_target_that_cannot_be_reached_or_is_zero_gives_zero() -> None:
    matrices = torch.zeros(3, 4, 5, dtype=torch.float64)
    matrices[2, 0, 0] = 2
    b = torch.tensor([[0.0, 0, 0, 0], [1, 2, 3, 4], [1, 0, 0, 0]], dtype=torch.float64)
    found = solve(matrices, b)
    assert found.x[:2].eq(0).all()
    assert found.x[2].tolist() == [0.5, 0, 0, 0, 0]
    assert found.iterations.tolist() == [0, 0, 1]
    assert found.x.isfinite().all()


def test_the_limit_of_iterations_holds_and_what_was_reached_is_returned() -> None:
    matrices, b = normal(2, 30, 25), normal(2, 30, seed=1)
    found = solve(matrices, b, max_iterations=7)
    expected = scipy_lsqr(matrices[1].numpy(), b[1].numpy(), iter_lim=7, atol=0, btol=0)[0]
    assert found.iterations.tolist() == [7, 7]
    assert np.allclose(found.x[1].numpy(), expected, atol=1e-9)


def test_an_ill_conditioned_matrix_stops_at_the_condition_limit() -> None:
    matrix = with_spectrum(torch.logspace(0, -12, 20, dtype=torch.float64), 30, 25, 0)[None]
    found = solve(matrix, normal(1, 30), atol=1e-16, btol=0, condition_limit=1e4)
    assert found.iterations.item() < 20
    assert found.x.norm() < 1e5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_working_precision_is_that_of_the_right_hand_side(dtype: torch.dtype) -> None:
    matrices, b = normal(2, 9, 6, dtype=dtype), normal(2, 9, seed=1, dtype=dtype)
    found = solve(matrices, b, atol=1e-6, btol=1e-6)
    assert found.x.dtype == dtype
    assert torch.allclose(found.x, torch.einsum("mpq,mq->mp", torch.linalg.pinv(matrices), b), atol=1e-4)
