"""Algorithm 1, batched, against a plain loop with scipy's LSQR on dense Jacobians, and what a batch may not change."""

import math

import numpy as np
import pytest
import torch
from bounds_support import Linear, Net, Pair, normal, relu_net
from scipy.sparse.linalg import lsqr as scipy_lsqr
from torch import Tensor, nn

from hushsweep.workers.bounds import bound_modes, chi_square_gaussian
from hushsweep.workers.bounds.search import ShiftSearch, search_shifts
from hushsweep.workers.bounds.search.paper import MINIBATCH_NORM

SIGMA = 0.8


@pytest.fixture(scope="module")
def pair() -> Pair:
    return relu_net()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return normal(5, 1, 6, 6, dtype=torch.float32)


def starts(n: int, restarts: int, features: int = 30) -> Tensor:
    return normal(n, restarts, features, seed=9, dtype=torch.float32)


def search(pair: Pair, x: Tensor, start: Tensor, *, single: bool = False, **options: float) -> ShiftSearch:
    settings = {"noise_std": SIGMA, "rounds": 3, "step": 1 / 200, "lsqr_tolerance": 0.02, **options}
    model = pair.single if single else pair.exact
    return search_shifts(model, pair.exact, x if single else x.double(), start, **settings)  # type: ignore[arg-type]


def relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).max().item()


def by_hand(net: Net, x: Tensor, start: Tensor, rounds: int, tolerance: float) -> tuple[Tensor, int]:
    """One image, one restart, in the words of the paper's Algorithm 1."""
    clean = net.features(x[None])[0]
    target = start.double() * SIGMA / 200 / math.sqrt(len(start))
    length, shift, iterations = target.norm(), torch.zeros_like(x), 0
    for _ in range(rounds):
        target = target / target.norm() * length
        jacobian = torch.func.jacrev(lambda z: net.features(z[None])[0])(x + shift).reshape(len(clean), -1)
        solution = scipy_lsqr(jacobian.numpy(), target.numpy(), atol=tolerance * length.item(), conlim=1e8)
        shift = torch.from_numpy(solution[0]).reshape(x.shape)
        iterations += solution[2]
        target = net.features((x + shift)[None])[0] - clean
    return shift, iterations


def test_every_item_is_the_papers_algorithm(x: Tensor) -> None:
    pair, start = relu_net(features=14), starts(2, 3, 14)  # so few that plain LSQR keeps its orthogonality
    found = search(pair, x[:2], start)
    for i in range(2):
        for r in range(3):
            shift, iterations = by_hand(pair.exact, x[i].double(), start[i, r], 3, MINIBATCH_NORM * 0.02)
            assert found.iterations[i, r] == iterations
            assert relative(found.input_shift[i, r][None].double(), shift[None]) < 1e-6


def test_neighbours_and_batches_change_nothing(pair: Pair, x: Tensor) -> None:
    start = starts(5, 4)
    whole = search(pair, x, start, rounds=5)
    for items in (1, 3, 7):
        part = search(pair, x, start, rounds=5, max_items=items)
        assert relative(part.input_shift.flatten(0, 1), whole.input_shift.flatten(0, 1)) < 1e-6
        assert torch.equal(part.iterations, whole.iterations)
    few = search(pair, x[[3, 1]], start[[3, 1], :2], rounds=5)
    assert relative(few.input_shift.flatten(0, 1), whole.input_shift[[3, 1], :2].flatten(0, 1)) < 1e-6


def test_float32_solves_find_the_same_shifts_up_to_their_rounding(pair: Pair, x: Tensor) -> None:
    for step in (1 / 200, 1 / 1000):
        double, single = (search(pair, x, starts(5, 2), step=step, single=single) for single in (False, True))
        assert relative(single.input_shift.flatten(0, 1), double.input_shift.flatten(0, 1)) < 2e-3
        bounds = [bound_modes(pair.exact, x, s.input_shift, chi_square) for s in (double, single)]
        assert torch.allclose(bounds[0].modes.mean((1, 2, 3)), bounds[1].modes.mean((1, 2, 3)), rtol=1e-3)


def chi_square(shift: Tensor) -> Tensor:
    return chi_square_gaussian(shift, SIGMA)


@pytest.mark.parametrize("step", [1 / 200, 1 / 1000])
def test_the_displacement_found_is_about_a_step_long(pair: Pair, x: Tensor, step: float) -> None:
    found = search(pair, x, starts(5, 4), step=step, rounds=4)
    bounds = bound_modes(pair.exact, x, found.input_shift, chi_square)
    ratio = bounds.feature_norm / (SIGMA * step)  # not 1, since a kink of a ReLU may lie on the way
    assert bool(((ratio > 0.5) & (ratio < 2)).all())
    assert ratio.median().item() == pytest.approx(1, abs=0.1)
    assert torch.allclose(bounds.chi_square, (bounds.feature_norm / SIGMA).square(), rtol=1e-4)
    assert bool((found.residual < 0.5).all())


def test_a_linear_map_is_at_its_fixed_point_after_one_solve() -> None:
    weight = normal(8, 12)
    model = Linear(weight)
    one, many = (
        search_shifts(
            model,
            model,
            normal(2, 1, 3, 4),
            starts(2, 2, 8),
            noise_std=1.0,
            rounds=rounds,
            step=0.01,
            lsqr_tolerance=1e-9,
        ).input_shift
        for rounds in (1, 6)
    )
    assert relative(many.flatten(0, 1), one.flatten(0, 1)) < 1e-6
    target = starts(2, 2, 8).double() * 0.01 / math.sqrt(8)
    expected = target @ torch.linalg.pinv(weight).T
    assert relative(one.flatten(0, 1).flatten(1).double(), expected.flatten(0, 1)) < 1e-6


def test_features_that_never_move_leave_a_shift_of_zero() -> None:
    net = Net(nn.Flatten(), nn.Linear(36, 5), nn.ReLU()).double()
    net.layers[1].bias.fill_(-1e3)
    found = search_shifts(
        net, net, normal(2, 1, 6, 6), starts(2, 2, 5), noise_std=1.0, rounds=3, step=0.01, lsqr_tolerance=0.02
    )
    assert found.input_shift.eq(0).all()
    assert found.iterations.eq(0).all()
    bounds = bound_modes(net, normal(2, 1, 6, 6), found.input_shift, chi_square)
    assert bounds.modes.eq(0).all()


def test_shifts_keep_their_bound_through_storage(pair: Pair, x: Tensor) -> None:
    found = search(pair, x, starts(5, 2), step=1 / 1000)
    bounds = bound_modes(pair.exact, x, found.input_shift, chi_square)
    stored = torch.from_numpy(np.array(found.input_shift.flatten(2).tolist(), np.float32)).reshape(
        found.input_shift.shape
    )
    assert found.input_shift.dtype == torch.float32
    assert torch.equal(bound_modes(pair.exact, x, stored, chi_square).modes, bounds.modes)


def test_iterations_can_be_limited(pair: Pair, x: Tensor) -> None:
    found = search(pair, x, starts(5, 2), rounds=4, max_iterations=3)
    assert found.iterations.eq(12).all()
    assert found.input_shift.flatten(2).norm(dim=2).gt(0).all()
