"""How likely an image makes what has left: the client's network and the law of its noise, both known."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hushsweep.workers.attacks.reconstruction.base import Target
from hushsweep.workers.errors import PlugInError

Likelihood = Callable[[Tensor, Tensor], Tensor]
"""Given images ``(n, *input)`` and what has left ``(n, *shape)``: negative log-likelihoods ``(n,)``, nats, but for a
constant."""
_NOISELESS = 1e-2
"""Noise assumed where there is none, in units of the root mean square of the features: how exact a fit is wanted."""
_SMALLEST = 1e-3
"""Of a standard deviation that depends on the image, in normalised units; without it a density may be infinite."""


def likelihood_of(target: Target) -> Likelihood:
    """Return the likelihood of a point's images.

    Raises:
        PlugInError: the density of what leaves is not known, or has no derivative with respect to the image.
    """
    found = _of_noise(target) if target.noise_std is not None else _of_channel(target)
    _require_gradient(target, found)
    return found


def why_no_likelihood(target_point: Any) -> str | None:
    """Say why a chain has no likelihood, or None if it has one."""
    if target_point.cut_noise is not None or target_point.channel is not None or not target_point.stages:
        return None
    return (
        "no likelihood: the chain is neither a single noise of known law at the cut nor a single noise that is "
        "Gaussian with independent entries given the image"
    )


def _of_noise(target: Target) -> Likelihood:
    noise, std = target.point.cut_noise, target.noise_std
    assert std is not None
    features = target.subject.model.features
    if noise is not None and noise.law == "laplace" and target.view.queries == 1 and std > 0:
        scale = std / math.sqrt(2)

        def laplace(x: Tensor, seen: Tensor) -> Tensor:
            return (features(x) - seen).flatten(1).abs().sum(1) / scale

        return laplace
    variance = (std or _NOISELESS * target.subject.rms()) ** 2

    # the mean of several queries' noise is nearly Gaussian whatever the law
    def gaussian(x: Tensor, seen: Tensor) -> Tensor:
        return (features(x) - seen).flatten(1).square().sum(1) / (2 * variance)

    return gaussian


def _of_channel(target: Target) -> Likelihood:
    stage = target.point.channel
    if stage is None:
        raise PlugInError(f"reconstruction: {why_no_likelihood(target.point)}")
    moments = stage.mechanism.moments  # type: ignore[attr-defined]
    features = target.subject.model.features
    queries = target.view.queries

    def heteroscedastic(x: Tensor, seen: Tensor) -> Tensor:
        mean, std = moments(x if stage.at == "input" else features(x))
        std = std.clamp(min=_SMALLEST)
        distance = ((seen.flatten(1) - mean) / std).square() * (queries / 2)
        return (distance + std.log()).sum(1)

    return heteroscedastic


def _require_gradient(target: Target, likelihood: Likelihood) -> None:
    model = target.subject.model
    with torch.enable_grad():
        x = torch.zeros((1, *model.input_shape), device=target.subject.activations.device, requires_grad=True)
        shape = model.input_shape if target.point.leaves == "input" else model.feature_shape
        energy = likelihood(x, x.new_zeros((1, *shape)))
        if not energy.requires_grad:
            raise PlugInError(
                "reconstruction: the attack map follows the gradient of the client's network, but its output has none "
                "with respect to the image; use ridge or decoder"
            )
