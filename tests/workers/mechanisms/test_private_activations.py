"""Activations are clipped, noised and accounted for as the statement about them says."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hushsweep.workers.accounting import Spending, training_epsilons
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.mechanisms import MECHANISMS
from hushsweep.workers.mechanisms.private_activations import clipped
from hushsweep.workers.noise import unit_noise

FINITE = st.floats(-1e6, 1e6, width=32)


def private(**fields):
    return MECHANISMS["private_activations"](**fields)


@given(arrays(np.float32, (2, 3, 4, 4), elements=FINITE), st.floats(1e-3, 1e3))
def test_two_records_never_differ_by_more_than_the_sensitivity(values, norm) -> None:
    found = clipped(torch.from_numpy(values), norm).double().flatten(1)
    assert float((found[0] - found[1]).norm()) <= 2 * norm * (1 + 1e-6)
    assert bool((found.norm(dim=1) <= norm * (1 + 1e-6)).all())


def test_a_record_is_scaled_not_cut_off() -> None:
    values = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [-30.0, 40.0]])
    expected = torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0], [-0.6, 0.8]])
    torch.testing.assert_close(clipped(values, 1.0), expected)
    assert torch.equal(clipped(values, 100.0), values)


def test_the_size_of_the_noise_is_that_of_the_statement() -> None:
    mechanism = private(noise_multiplier=0.25, clip_norm=2.0)
    fitted = mechanism.bind(mechanism.client((16,)), "x")
    values = 100 * torch.randn(20_000, 16, generator=torch.Generator().manual_seed(0))
    noise = unit_noise("gaussian", (16,), seed=0, purpose="t", image_indices=range(20_000), draw=0)
    difference = fitted.apply(values, lambda law: noise) - clipped(values, 2.0)
    assert fitted.noise_std == 0.25 * 2 * 2.0
    # 320,000 entries: six standard errors are 0.0106 of the mean and 0.0075 of the standard deviation
    assert float(difference.mean()) == pytest.approx(0, abs=0.0107)
    assert float(difference.std()) == pytest.approx(1.0, abs=0.0075)
    mean, std = fitted.moments(values)
    assert torch.equal(mean, clipped(values, 2.0))
    assert torch.equal(std, torch.ones_like(values))


# sigma / Delta at delta 1e-5, computed by other means from the exact Gaussian trade-off
@pytest.mark.parametrize(
    ("epsilon", "epochs", "expected", "digits"),
    [(8, 1, 0.600, 3), (8, 20, 2.684, 3), (1, 1, 3.731, 3), (1, 20, 16.68, 2), (3, 15, 5.386, 3)],
)
def test_noise_for_a_target(epsilon, epochs, expected, digits) -> None:
    mechanism = private(target_epsilon=float(epsilon), release="per_epoch")
    spent = mechanism.spending(epochs, 1000)
    assert round(spent.query_noise_multiplier, digits) == pytest.approx(expected)
    assert training_epsilons(spent).pld == pytest.approx(epsilon, rel=1e-3)
    once = private(target_epsilon=float(epsilon)).spending(epochs, 1000)
    assert once.query_noise_multiplier == pytest.approx(
        spent.query_noise_multiplier / math.sqrt(epochs), rel=1e-4
    )


@pytest.mark.parametrize("accountant", ["pld", "rdp", "rdp_classic"])
def test_the_target_is_that_of_the_accountant_asked_for(accountant) -> None:
    mechanism = private(target_epsilon=2.0, accountant=accountant, release="per_epoch")
    assert getattr(training_epsilons(mechanism.spending(5, 1000)), accountant) == pytest.approx(2.0, rel=1e-3)


def test_labels_take_their_share_of_the_target() -> None:
    clear = private(target_epsilon=3.0).spending(1, 1000)
    assert clear.label_epsilon == math.inf
    shared = private(target_epsilon=3.0, label_epsilon=1.0).spending(1, 1000)
    assert shared.label_epsilon == 1.0
    alone = private(target_epsilon=2.0).spending(1, 1000)
    assert shared.query_noise_multiplier == alone.query_noise_multiplier > clear.query_noise_multiplier
    assert training_epsilons(shared).pld == pytest.approx(3.0, rel=1e-3)


def test_the_books_are_kept_and_read_again() -> None:
    mechanism = private(noise_multiplier=0.7, release="per_epoch", label_epsilon=2.0)
    client = mechanism.client((4,))
    assert mechanism.bind(client, "x").spending is None
    client.record(mechanism.spending(6, 123))
    again = mechanism.client((4,))
    again.load_state_dict(client.state_dict())
    fitted = mechanism.bind(again, "x")
    assert fitted.spending == mechanism.spending(6, 123)
    assert isinstance(fitted.spending, Spending)
    (phase,) = fitted.spending.phases
    assert (phase.steps, phase.noise_multiplier, phase.sampling_rate) == (6, 0.7, 1.0)
    assert (phase.relation, phase.examples, phase.copies) == ("replace_one", 123, 1)


def test_queries_without_noise_are_not_private_and_share_the_training() -> None:
    mechanism = private(noise_multiplier=0.7, queries="clipped", clip_norm=2.0)
    client = mechanism.client((4,))
    client.record(mechanism.spending(1, 100))
    fitted = mechanism.bind(client, "x")
    assert fitted.spending.query_noise_multiplier == 0
    assert fitted.spending.phases == mechanism.spending(1, 100).phases, "the training spent what it spent"
    values = 9 * torch.randn(5, 4)
    assert torch.equal(fitted.apply(values, lambda law: torch.full_like(values, 7.0)), clipped(values, 2.0))
    assert mechanism.settings() == private(noise_multiplier=0.7, clip_norm=2.0).settings()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "expected exactly one of noise_multiplier, target_epsilon, got 0"),
        ({"noise_multiplier": 1.0, "target_epsilon": 1.0}, "exactly one of .* got 2"),
        ({"noise_multiplier": -1.0}, "noise_multiplier: expected a number >= 0, got -1.0"),
        ({"target_epsilon": 0.0}, "target_epsilon: expected a finite number > 0, got 0.0"),
        ({"noise_multiplier": 1.0, "clip_norm": 0.0}, "clip_norm: expected a finite number > 0, got 0.0"),
        ({"noise_multiplier": 1.0, "clip_norm": -2.0}, "clip_norm: expected a finite number > 0, got -2.0"),
        ({"noise_multiplier": 1.0, "delta": 0.0}, "delta: expected a finite number > 0"),
        ({"noise_multiplier": 1.0, "delta": 1.0}, "delta: expected a number < 1"),
        ({"noise_multiplier": 1.0, "label_epsilon": 0.0}, "label_epsilon: expected a finite number > 0"),
        (
            {"noise_multiplier": 1.0, "server": "frozen"},
            "server: private_activations learns what comes after",
        ),
        (
            {"target_epsilon": 1.0, "label_epsilon": 1.0},
            "target_epsilon: label_epsilon 1 leaves nothing of 1 for activations",
        ),
    ],
)
def test_bad_values_are_refused(fields, said) -> None:
    with pytest.raises(ValueError, match=said):
        private(**fields)


def test_a_target_that_cannot_be_reached() -> None:
    with pytest.raises(PlugInError, match=r"target_epsilon 0\.1: unreachable for rdp_classic"):
        private(target_epsilon=0.1, accountant="rdp_classic").spending(1, 1000)
