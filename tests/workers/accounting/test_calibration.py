"""Noise for an epsilon, and budgets that are refused."""

import subprocess
import sys

import pytest
from dp_support import spent

from hushsweep.workers.accounting import (
    ACCOUNTANTS,
    check_budget,
    noise_for_epsilon,
    require_dp,
    training_epsilons,
)
from hushsweep.workers.errors import PlugInError


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize(("epsilon", "rate", "steps"), [(3.0, 0.01, 1000), (0.5, 1.0, 4), (8.0, 0.02, 50)])
def test_the_noise_comes_to_the_epsilon(accountant: str, epsilon: float, rate: float, steps: int) -> None:
    noise = noise_for_epsilon(epsilon, 1e-5, steps=steps, sampling_rate=rate, accountant=accountant)
    found = getattr(training_epsilons(spent(noise, steps=steps, sampling_rate=rate, delta=1e-5)), accountant)
    assert epsilon * (1 - 2e-3) <= found <= epsilon


@pytest.mark.parametrize(
    ("epsilon", "steps", "noise"),
    [(8, 1, 0.600), (8, 20, 2.684), (1, 1, 3.731), (1, 20, 16.68), (3, 15, 5.386)],
)
def test_activations_that_are_released(epsilon: float, steps: int, noise: float) -> None:
    found = noise_for_epsilon(epsilon, 1e-5, steps=steps, sampling_rate=1.0, relation="replace_one")
    assert found == pytest.approx(noise, rel=5e-4)


def test_relations_are_told_apart() -> None:
    settings = {"steps": 300, "sampling_rate": 0.02}
    added = noise_for_epsilon(2.0, 1e-5, **settings)
    replaced = noise_for_epsilon(2.0, 1e-5, relation="replace_one", **settings)
    # relative to a sensitivity that is twice as large, but sampling helps less where both sides are sampled
    assert 0.5 * added < replaced < added


@pytest.mark.parametrize(
    ("epsilon", "accountant", "said"),
    [
        (
            0.1,
            "rdp_classic",
            "target_epsilon 0.1: unreachable for rdp_classic over orders up to 63, which gives 0.18",
        ),
        (1e5, "pld", "target_epsilon 100000: reached with a noise multiplier below 0.05"),
        (0.0, "pld", "target_epsilon: expected a finite number > 0, got 0"),
        (1.0, "moments", "accountant: expected one of pld, rdp, rdp_classic, got 'moments'"),
    ],
)
def test_what_cannot_be_reached(epsilon: float, accountant: str, said: str) -> None:
    with pytest.raises(PlugInError, match=said):
        noise_for_epsilon(epsilon, 1e-5, steps=100, sampling_rate=0.01, accountant=accountant)


def test_budgets() -> None:
    check_budget(1.99e-5, 50_000)
    for delta, said in ((2e-5, "less than 1 / 50000 examples"), (0.0, "> 0 and < 1"), (1.0, "> 0 and < 1")):
        with pytest.raises(PlugInError, match=f"delta: expected {said}"):
            check_budget(delta, 50_000)


def test_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    require_dp("mechanism 'dp_sgd'")
    monkeypatch.setattr("hushsweep.workers.accounting.extra.find_spec", lambda name: None)
    with pytest.raises(PlugInError) as error:
        require_dp("mechanism 'dp_sgd'")
    assert str(error.value) == "mechanism 'dp_sgd' needs the extra dp; run: pip install 'hushsweep[dp]'"


def test_nothing_of_the_extra_is_imported_beforehand() -> None:
    code = (
        "import sys\n"
        "import hushsweep.workers.accounting as accounting, hushsweep.workers.evaluate\n"
        "assert all(hasattr(accounting, name) for name in accounting.__all__)\n"
        "sys.exit(any(name in sys.modules for name in ('opacus', 'dp_accounting', 'imblearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd="/", check=False).returncode == 0
