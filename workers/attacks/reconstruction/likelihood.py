"""How likely an image makes what has left: the client's network and the law of its noise, both known."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hushsweep.workers.attacks.reconstruction.base import Target
from hushsweep.workers.errors import PlugInError

_Map = Callable[[Tensor], Tensor]
_Energy = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Likelihood:
    """Of images, given what has left.

    Attributes:
        energy: of images ``(n, *input)`` and what has left ``(n, *shape)``: negative log-likelihoods ``(n,)``, nats,
            but for a constant.
        law: ``gaussian`` or ``laplace`` for noise of one size at the cut, else None.
        noise: its standard deviation as assumed, in units of the root mean square of the features.
    """

    energy: _Energy
    law: str | None = None
    noise: float = math.inf

    def temperature(self, extra: float) -> float:
        """What to divide the energy by as if there were this much more noise, in units of that root mean square.

        1 where the noise depends on the image.
        """
        variances = 1 + (extra / self.noise) ** 2
        return math.sqrt(variances) if self.law == "laplace" else variances


_NOISELESS = 0.05
"""Noise assumed where there is none, in units of the root mean square of the features: how exact a fit is wanted."""
_SMALLEST = 1e-3
"""Of a standard deviation that depends on the image, in normalised units; without it a density may be infinite."""


def likelihood_of(target: Target) -> Likelihood:
    """Return the likelihood of a point's images.

    Raises:
        PlugInError: the density of what leaves is not known, or has no derivative with respect to the image.
    """
    has_one_size = target.noise_std is not None or not target.point.stages
    found = _of_noise(target) if has_one_size else Likelihood(_of_channel(target))
    _require_gradient(target, found.energy)
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
    noise, std = target.point.cut_noise, target.noise_std or 0.0
    leaves_image = target.point.leaves == "input"  # as it is
    features: _Map = torch.nn.Identity() if leaves_image else target.subject.model.features
    rms = 1.0 if leaves_image else target.subject.rms()
    if noise is not None and noise.law == "laplace" and target.view.queries == 1 and std > 0:
        scale = std / math.sqrt(2)

        def laplace(x: Tensor, seen: Tensor) -> Tensor:
            distance: Tensor = (features(x) - seen).flatten(1).abs().sum(1)
            return distance / scale

        return Likelihood(laplace, "laplace", std / rms)
    std = std or _NOISELESS * rms
    variance = std**2

    # the mean of several queries' noise is nearly Gaussian whatever the law
    def gaussian(x: Tensor, seen: Tensor) -> Tensor:
        return (features(x) - seen).flatten(1).square().sum(1) / (2 * variance)

    return Likelihood(gaussian, "gaussian", std / rms)


def _of_channel(target: Target) -> _Energy:
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
        energy: Tensor = (distance + std.log()).sum(1)
        return energy

    return heteroscedastic


def _require_gradient(target: Target, likelihood: _Energy) -> None:
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
