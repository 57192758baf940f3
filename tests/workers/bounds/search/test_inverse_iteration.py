"""The smallest singular directions, with and without the Jacobian, against numpy's decomposition."""

import pytest
import torch
from bounds_support import Linear, normal, relu_net
from searches_support import digits, jacobians, probe_of
from torch import Tensor

from hushsweep.workers.bounds.search.inverse_iteration import inverse_iteration
from hushsweep.workers.bounds.search.probe import Probe, Shifts
from hushsweep.workers.bounds.search.registry import SEARCHES


def ratio(probe: Probe, shifts: Shifts) -> Tensor:
    return shifts.input_shift.flatten(2).norm(dim=2) / probe.distances(shifts.input_shift)


def test_it_reaches_the_smallest_singular_value_where_the_published_search_stalls() -> None:
    weight = normal(200, 200)
    probe = probe_of(Linear(weight), normal(1, 1, 10, 20), count=5, options={"rounds": 10})
    smallest = torch.linalg.svdvals(weight).flip(0)
    found = ratio(probe, SEARCHES["inverse_iteration"].find(probe))[0]
    assert found[0].item() == pytest.approx(1 / smallest[0].item(), rel=1e-3)
    assert torch.allclose(found, 1 / smallest[:4], rtol=0.02)
    assert ratio(probe, SEARCHES["lsqr"].find(probe)).max() < 0.2 / smallest[0]


@pytest.mark.parametrize(("name", "tolerance"), [("jacobian", 1e-6), ("inverse_iteration", 0.05)])
@pytest.mark.parametrize("rank", [12, 6, 2])
def test_directions_are_the_singular_ones_of_the_row_space(name: str, tolerance: float, rank: int) -> None:
    weight = normal(12, rank) @ normal(rank, 20, seed=1)
    probe = probe_of(Linear(weight), normal(2, 1, 4, 5), count=4)
    values, vectors = torch.linalg.svd(weight, full_matrices=False)[1:]
    shift = SEARCHES[name].find(probe).input_shift.flatten(2)
    # the jacobian has no more shifts than the largest rank, the other fills its list up
    assert shift.shape[1] == (min(4, rank) if name == "jacobian" else 4)
    for place in range(shift.shape[1]):
        index = rank - 1 - place % rank
        expected = vectors[index] * probe.target / values[index] / 2 ** (place // rank)
        for image in shift[:, place]:
            assert min((image - expected).norm(), (image + expected).norm()) < tolerance * expected.norm()


def test_both_agree_on_a_network_with_dead_features() -> None:
    net = relu_net(64, 30).exact
    probe = probe_of(net, digits(3), step=1e-6)
    exact, iterated = (ratio(probe, SEARCHES[name].find(probe)) for name in ("jacobian", "inverse_iteration"))
    for image, jacobian in enumerate(jacobians(net, probe.x)):
        values = torch.linalg.svdvals(jacobian)
        smallest = values[values > 1e-9 * values[0]].min()
        assert exact[image, 0].item() == pytest.approx(1 / smallest.item(), rel=1e-3)
        assert iterated[image, 0].item() == pytest.approx(1 / smallest.item(), rel=1e-3)


def test_directions_of_an_image_are_orthogonal_and_their_signs_settled() -> None:
    weight = normal(30, 36)
    probe = probe_of(Linear(weight), normal(2, 1, 6, 6))
    shift = inverse_iteration(probe).input_shift.flatten(2)
    unit = shift / shift.norm(dim=2, keepdim=True)
    assert torch.allclose(unit @ unit.mT, torch.eye(4).double().expand(2, -1, -1), atol=1e-9)
    assert torch.allclose(unit[0, 0], unit[1, 0], atol=1e-3), "a linear map has the same for every image"
    assert torch.allclose(
        SEARCHES["jacobian"].find(probe).input_shift.flatten(2)[:, 0], shift[:, 0], atol=1e-6
    )


def test_work_is_counted_and_limited() -> None:
    probe = probe_of(Linear(normal(30, 36)), normal(2, 1, 6, 6), options={"rounds": 2, "max_iterations": 5})
    found = inverse_iteration(probe)
    assert found.iterations is not None
    assert found.iterations.eq(20).all()
    few = inverse_iteration(probe_of(Linear(normal(30, 36)), normal(2, 1, 6, 6), options={"starts": 2}))
    assert few.input_shift.shape[1] == 2
    assert few.residual is not None
    assert bool((few.residual < 1e-6).all())
