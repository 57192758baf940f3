"""What every search of the table promises, whatever the network."""

import dataclasses

import pytest
import torch
from bounds_support import Net, normal, relu_net
from searches_support import Map, digits, found_by, probe_of, some_of
from torch import nn

from hushsweep.workers.bounds.search.probe import Probe
from hushsweep.workers.bounds.search.registry import SEARCHES

MEAN, STD = 0.1307, 0.3081
SMALL = ("lsqr", "dct", "pixel", "inverse_iteration", "jacobian", "pseudo_inverse")
IN_BOX = ("nullspace", "two_point")


def probes() -> dict[str, Probe]:
    torch.manual_seed(1)
    smooth = Net(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(36, 12), nn.GELU()).double()
    narrow = Net(nn.Flatten(), nn.Linear(64, 3), nn.Tanh(), nn.Linear(3, 20)).double()
    return {
        "digits": probe_of(
            relu_net(64, 30).exact, (digits(3) - MEAN) / STD, low=-MEAN / STD, high=(1 - MEAN) / STD
        ),
        "colours": probe_of(smooth, normal(3, 2, 5, 5).clamp(-2, 2), low=-2, high=2, count=4),
        "rank 3": probe_of(narrow, digits(3)),
        "full rank": probe_of(relu_net(9, 40).exact, normal(3, 1, 3, 3).sigmoid(), count=20),
    }


PROBES = probes()


@pytest.fixture(params=sorted(PROBES))
def probe(request: pytest.FixtureRequest) -> Probe:
    return PROBES[request.param]


@pytest.mark.parametrize("name", sorted(SEARCHES))
def test_shifts_are_finite_nonzero_and_repeatable(probe: Probe, name: str) -> None:
    found = found_by(SEARCHES[name], probe)
    n, m = found.input_shift.shape[:2]
    assert n == len(probe.x)
    assert 1 <= m <= probe.count
    assert found.input_shift.shape[2:] == probe.x.shape[1:]
    assert found.input_shift.dtype == torch.float64
    assert bool(found.input_shift.isfinite().all())
    assert bool(found.input_shift.flatten(2).norm(dim=2).gt(0).all())
    for numbers, dtype in ((found.iterations, torch.int64), (found.residual, torch.float64)):
        assert numbers is None or (numbers.shape == (n, m) and numbers.dtype == dtype)
    assert torch.equal(found_by(SEARCHES[name], probe).input_shift, found.input_shift)


@pytest.mark.parametrize("name", sorted(SEARCHES))
def test_neighbours_and_batches_change_nothing(probe: Probe, name: str) -> None:
    together = found_by(SEARCHES[name], probe).input_shift
    for rows, items in (([1], 64), ([2, 0], 3)):
        part = dataclasses.replace(some_of(probe, rows), max_items=items)
        shift = found_by(SEARCHES[name], part).input_shift
        difference = (shift - together[rows]).flatten(2).norm(dim=2)
        # a length where the gain is flat is known to the root of its rounding
        limit = 1e-3 if name == "large_step" else 1e-6
        assert (difference / together[rows].flatten(2).norm(dim=2)).max() < limit


@pytest.mark.parametrize("name", SMALL)
def test_small_shifts_move_the_features_by_the_step(probe: Probe, name: str) -> None:
    ratio = probe.distances(found_by(SEARCHES[name], probe).input_shift) / probe.target
    if name in (
        "lsqr",
        "pseudo_inverse",
    ):  # random displacements, partly outside the range of a narrow network
        assert bool(((ratio > 0.05) & (ratio < 2)).all())
    elif name == "jacobian":  # as long as the derivative says, which it says itself; curves are not measured
        shifts = found_by(SEARCHES[name], probe)
        assert shifts.linear_distance is not None
        assert torch.allclose(shifts.linear_distance[:, 0], torch.ones(()).double() * probe.target)
        assert torch.allclose(ratio, shifts.linear_distance / probe.target, rtol=0.1)
    elif name in ("dct", "pixel"):
        assert torch.allclose(ratio, torch.ones_like(ratio), rtol=1e-3)
    else:
        distinct = min(decomposition.rank for decomposition in probe.decompositions())
        assert torch.allclose(ratio[:, : min(distinct, 4)], torch.ones(()).double(), rtol=1e-3)


@pytest.mark.parametrize("name", IN_BOX)
def test_valid_images_stay_valid(probe: Probe, name: str) -> None:
    moved = probe.x.unsqueeze(1) + found_by(SEARCHES[name], probe).input_shift
    assert torch.equal(moved, moved.clamp(probe.low, probe.high))


@pytest.mark.parametrize("name", sorted(SEARCHES))
@pytest.mark.parametrize("count", [1, 100])
def test_any_count_will_do(name: str, count: int) -> None:
    probe = probe_of(Map(lambda x: x.tanh() @ normal(6, 4)), normal(2, 1, 2, 3).sigmoid(), count=count)
    shift = found_by(SEARCHES[name], probe).input_shift
    assert 1 <= shift.shape[1] <= count
    assert bool(shift.flatten(2).norm(dim=2).gt(0).all())


@pytest.mark.parametrize("name", sorted(SEARCHES))
def test_features_that_never_move_leave_shifts_that_do_not_move_them(name: str) -> None:
    net = relu_net(64, 10).exact
    net.layers[-2].bias.fill_(-1e3)
    probe = probe_of(net, digits(2))
    shift = found_by(SEARCHES[name], probe).input_shift
    assert bool(shift.isfinite().all())
    assert bool(shift.flatten(2).norm(dim=2).gt(0).all())
    assert bool(probe.distances(shift).eq(0).all())


@pytest.mark.parametrize("name", sorted(SEARCHES))
def test_only_those_that_say_so_need_the_jacobian(name: str) -> None:
    def decompositions() -> list[object]:
        raise ValueError("the Jacobian is too large")

    probe = dataclasses.replace(PROBES["digits"], decompositions=decompositions)
    if SEARCHES[name].needs_jacobian:
        with pytest.raises(ValueError, match="too large"):
            found_by(SEARCHES[name], probe)
    else:
        found_by(SEARCHES[name], probe)


@pytest.mark.parametrize("name", ["lsqr", "inverse_iteration", "pseudo_inverse"])
def test_linear_solves_in_float32_find_about_the_same(name: str) -> None:
    pair = relu_net(64, 30)
    exact = PROBES["digits"]
    single = dataclasses.replace(exact, model=pair.single, dtype=torch.float32)
    found = [found_by(SEARCHES[name], probe).input_shift.flatten(2) for probe in (exact, single)]
    assert ((found[0] - found[1]).norm(dim=2) / found[0].norm(dim=2)).median() < 1e-2


@pytest.mark.parametrize("name", [name for name in SEARCHES if SEARCHES[name].per_noise])
@pytest.mark.parametrize("noise_std", [0.0, -1.0, float("nan"), float("inf")])
def test_noise_is_a_positive_number(name: str, noise_std: float) -> None:
    with pytest.raises(ValueError, match="noise_std: expected a finite number > 0, got"):
        SEARCHES[name].find(PROBES["digits"], noise_std, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": normal(3, 64)}, "x: expected float64 images"),
        ({"x": normal(3, 1, 8, 8).float()}, "x: expected float64 images"),
        ({"clean": normal(2, 30)}, "clean: expected features of 3 images"),
        ({"reference_std": 0.0}, "reference_std: expected a finite number > 0, got 0.0"),
        ({"step": float("nan")}, "step: expected a finite number > 0, got nan"),
        ({"count": 0}, "count: expected a whole number >= 1, got 0"),
        ({"max_items": 0}, "max_items: expected a whole number >= 1, got 0"),
        ({"low": torch.full((1, 1, 1), 9.0)}, "low, high: expected low < high"),
    ],
)
def test_a_probe_says_what_is_wrong(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PROBES["digits"], **change)
