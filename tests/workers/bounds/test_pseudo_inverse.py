"""Samples by LSQR against numpy's pseudo-inverse, and the estimate against the exact Cramer-Rao variance."""

import pytest
import torch
from bounds_support import Linear, normal, relu_net

from hushsweep.workers.bounds.cramer_rao import decompose
from hushsweep.workers.bounds.jacobian import jacobian
from hushsweep.workers.bounds.pseudo_inverse import cramer_rao_estimate, pseudo_inverse_samples

LIMITS = {"tolerance": 1e-12, "max_iterations": 200, "max_items": 5}


@pytest.mark.parametrize(("features", "inputs"), [(12, 7), (7, 12)])
def test_samples_are_those_of_the_pseudo_inverse(features: int, inputs: int) -> None:
    weight, w = normal(features, inputs), normal(3, 4, features, seed=1)
    found = pseudo_inverse_samples(Linear(weight), normal(3, 1, 1, inputs), w, **LIMITS)
    assert found.shift.shape == (3, 4, 1, 1, inputs)
    assert torch.allclose(found.shift.flatten(2), w @ torch.linalg.pinv(weight).T, atol=1e-9)
    assert found.iterations.shape == found.residual.shape == (3, 4)
    residual = (found.shift.flatten(2) @ weight.T - w).norm(dim=2) / w.norm(dim=2)
    assert torch.allclose(found.residual, residual, atol=1e-9)


def test_a_network_of_low_rank_gives_the_exact_variance_within_four_standard_errors() -> None:
    net, x, r = relu_net().exact, normal(2, 1, 6, 6), 400
    w = normal(2, r, 30, seed=4)
    found = pseudo_inverse_samples(net, x, w, tolerance=1e-10, max_iterations=200, max_items=1000)
    estimate = cramer_rao_estimate(found.shift.flatten(2))
    for i, one in enumerate(jacobian(net, x, memory=2**28)):
        exact = decompose(one)
        assert exact.rank < 30
        # 72 entries, each beyond 4.5 standard errors with probability of about 1e-5
        away = (estimate.variance[i] - exact.unit_variance).abs() / estimate.stderr[i]
        assert away.max() < 4.5
        ratio = estimate.stderr[i] / (exact.unit_variance * (2 / r) ** 0.5)
        assert ratio.mean().item() == pytest.approx(1, abs=0.1)


def test_the_estimate_is_the_mean_of_squares() -> None:
    estimate = cramer_rao_estimate(torch.tensor([[[1.0], [3.0]]]))
    assert estimate.variance.tolist() == [[5.0]]
    assert estimate.stderr.tolist() == [[4.0]]


def test_bad_input_is_refused() -> None:
    net, x = Linear(normal(3, 4)), normal(2, 1, 1, 4)
    with pytest.raises(ValueError, match="tolerance: expected a number > 0, got 0"):
        pseudo_inverse_samples(net, x, normal(2, 1, 3), tolerance=0, max_iterations=5, max_items=5)
    with pytest.raises(ValueError, match=r"w: expected shape \(2, r, \*feature\) as for x, got \(3, 1, 3\)"):
        pseudo_inverse_samples(net, x, normal(3, 1, 3), **LIMITS)
    with pytest.raises(ValueError, match=r"samples: expected shape \(..., r, k\) with r >= 2, got \(1, 4\)"):
        cramer_rao_estimate(torch.ones(1, 4))
