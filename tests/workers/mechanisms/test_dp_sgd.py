"""What the settings of DP-SGD come to: noise, steps and sampling rate; and which settings do not go together."""

import pytest

from hushsweep.workers.accounting import Phase, Spending, training_epsilons
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.mechanisms import Unchanged
from hushsweep.workers.mechanisms.dp_sgd import DpSgd


@pytest.mark.parametrize(
    ("parameters", "clips"),
    [
        ({"noise_multiplier": 1.0}, 1.0),
        ({"target_epsilon": 1.0}, 1.0),
        ({"noise_multiplier": 0.5, "clip_norm": 0.1}, 0.1),
        ({"noise_multiplier": 0.0, "clip_norm": 0.1}, 0.1),
        ({"noise_multiplier": 0.0}, None),
    ],
)
def test_only_without_noise_are_gradients_left_as_they_are(parameters, clips) -> None:
    assert DpSgd(**parameters).clips == clips


@pytest.mark.parametrize(
    ("examples", "batch_size", "epochs", "steps", "rate"),
    [
        (50_000, 128, 100, 39_100, 0.00256),
        (60_000, 512, 1, 117, 512 / 60_000),
        (10, 10, 3, 3, 1.0),
        (19, 10, 2, 4, 10 / 19),
    ],
)
def test_steps_and_sampling_rate(examples, batch_size, epochs, steps, rate) -> None:
    phase = DpSgd(noise_multiplier=2.0, batch_size=batch_size).phase(examples, epochs, copies=3)
    assert phase == Phase(noise_multiplier=2.0, steps=steps, sampling_rate=rate, examples=examples, copies=3)
    assert phase.relation == "add_or_remove"


@pytest.mark.parametrize("accountant", ["pld", "rdp", "rdp_classic"])
def test_a_target_epsilon_is_met_and_hardly_undercut(accountant: str) -> None:
    mechanism = DpSgd(target_epsilon=2.0, batch_size=100, accountant=accountant)
    phase = mechanism.phase(1000, 3)
    found = training_epsilons(Spending(phases=(phase,), delta=1e-5))
    assert 1.99 < getattr(found, accountant) <= 2.0


def test_what_is_learned_changes_no_image() -> None:
    mechanism = DpSgd(noise_multiplier=1.0)
    client = mechanism.client((1, 8, 8))
    assert mechanism.bind(client, "x").spending is None, "nothing was trained yet"
    spending = Spending(phases=(mechanism.phase(1000, 2),), delta=1e-5)
    client.record(spending)
    fitted = mechanism.bind(client, "x")
    assert fitted.spending == spending
    assert not isinstance(fitted, Unchanged), "it is kept in the chain, so that measures find the spending"


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "expected exactly one of noise_multiplier, target_epsilon, got 0"),
        ({"noise_multiplier": 1.0, "target_epsilon": 1.0}, "target_epsilon, got 2"),
        ({"noise_multiplier": -1.0}, "noise_multiplier: expected a number >= 0, got -1.0"),
        ({"target_epsilon": 0.0}, "target_epsilon: expected a finite number > 0, got 0.0"),
        ({"noise_multiplier": 1.0, "clip_norm": 0.0}, "clip_norm: expected a finite number > 0, got 0.0"),
        ({"noise_multiplier": 1.0, "delta": 1.0}, "delta: expected a number < 1, got 1.0"),
        ({"noise_multiplier": 1.0, "ema": 1.0}, "ema: expected a number < 1, got 1.0"),
        (
            {"noise_multiplier": 1.0, "server": "frozen"},
            "server: nothing of dp_sgd learns with a frozen server",
        ),
        ({"noise_multiplier": 1.0, "gradient_clip": 1.0}, "gradient_clip: has no place in dp_sgd"),
        ({"noise_multiplier": 1.0, "training_precision": "bfloat16"}, "training_precision: dp_sgd promises"),
        ({"noise_multiplier": 1.0, "flip": True}, "flip: has no effect with augmentations 1"),
    ],
)
def test_bad_values_are_refused(parameters, said) -> None:
    with pytest.raises(ValueError, match=said):
        DpSgd(**parameters)


@pytest.mark.parametrize(
    ("parameters", "examples", "said"),
    [
        ({"noise_multiplier": 1.0, "batch_size": 11}, 10, "batch_size: expected at most 10, the images"),
        ({"noise_multiplier": 1.0, "batch_size": 1, "delta": 0.1}, 10, "delta: expected less than 1 / 10"),
    ],
)
def test_data_that_are_too_few_are_refused(parameters, examples, said) -> None:
    with pytest.raises(PlugInError, match=said):
        DpSgd(**parameters).check_examples(examples)


def test_without_noise_no_delta_is_too_large() -> None:
    DpSgd(noise_multiplier=0.0, batch_size=1, delta=0.5).check_examples(10)
