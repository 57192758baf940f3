"""Contract suites that every plug-in passes, in this repository or outside it.

Call them from your own tests: ``check_mechanism(MyMechanism(strength=1.0))``. They raise AssertionError.
"""

import math
import pickle
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hushsweep.workers.measures import Measure
from hushsweep.workers.mechanisms import ActivationStatistics, Mechanism, UnitNoise
from hushsweep.workers.mechanisms.learned import Batch, LearnedMechanism
from hushsweep.workers.noise import unit_noise

_SHAPE = (3, 4, 5)
_DRAWS = 4000


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


def check_learned_mechanism(mechanism: LearnedMechanism, shape: tuple[int, ...] = (3, 8, 8)) -> None:
    """Hold a mechanism that learns to its contract.

    A frozen value with places and levels; one training step with finite gradients; what it learned is bound to
    something pure, repeatable and independent of the batch, equal by digest, and with ``moments`` that are those of
    what leaves.

    Args:
        mechanism: With its level.
        shape: Of one image's values where it may act.
    """
    _check_value(mechanism)
    assert isinstance(mechanism, LearnedMechanism), "a mechanism that learns is derived from LearnedMechanism"
    names = {field.name for field in fields(mechanism)}
    assert set(mechanism.LEVELS) <= names, "every level is a field"
    assert set(mechanism.AFTERWARDS) <= names, "what acts afterwards is a field"
    assert mechanism.PLACES, "it acts somewhere"
    assert set(mechanism.PLACES) <= {"input", "cut"}, "there are two places"
    client = _learned_client(mechanism, shape)
    fitted: Any = mechanism.bind(client, "digest")
    assert mechanism.flops(client, shape) >= 0
    copy = pickle.loads(pickle.dumps(fitted))  # noqa: S301 (our own bytes)
    assert (copy, hash(copy)) == (fitted, hash(fitted)), "equal by what was learned, not by identity"
    assert mechanism.bind(client, "another") != fitted, "the digest tells what was learned"
    _check_acting(fitted, shape, torch.float32)
    _check_acting(fitted.double(), shape, torch.float64)
    a, noise = _values(9, shape), _noise(range(9), shape)
    exact = fitted.double().apply(a.double(), noise).float()
    assert torch.allclose(fitted.apply(a, noise), exact, rtol=1e-3, atol=1e-4), "double() agrees"
    if hasattr(fitted, "mask"):
        assert fitted.mask(a).shape == a.shape
    if hasattr(fitted, "moments"):
        _check_moments(fitted.double(), _values(2, shape).double())


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


def _learned_client(mechanism: LearnedMechanism, shape: tuple[int, ...]) -> nn.Module:
    """Learn for one step against a linear network of two classes."""
    values, labels = _values(16, shape), torch.arange(16) % 2
    secondary = torch.arange(16) // 2 % 4 if mechanism.SECONDARY else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        client, server = mechanism.client(shape).train(), nn.Linear(math.prod(shape), 2)
        values.requires_grad_()  # as activations of a network that learns
        batch = Batch(values, labels, secondary, lambda a: server(a.flatten(1)), 0.1)
        rounds = [(mechanism.adversary_optimiser(client), mechanism.adversary_loss)]
        rounds.append((mechanism.optimiser(client), mechanism.loss))
        for optimiser, loss in rounds:
            if optimiser is None and loss == mechanism.adversary_loss:
                continue
            found = loss(client, batch)
            assert found.shape == ()
            found.backward()  # type: ignore[no-untyped-call]
            gradients = [p.grad for p in [*client.parameters(), *server.parameters()] if p.grad is not None]
            assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
            if optimiser is not None:
                own = [p.grad for group in optimiser.param_groups for p in group["params"]]
                assert all(gradient is not None for gradient in own), "all that is learned has a gradient"
                optimiser.step()
    client.eval().requires_grad_(False)
    with torch.no_grad():
        mechanism.finish(client, lambda: iter([values.detach()]))
    return client


def _check_acting(fitted: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    a, noise = _values(7, shape).to(dtype), _noise(range(7), shape)
    before = a.clone()
    out = fitted.apply(a, noise)
    assert out.shape == a.shape
    assert out.dtype == a.dtype
    assert bool(torch.isfinite(out).all())
    assert torch.equal(a, before), "activations stay as they are"
    assert torch.equal(out, fitted.apply(a, noise)), "the same noise gives the same result"
    cuts = (range(2), range(2, 7))
    parts = torch.cat([fitted.apply(a[cut.start : cut.stop], _noise(cut, shape)) for cut in cuts])
    assert torch.allclose(out, parts, rtol=1e-4, atol=1e-5), "an image's result does not depend on its batch"
    assert fitted.apply(a[:0], _noise(range(0), shape)).shape == (0, *shape)


def _check_moments(fitted: Any, a: Tensor) -> None:
    """Mean and standard deviation of what leaves are those of many draws; of a code, after the way back."""
    shape = tuple(a.shape[1:])
    a.requires_grad_()
    mean, std = fitted.moments(a)
    assert mean.shape == std.shape == (len(a), mean[0].numel())
    assert bool((std >= 0).all())
    (gradient,) = torch.autograd.grad(mean.sum(), a)
    assert bool(torch.isfinite(gradient).all()), "moments are differentiable"
    a, mean, std = a.detach(), mean.detach(), std.detach()
    generator = torch.Generator().manual_seed(0)
    for place, image in enumerate(a):
        unit = torch.randn(_DRAWS, *shape, generator=generator, dtype=a.dtype)
        drawn = fitted.apply(image.expand(_DRAWS, *shape), lambda law, unit=unit: unit).flatten(1)
        if hasattr(fitted, "back"):
            code = fitted.code(image.expand(_DRAWS, *shape))
            unit = torch.randn(code.shape, generator=generator, dtype=a.dtype).flatten(1)
            expected = fitted.back((mean[place] + std[place] * unit).reshape(code.shape)).flatten(1)
            expected_mean, expected_std = expected.mean(0), expected.std(0)
        else:
            if drawn.shape[1] != mean.shape[1]:
                drawn = drawn[:, drawn.std(0) > 0]  # constants are left out of the moments
            expected_mean, expected_std = mean[place], std[place]
        # six standard errors of a mean and of a standard deviation, twice where both sides are drawn
        slack = 6 * math.sqrt(2 / _DRAWS) * expected_std + 1e-9
        assert bool(((drawn.mean(0) - expected_mean).abs() <= slack).all()), "the mean is that of many draws"
        assert bool(((drawn.std(0) - expected_std).abs() <= slack).all()), "so is the standard deviation"


def _values(count: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))


def _noise(indices: range, shape: tuple[int, ...] = _SHAPE) -> UnitNoise:
    def draw(law: str) -> Tensor:
        return unit_noise(law, shape, seed=0, purpose="contract", image_indices=indices, draw=0)

    return draw
