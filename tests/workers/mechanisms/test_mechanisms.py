"""Every entry of the table keeps the contract, and the noise is what it is called."""

import math

import pytest
import torch

from hushsweep.workers.mechanisms import MECHANISMS, ActivationStatistics, find_mechanism
from hushsweep.workers.mechanisms.learned import LearnedMechanism
from hushsweep.workers.testing import check_mechanism

EXAMPLES = {
    "none": [{}],
    "gaussian": [{"noise_scale": 0.5}, {"noise_std": 3.0}, {"noise_scale": 0.0}],
    "laplace": [{"noise_scale": 0.5}, {"noise_std": 3.0}],
}


def test_every_mechanism_is_in_the_suite() -> None:
    fixed = {name for name, cls in MECHANISMS.items() if not issubclass(cls, LearnedMechanism)}
    assert set(EXAMPLES) == fixed  # the others: test_learned.py


@pytest.mark.parametrize(
    ("name", "parameters"),
    [(name, p) for name, many in EXAMPLES.items() for p in many if p != {"noise_scale": 0.0}],
)
def test_contract(name: str, parameters: dict[str, float]) -> None:
    check_mechanism(MECHANISMS[name](**parameters))


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_levels_are_standard_deviations(name: str) -> None:
    cls = MECHANISMS[name]
    statistics = ActivationStatistics(lambda: 2.0)
    relative, absolute = cls(noise_scale=1.5).fit(statistics), cls(noise_std=3.0).fit(statistics)
    assert relative == absolute
    zeros = torch.zeros(1, 200_000)
    noise = relative.apply(zeros, _unit)
    assert float(noise.std()) == pytest.approx(3.0, rel=0.02)


def _unit(law: str) -> torch.Tensor:
    from hushsweep.workers.noise import unit_noise

    return unit_noise(law, (200_000,), seed=0, purpose="test", image_indices=[0], draw=0)


def test_laplace_chi_square_uses_its_scale() -> None:
    """Scale b = sigma / sqrt 2; one feature moved by d: chi-square + 1 = (2/3) e^(d/b) + (1/3) e^(-2d/b)."""
    sigma, d = 3.0, 0.7
    b = sigma / math.sqrt(2)
    fitted = find_mechanism("laplace")(noise_std=sigma).fit(ActivationStatistics(lambda: 1.0))
    expected = 2 / 3 * math.exp(d / b) + 1 / 3 * math.exp(-2 * d / b) - 1
    assert float(fitted.chi_square(torch.tensor([[d]], dtype=torch.float64))) == pytest.approx(
        expected, rel=1e-12
    )


def test_statistics_are_computed_only_when_asked_for() -> None:
    def never() -> float:
        raise AssertionError("an absolute level needs no pass over the images")

    MECHANISMS["gaussian"](noise_std=1.0).fit(ActivationStatistics(never))


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "expected exactly one of noise_scale, noise_std, got 0"),
        ({"noise_scale": 1.0, "noise_std": 1.0}, "got 2"),
        ({"noise_scale": -1.0}, "noise_scale: expected a finite number >= 0, got -1.0"),
        ({"noise_std": math.nan}, "noise_std: expected a finite number >= 0, got nan"),
        ({"noise_std": math.inf}, "got inf"),
    ],
)
def test_bad_levels_are_refused(parameters: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MECHANISMS["gaussian"](**parameters)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gausian", "did you mean 'gaussian'?"),
        ("no.such.module:Thing", "cannot import"),
        ("math:pi", "is no mechanism"),
        ("collections:OrderedDict", "lacks VERSION, LEVELS"),
    ],
)
def test_unknown_names_are_explained(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        find_mechanism(name)
