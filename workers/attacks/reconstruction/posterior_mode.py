"""White-box attack: the image that is most likely, given what has left and what images look like (MAP).

Gradient descent on the negative log-likelihood of the real network and noise plus a prior, for many images at once: the
regularised maximum likelihood of He, Zhang & Lee (ACSAC 2019), with the noise's own variance in place of a free weight.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hushsweep.workers.attacks.reconstruction.base import Target
from hushsweep.workers.attacks.reconstruction.bayes import image_moments
from hushsweep.workers.attacks.reconstruction.likelihood import Likelihood, likelihood_of
from hushsweep.workers.devices import threads

Prior = Literal["total_variation", "gaussian"]
BLOCK = 64
"""Images that descend together, whatever the batch size: no rounding then depends on it."""
_GRID = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Weights of the total variation that are tried where none is given, nats per normalised pixel."""
_TRIED_ON = 16
_SMOOTH = 1e-8


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How the mode is looked for."""

    steps: int = 500
    learning_rate: float = 0.2
    """Of Adam, in normalised pixels, or units of the prior; it falls to 0 along half a cosine."""
    prior: Prior = "total_variation"
    total_variation: float | None = None
    """Its weight, nats per normalised pixel; None: the best of a grid on validation images."""


class _Parameters(NamedTuple):
    """What descends, and how it becomes an image."""

    start: Tensor  # (k)
    image: Callable[[Tensor], Tensor]  # (n, k) to (n, *input)
    penalty: Callable[[Tensor], Tensor]  # (n, k) to (n,), nats
    limit: Callable[[Tensor], Tensor]  # (n, k) to itself, within what is allowed


@dataclass(frozen=True)
class PosteriorMode:
    """The attack on one point."""

    target: Target
    descent: Descent
    likelihood: Likelihood
    parameters: _Parameters
    digest: str | None = None

    @classmethod
    def fit(cls, target: Target, descent: Descent) -> "PosteriorMode":
        """Prepare the prior; choose the weight of the total variation if none is given.

        Raises:
            PlugInError: there is no likelihood, no gradient, or a prior needs images that are not there.
        """
        likelihood = likelihood_of(target)
        if descent.prior == "gaussian":
            return cls(target, descent, likelihood, _gaussian(target))
        if descent.total_variation is not None:
            return cls(target, descent, likelihood, _smooth(target, descent.total_variation))
        seen, truth = (found[:: max(1, len(found) // _TRIED_ON)][:_TRIED_ON] for found in target.validation())
        tried = [cls(target, descent, likelihood, _smooth(target, weight)) for weight in _GRID]
        errors = [float((one.reconstruct(seen, truth) - truth).double().square().mean()) for one in tried]
        return tried[int(np.argmin(np.nan_to_num(errors, nan=math.inf)))]

    def reconstruct(self, seen: Tensor, inputs: Tensor) -> Tensor:
        """Descend from the same start for all images, block by block."""
        with threads(self.target.threads):
            return torch.cat([self._descend(block) for block in seen.split(BLOCK)])

    def _descend(self, seen: Tensor) -> Tensor:
        image, penalty, limit = self.parameters.image, self.parameters.penalty, self.parameters.limit
        u = self.parameters.start.expand(len(seen), -1).clone().requires_grad_()
        optimiser = torch.optim.Adam([u], lr=self.descent.learning_rate, amsgrad=True)
        for step in range(self.descent.steps):
            rate = self.descent.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.descent.steps))
            optimiser.param_groups[0]["lr"] = rate
            with torch.enable_grad():
                # a sum: every image has its own gradient, and Adam treats entries one by one
                energy = (self.likelihood(image(u), seen) + penalty(u)).sum()
                (u.grad,) = torch.autograd.grad(energy, u)
            u.grad.nan_to_num_(0.0, 0.0, 0.0)
            optimiser.step()
            with torch.no_grad():
                u.copy_(limit(u))
        return image(u.detach())


def _smooth(target: Target, weight: float) -> _Parameters:
    """Pixels, penalised by their total variation, from grey on and always within what pixels can be."""
    model = target.subject.model
    shape, low, high = model.input_shape, (0 - model.mean) / model.std, (1 - model.mean) / model.std
    low, high = (bound.expand(shape).flatten() for bound in (low, high))

    def image(u: Tensor) -> Tensor:
        return u.reshape(len(u), *shape)

    def penalty(u: Tensor) -> Tensor:
        x = image(u)
        down, right = x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]
        return weight * sum((d.square() + _SMOOTH).sqrt().flatten(1).sum(1) for d in (down, right))

    return _Parameters((low + high) / 2, image, penalty, lambda u: u.clamp(low, high))


def _gaussian(target: Target) -> _Parameters:
    """Coordinates in which training images have covariance 1, penalised by half their square, from their mean on."""
    shape = target.subject.model.input_shape
    mean, values, vectors = (found.float() for found in image_moments(target.knowledge))
    kept = values > 1e-9 * values.amax()
    root = (vectors[:, kept] * values[kept].sqrt()).T.contiguous()

    def image(u: Tensor) -> Tensor:
        return (mean + u @ root).reshape(len(u), *shape)

    def penalty(u: Tensor) -> Tensor:
        return u.square().sum(1) / 2

    return _Parameters(mean.new_zeros(int(kept.sum())), image, penalty, lambda u: u)
