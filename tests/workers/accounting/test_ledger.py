"""What was spent survives with the weights, and nonsense is refused."""

import math
from pathlib import Path

import pytest
import torch
from dp_support import spent
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from hushsweep.workers.accounting import Ledger, Phase, Spending

PHASES = st.builds(
    Phase,
    noise_multiplier=st.floats(0, 1e6),
    steps=st.integers(1, 2**40),
    sampling_rate=st.floats(1e-9, 1),
    relation=st.sampled_from(["add_or_remove", "replace_one"]),
    examples=st.integers(1, 2**40),
    copies=st.integers(0, 10_000),
)
SPENDINGS = st.builds(
    Spending,
    phases=st.lists(PHASES, min_size=1, max_size=2).map(tuple),
    delta=st.floats(1e-300, 0.9),
    label_epsilon=st.floats(0, 100) | st.just(math.inf),
    query_noise_multiplier=st.floats(0, 1e6),
)


@given(SPENDINGS, SPENDINGS)
def test_what_is_recorded_is_read_bit_by_bit(first: Spending, second: Spending) -> None:
    ledger = Ledger()
    assert ledger.spending is None
    for spending in (first, second):
        ledger.record(spending)
        assert ledger.spending == spending


def test_it_is_stored_with_the_weights(tmp_path: Path) -> None:
    client = torch.nn.Sequential(torch.nn.Linear(2, 2), Ledger())
    client[1].record(spent(1.1, copies=3, label_epsilon=math.inf))
    save_file(client.state_dict(), tmp_path / "client.safetensors")
    other = torch.nn.Sequential(torch.nn.Linear(2, 2), Ledger())
    other.load_state_dict(load_file(tmp_path / "client.safetensors"))
    assert other[1].spending == client[1].spending
    assert list(Ledger().parameters()) == []


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("noise_multiplier", -1.0, "noise_multiplier: expected a finite number >= 0, got -1.0"),
        ("noise_multiplier", math.nan, "noise_multiplier: expected"),
        ("steps", 0, "steps: expected >= 1, got 0"),
        ("sampling_rate", 1.5, "sampling_rate: expected > 0 and <= 1, got 1.5"),
        ("relation", "swap", "relation: expected one of add_or_remove, replace_one, got 'swap'"),
        ("copies", -1, "copies: expected >= 0, got -1"),
        ("delta", 1.0, "delta: expected > 0 and < 1, got 1.0"),
        ("label_epsilon", -0.5, "label_epsilon: expected >= 0, got -0.5"),
    ],
)
def test_nonsense_is_refused(field: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        spent(**{"noise_multiplier": 1.0, field: value})


def test_one_or_two_phases() -> None:
    phase = spent(1.0).phases[0]
    for phases in ((), (phase,) * 3):
        with pytest.raises(ValueError, match="phases: expected 1 to 2"):
            Spending(phases=phases, delta=1e-5)
