"""Noise that depends on the image, as bounds see it: mean and size of what leaves, their derivative, their Jacobian."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hushsweep.workers.bounds import Moments, fisher_map
from hushsweep.workers.bounds.search import Probe, items_that_fit
from hushsweep.workers.devices import search_memory
from hushsweep.workers.measures.base import FittedPoint, FittedStage, Subject
from hushsweep.workers.measures.decomposed import Decomposed
from hushsweep.workers.measures.geometry import JACOBIANS, MAX_IMAGES, Chunk, valid_box
from hushsweep.workers.noise import normal_draws

if TYPE_CHECKING:
    from hushsweep.workers.measures.bounds import Bounds

_WORKING = 16
"""Numbers held per entry of what leaves while a divergence is computed, generously."""
_NUDGE = 2.0**-30
"""How far beside an image its derivative is taken, normalised pixels: far above rounding, far below any curvature.

On a uniform background the entries that max-pooling compares are equal, and automatic differentiation may pick for each
comparison another side, which together are the derivative of nothing. Beside the image they are that of one region
which the image borders on. Short shifts into that region alone give the same Cramer-Rao bound, at the image itself.
"""


class ChannelMap:
    """What a stage makes of images, in float64: a map whose Jacobian G at an image gives its Fisher information G'G."""

    dtype = torch.float64

    def __init__(self, stage: FittedStage, subject: Subject) -> None:
        double = getattr(stage.mechanism, "double", None)
        self._mechanism: Any = stage.mechanism if double is None else double()
        self._model = subject.double_model if stage.at == "cut" else None
        shape, device = (1, *subject.model.input_shape), subject.activations.device
        zero = torch.zeros(shape, dtype=torch.float64, device=device)
        self._inputs = zero.numel()
        with torch.no_grad():
            self.entries = self.moments(zero).mean.shape[1]
        """Of what leaves, apart from those that are left out."""
        memory = search_memory(device)
        working = 8 * _WORKING * max(1, self.entries)
        self.max_items = max(1, min(memory // working, items_that_fit(self, zero, memory)))
        """Images at once."""

    def moments(self, x: Tensor) -> Moments:
        """Mean and standard deviation of what leaves, ``(n, d)`` float64 each, of normalised images ``(n, *input)``.

        Raises:
            ValueError: they are not numbers, or their shapes differ.
        """
        activations = x if self._model is None else self._model.features(x)
        mean, std = self._mechanism.moments(activations)
        mean, std = mean.flatten(1).double(), std.flatten(1).double()
        name = type(self._mechanism).__name__
        if mean.shape != std.shape:
            raise ValueError(
                f"moments of {name}: expected as many standard deviations as means, "
                f"got {tuple(std.shape)} and {tuple(mean.shape)}"
            )
        if not bool((mean.isfinite() & std.isfinite() & (std >= 0)).all()):
            raise ValueError(
                f"moments of {name}: expected finite means and finite standard deviations >= 0, got others: "
                "look whether its training diverged"
            )
        # a mean that is constant then has a derivative, which is zero
        return Moments(mean + 0 * x.flatten(1).sum(1, keepdim=True), std)

    def features(self, x: Tensor) -> Tensor:
        """Map images to ``(n, 2 d)``, to be differentiated only; see `fisher_map`.

        Inputs on which entries without noise depend count as known to the reader: their columns are zero.
        """
        moments = self.moments(x)
        if bool(moments.bare.any()):
            moments = self.moments(torch.where(self.known(x), x.detach(), x))
        return fisher_map(moments)

    def known(self, x: Tensor) -> Tensor:
        """Tell which entries of images ``(n, *input)`` those that leave without noise depend on, bool.

        A random sum of what leaves has a derivative of exactly 0 where it does not depend on an input; elsewhere with
        probability 0.
        """
        with torch.enable_grad():
            points = x.detach().requires_grad_()
            moments = self.moments(points)
            bare = moments.bare
            if not bool(bare.any()):
                return torch.zeros_like(x, dtype=torch.bool)
            weights = torch.randn(
                (2, bare.shape[1]), generator=torch.Generator().manual_seed(0), dtype=torch.float64
            ).to(x.device)
            told = torch.where(bare, weights[0] * moments.mean + weights[1] * moments.std, 0.0)
            (gradient,) = torch.autograd.grad(told.sum(), points)
        return gradient != 0

    def parts(self, positions: Sequence[int]) -> list[Sequence[int]]:
        """Cut the positions into chunks whose Jacobians fit together."""
        size = max(1, min(MAX_IMAGES, JACOBIANS // (16 * self._inputs * max(1, self.entries))))
        return [positions[start : start + size] for start in range(0, len(positions), size)]


@dataclass(frozen=True, kw_only=True)
class ChannelGeometry(Chunk):
    """Some images of one point."""

    channel: ChannelMap
    clean: Moments
    """``(n, d)`` each, float64."""
    known: Tensor
    """``(n, inputs)`` bool: what entries without noise depend on."""
    decomposed: Decomposed | None
    information: Tensor | None
    """``(n, draws)``: random numbers whose mean is the trace of the Fisher information at blurred images."""


@torch.no_grad()
def find_channel(
    options: Bounds, subject: Subject, point: FittedPoint, channel: ChannelMap, part: Sequence[int]
) -> ChannelGeometry:
    """Find what the bounds of one point need of the images at positions ``part``."""
    x = subject.activations.inputs(part).double()
    batches = torch.split(x, channel.max_items)
    moments = [channel.moments(batch) for batch in batches]
    clean = Moments(*(torch.cat(column) for column in zip(*moments, strict=True)))
    low, high = valid_box(subject)

    def noise(purpose: str, shape: Sequence[int], count: int, seed: int = point.seed) -> Tensor:
        return normal_draws(
            shape,
            seed=seed,
            purpose=f"bounds-{purpose}",
            image_indices=subject.image_indices(part),
            count=count,
            device=x.device,
        )

    beside = (
        x + _NUDGE * noise("nudge", x.shape[1:], 1, seed=0)[:, 0]
    )  # no bound without draws depends on a seed
    decomposed = _decomposed(options, subject, channel, part, beside)
    probe = Probe(
        model=channel,
        exact=channel,
        x=x,
        clean=fisher_map(clean),
        reference_std=1.0,  # distances are in units of the noise already
        step=options.step,
        count=options.directions,
        decompositions=lambda: [] if decomposed is None else decomposed.images,
        noise=lambda purpose, count: noise(purpose, (2 * channel.entries,), count),
        low=low,
        high=high,
        max_items=channel.max_items,
    )
    information = None
    if "van_trees" in options.bounds:
        shapes = {"prior": x.shape[1:], "signs": (channel.entries,), "signs-std": (channel.entries,)}
        draws = (noise(purpose, shape, options.prior_draws) for purpose, shape in shapes.items())
        information = _blurred(options, channel, x, *draws)
    return ChannelGeometry(
        positions=part,
        probe=probe,
        channel=channel,
        clean=clean,
        known=torch.cat([channel.known(batch) for batch in torch.split(beside, channel.max_items)]).flatten(
            1
        ),
        decomposed=decomposed,
        information=information,
    )


def _decomposed(
    options: Bounds, subject: Subject, channel: ChannelMap, part: Sequence[int], x: Tensor
) -> Decomposed | None:
    directions = "hcr" in options.bounds and "jacobian" in options.shifts
    if not directions and not {"cramer_rao", "dfil"} & set(options.bounds):
        return None

    def covariance() -> Tensor:
        raise AssertionError("the level of linear-Gaussian readers is not asked for")

    return Decomposed(
        replace(
            options,
            bounds=("cramer_rao", "hcr") if directions else ("cramer_rao",),
            shifts=("jacobian",) if directions else (),
        ),
        replace(subject, cache=None),  # a Jacobian under this noise serves one point, so it is not kept
        model=channel,
        part=part,
        x=x,
        noise_stds=(1.0,),
        covariance=covariance,
    )


def _blurred(
    options: Bounds, channel: ChannelMap, x: Tensor, blurs: Tensor, means: Tensor, sizes: Tensor
) -> Tensor:
    """Squared norms of G'u at blurred images for random signs u: their mean is that of tr G'G.

    Infinite where an entry leaves a blurred image without noise, and depends on it.
    """
    found = []
    for number in range(options.prior_draws):
        points = x + options.prior_std * blurs[:, number]
        signs = torch.where(torch.cat([means[:, number], sizes[:, number]], dim=1) > 0, 1.0, -1.0).double()
        squares = []
        for rows in torch.split(torch.arange(len(x), device=x.device), channel.max_items):
            told = channel.known(points[rows]).flatten(1).any(1)
            with torch.enable_grad():
                some = points[rows].requires_grad_()
                (product,) = torch.autograd.grad(channel.features(some), some, signs[rows])
            squares.append(torch.where(told, torch.inf, product.flatten(1).square().sum(1)))
        found.append(torch.cat(squares))
    return torch.stack(found, dim=1)
