"""Contract suites that every plug-in passes, in this repository or outside it.

Call them from your own tests: ``check_mechanism(MyMechanism(strength=1.0))``. They raise AssertionError.
"""

import pickle
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from hushsweep.workers.measures import Measure
from hushsweep.workers.mechanisms import ActivationStatistics, Mechanism, UnitNoise
from hushsweep.workers.noise import unit_noise

_SHAPE = (3, 4, 5)


def check_mechanism(mechanism: Any) -> None:
    """Hold a mechanism to its contract: a frozen value, pure, repeatable, shape and dtype kept, chi-square sane."""
    _check_value(mechanism)
    plugin: Any = mechanism
    assert isinstance(mechanism, Mechanism), "a mechanism has VERSION, LEVELS and fit"
    names = {field.name for field in fields(plugin)}
    assert set(mechanism.LEVELS) <= names, "every level is a field"
    fitted = mechanism.fit(ActivationStatistics(lambda: 2.0))
    assert pickle.loads(pickle.dumps(fitted)) == fitted  # noqa: S301 (our own bytes)
    assert hash(fitted) == hash(pickle.loads(pickle.dumps(fitted))), "points that act alike are recognised"  # noqa: S301
    for dtype in (torch.float32, torch.float64):
        a = torch.randn(7, *_SHAPE, generator=torch.Generator().manual_seed(0), dtype=dtype)
        before = a.clone()
        out = fitted.apply(a, _noise(range(7)))
        assert out.shape == a.shape
        assert out.dtype == a.dtype
        assert torch.equal(a, before), "activations stay as they are"
        assert torch.equal(out, fitted.apply(a, _noise(range(7)))), "the same noise gives the same result"
        parts = torch.cat([fitted.apply(a[:2], _noise(range(2))), fitted.apply(a[2:], _noise(range(2, 7)))])
        assert torch.equal(out, parts), "an image's result does not depend on its batch"
    empty = torch.empty(0, *_SHAPE)
    assert fitted.apply(empty, _noise(range(0))).shape == empty.shape
    if hasattr(fitted, "chi_square"):
        _check_chi_square(fitted)


def check_measure(measure: Any) -> None:
    """Hold a measure's options to their contract; what it measures is for its own tests."""
    _check_value(measure)
    assert isinstance(measure, Measure), "a measure has VERSION, inapplicable, measure and summarise"


def _check_value(plugin: Any) -> None:
    assert is_dataclass(plugin), "a plug-in is a frozen dataclass"
    cls: Any = plugin.__class__
    assert cls.__dataclass_params__.frozen, "a plug-in is a frozen dataclass"
    assert pickle.loads(pickle.dumps(plugin)) == plugin  # noqa: S301 (our own bytes)
    assert hash(plugin) == hash(pickle.loads(pickle.dumps(plugin)))  # noqa: S301
    assert repr(plugin).startswith(cls.__name__)
    assert isinstance(cls.VERSION, int)
    assert cls.__doc__, "a plug-in says what it is"


def _check_chi_square(fitted: Any) -> None:
    shift = torch.randn(6, 60, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    small, zero = fitted.chi_square(1e-3 * shift), fitted.chi_square(0 * shift)
    assert small.shape == (6,)
    assert small.dtype == torch.float64
    assert bool((zero == 0).all()), "no shift, no divergence"
    assert bool((small > 0).all())
    assert bool((fitted.chi_square(2e-3 * shift) > small).all()), "a longer shift is easier to see"
    assert torch.allclose(fitted.chi_square(-1e-3 * shift), small), "our laws are symmetric"


def _noise(indices: range) -> UnitNoise:
    def draw(law: str) -> Tensor:
        return unit_noise(law, _SHAPE, seed=0, purpose="contract", image_indices=indices, draw=0)

    return draw
