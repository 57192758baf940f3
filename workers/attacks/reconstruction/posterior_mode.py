"""White-box attack: the image that is most likely, given what has left and what images look like (MAP).

Gradient descent on the negative log-likelihood of the real network and noise plus a prior, for many images at once: the
regularised maximum likelihood of He, Zhang & Lee (ACSAC 2019), with the noise's own variance in place of a free weight.
A sharp likelihood of a deep network has many local minima, so the descent begins with more noise assumed than there is
and takes it back step by step (graduated optimisation).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
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
_GRID = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Weights of the total variation that are tried where none is given, nats per normalised pixel."""
_EXTRA = (0.0, 0.1, 0.3)
"""Noise assumed at the end beyond what there is, in units of the features' root mean square: what is tried."""
_AT_FIRST = 1.0
"""The same at the beginning."""
_COOLING = 0.8
"""Of the steps: so long the assumed noise falls."""
_TRIED_ON = 16
CHOSEN_ON: dict[Prior, int] = {
    "gaussian": len(_EXTRA) * _TRIED_ON,
    "total_variation": (len(_GRID) + len(_EXTRA) - 1) * _TRIED_ON,
}
"""Descents on validation images by which what is left open is chosen, at most."""
_SMOOTH = 1e-8


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How the mode is looked for."""

    steps: int = 500
    learning_rate: float = 0.1
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
    temperature: float = 1.0
    """By which the likelihood's energy is divided at the end."""
    digest: str | None = None

    @classmethod
    def fit(cls, target: Target, descent: Descent) -> "PosteriorMode":
        """Prepare the prior; choose on validation images its weight, if none is given, and how much noise to assume.

        A given weight of the total variation means that nothing is chosen, and no images are needed.

        Raises:
            PlugInError: there is no likelihood, no gradient, or a prior needs images that are not there.
        """
        likelihood = likelihood_of(target)
        if descent.prior == "total_variation" and descent.total_variation is not None:
            return cls(target, descent, likelihood, _smooth(target, descent.total_variation))
        gaussian = descent.prior == "gaussian"
        priors = [_gaussian(target)] if gaussian else [_smooth(target, weight) for weight in _GRID]
        # more noise assumed is more weight of the prior, too: not all pairs are worth a try
        tried = [cls(target, descent, likelihood, prior) for prior in priors]
        temperatures = {likelihood.temperature(extra) for extra in _EXTRA} - {1.0}
        tried += [replace(tried[-1], temperature=one) for one in sorted(temperatures)]
        if len(tried) == 1:
            return tried[0]
        seen, truth = (found[:: max(1, len(found) // _TRIED_ON)][:_TRIED_ON] for found in target.validation())
        errors = [float((one.reconstruct(seen, truth) - truth).double().square().mean()) for one in tried]
        return tried[int(np.argmin(np.nan_to_num(errors, nan=math.inf)))]

    def reconstruct(self, seen: Tensor, inputs: Tensor) -> Tensor:
        """Descend from the same start for all images, block by block."""
        with threads(self.target.threads):
            return torch.cat([self._descend(block) for block in seen.split(BLOCK)])  # type: ignore[no-untyped-call]

    def _descend(self, seen: Tensor) -> Tensor:
        image, penalty, limit = self.parameters.image, self.parameters.penalty, self.parameters.limit
        u = self.parameters.start.expand(len(seen), -1).clone().requires_grad_()
        optimiser = torch.optim.Adam([u], lr=self.descent.learning_rate, amsgrad=True)
        hot = max(self.temperature, self.likelihood.temperature(_AT_FIRST))
        for step in range(self.descent.steps):
            cooled = min(1.0, step / (_COOLING * self.descent.steps))
            temperature = hot ** (1 - cooled) * self.temperature**cooled
            rate = self.descent.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.descent.steps))
            optimiser.param_groups[0]["lr"] = rate
            with torch.enable_grad():
                # a sum: every image has its own gradient, and Adam treats entries one by one
                energy = (self.likelihood.energy(image(u), seen) / temperature + penalty(u)).sum()
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
        return weight * torch.stack(
            [(d.square() + _SMOOTH).sqrt().flatten(1).sum(1) for d in (down, right)]
        ).sum(0)

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
