"""Coordinates in a matrix, in a transform, and what is refused."""

import pytest
import torch
from bounds_support import normal

from hushsweep.workers.bounds import dct
from hushsweep.workers.bounds.basis import coordinates

ROTATION = torch.linalg.qr(normal(12, 12)).Q
X = normal(2, 5, 12, seed=1)


def flat_dct(x: torch.Tensor) -> torch.Tensor:
    return dct(x.unflatten(-1, (1, 3, 4))).flatten(-3)


def test_no_basis_is_the_entries_in_float64() -> None:
    found = coordinates(None, 12)(X.float())
    assert found.dtype == torch.float64
    assert torch.equal(found, X.float().double())


def test_a_matrix_gives_the_inner_products_with_its_rows() -> None:
    found = coordinates(ROTATION[:3], 12)(X)
    expected = [[[float(row @ x) for row in ROTATION[:3]] for x in xs] for xs in X]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), atol=1e-14)
    assert torch.allclose(coordinates(ROTATION[:3].float(), 12)(X), found, atol=1e-5)
    assert coordinates(ROTATION, 12)(X[0, 0]).shape == (12,)


def test_a_transform_agrees_with_its_matrix() -> None:
    matrix = flat_dct(torch.eye(12, dtype=torch.float64)).T
    assert torch.allclose(coordinates(flat_dct, 12)(X), coordinates(matrix, 12)(X), atol=1e-13)
    low = coordinates(lambda x: flat_dct(x)[..., :4], 12)(X.float())
    assert low.dtype == torch.float64
    assert torch.allclose(low, flat_dct(X)[..., :4], atol=1e-5)


def test_the_global_stream_of_random_numbers_stays_where_it_is() -> None:
    before = torch.get_rng_state()
    coordinates(flat_dct, 12)(X)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_not_orthonormal_is_refused() -> None:
    for bad in (2 * ROTATION, ROTATION[[0, 0]], ROTATION * (1 + 2e-6), torch.full((1, 12), torch.nan)):
        with pytest.raises(ValueError, match="basis: expected orthonormal rows, got inner products off by"):
            coordinates(bad, 12)
    for bad_shape in (normal(12), normal(3, 11), normal(1, 3, 12)):
        with pytest.raises(ValueError, match=r"basis: expected shape \(k, 12\), got"):
            coordinates(bad_shape, 12)
    for factor in (2.0, 1 + 1e-5, torch.nan):
        with pytest.raises(ValueError, match="basis: expected an orthonormal map"):
            coordinates(lambda x, factor=factor: factor * x, 12)(X)
    with pytest.raises(
        ValueError, match=r"basis: expected a map of \(12,\) to \(k,\) with k <= 12, got \(24,\)"
    ):
        coordinates(lambda x: torch.cat([x, x], -1) / 2**0.5, 12)(X)
    with pytest.raises(ValueError, match=r"expected vectors of 12 inputs, got shape \(2, 5, 12, 1\)"):
        coordinates(None, 12)(X.unsqueeze(-1))
