"""What an attacker gets to see of images: the client's output, with new noise for every query."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor

from hushsweep.datasets.images import ImageSet
from hushsweep.workers.measures.base import FittedPoint, FittedStage, Subject
from hushsweep.workers.measures.leaving import leaving
from hushsweep.workers.mechanisms import AdditiveNoise, UnitNoise
from hushsweep.workers.noise import unit_noise

QueryNoise = Callable[[FittedStage, Sequence[int], int], UnitNoise]
"""Noise of a stage for a batch of some shape, by the number of the query."""
BLOCK = 128
"""Images that go through networks together outside of training: fixed, so that no rounding depends on shards."""
_KEPT_BYTES = 2**31
"""Clean activations up to this size are computed once, not once per epoch."""


class CleanImages:
    """Images as the first stage of a chain gets them: normalised, or run up to the cut if nothing acts before it."""

    def __init__(self, subject: Subject, images: ImageSet, *, at_cut: bool, keep: bool) -> None:
        self._subject, self._images, self._at_cut = subject, images, at_cut
        size = 4 * len(images) * prod(subject.model.feature_shape)
        self._keep = keep and at_cut and size <= _KEPT_BYTES

    def __len__(self) -> int:
        return len(self._images)

    def rows(self, rows: np.ndarray) -> Tensor:
        """``(n, *shape)`` float32 on the device, of the images at positions ``(n,)``."""
        return self._kept[torch.from_numpy(rows)] if self._keep else self._compute(rows)

    @cached_property
    def _kept(self) -> Tensor:
        shape = self._subject.model.feature_shape
        kept = torch.empty(len(self), *shape, device=self._subject.activations.device)
        for start in range(0, len(self), BLOCK):
            block = np.arange(start, min(start + BLOCK, len(self)))
            kept[start : start + BLOCK] = self._compute(block)
        return kept

    def _compute(self, rows: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(self._images.images[rows]))
        activations = self._subject.activations
        inputs = self._subject.model.normalise(pixels.to(activations.device))
        return activations.cut(inputs) if self._at_cut else inputs


@dataclass(frozen=True, kw_only=True)
class View:
    """How one attacker looks at what leaves.

    Attributes:
        subject: The client's network up to the cut.
        point: The mechanisms.
        queries: Outputs for the same image that are averaged.
        masked: Whether the client's mask comes along, as further channels.
        noise_factor: Standard deviation of `new_noise`.
    """

    subject: Subject
    point: FittedPoint
    queries: int = 1
    masked: bool = False
    noise_factor: float = 1.0

    @property
    def starts_at_cut(self) -> bool:
        """Whether all that happens to an image happens at the cut."""
        return self.point.leaves == "cut" and not any(stage.at == "input" for stage in self.point.stages)

    def clean(self, images: ImageSet, *, keep: bool) -> CleanImages:
        """Return images as `see` wants them; ``keep`` for those that are looked at in many epochs."""
        return CleanImages(self.subject, images, at_cut=self.starts_at_cut, keep=keep)

    @torch.no_grad()
    def see(self, clean: Tensor, noise: QueryNoise) -> Tensor:
        """Return what the attacker is given of ``clean`` images, ``(n, *shape)`` or ``(n, 2 channels, ...)``."""
        total, mask = self._query(clean, noise, 0)
        for query in range(1, self.queries):
            total = total + self._query(clean, noise, query)[0]
        seen = total / self.queries if self.queries > 1 else total
        return seen if mask is None else torch.cat([seen, mask], dim=1)

    def _query(self, clean: Tensor, noise: QueryNoise, query: int) -> tuple[Tensor, Tensor | None]:
        mask = None

        def noise_of(stage: FittedStage, values: Tensor) -> UnitNoise:
            nonlocal mask
            if self.masked and stage is self.point.stages[-1]:
                mask = stage.mechanism.mask(values)  # type: ignore[attr-defined]
            return noise(stage, values.shape, query)

        start: Callable[[Tensor], Tensor] = (
            (lambda a: a) if self.starts_at_cut else self.subject.activations.cut
        )
        return leaving(self.point, clean, features=start, noise_of=noise_of), mask

    def in_training(self, clean: Tensor) -> "View":
        """Return a view of the same distribution that may take less work, for `new_noise`.

        Where what leaves is affine in Gaussian noise, the mean of k answers is one answer with noise of standard
        deviation 1/sqrt(k). Whether it is so is tried on some ``clean`` images.
        """
        if self.queries > 1 and self._is_affine(clean):
            return replace(self, queries=1, noise_factor=self.queries**-0.5)
        return self

    @torch.no_grad()
    def _is_affine(self, clean: Tensor) -> bool:
        drawn = dict[str, Tensor]()
        laws = set[str]()

        def answer(factor: float) -> Tensor:
            def noise(stage: FittedStage, shape: Sequence[int], query: int) -> UnitNoise:
                def draw(law: str) -> Tensor:
                    laws.add(law)
                    if stage.purpose not in drawn:
                        drawn[stage.purpose] = torch.randn(tuple(shape), device=clean.device)
                    return factor * drawn[stage.purpose]

                return draw

            return self._query(clean, noise, 0)[0]

        with torch.random.fork_rng():
            torch.manual_seed(0)
            none, once, back, far = (answer(factor) for factor in (0.0, 1.0, -1.0, 3.0))
        step = once - none
        bent = torch.stack([back - none + step, far - none - 3 * step]).abs().max()
        scale = torch.stack([none, step]).abs().max()
        return laws <= {"gaussian"} and bool(bent <= 1e-4 * scale)

    def new_noise(self, stage: FittedStage, shape: Sequence[int], query: int) -> UnitNoise:
        """Noise from torch's global generator: another for every batch and epoch."""
        drawn = dict[str, Tensor]()

        def draw(law: str) -> Tensor:
            if law not in drawn:
                noise = batch_noise(law, shape, self.subject.activations.device)
                drawn[law] = noise if self.noise_factor == 1 else noise.mul_(self.noise_factor)
            return drawn[law]

        return draw

    def counted_noise(self, indices: Sequence[int], draw: int) -> QueryNoise:
        """Noise of the evaluation: for every image the same in whatever company, as for all other measures."""

        def of(stage: FittedStage, shape: Sequence[int], query: int) -> UnitNoise:
            return lambda law: unit_noise(
                law,
                tuple(shape[1:]),
                seed=self.point.seed,
                purpose=stage.purpose,
                image_indices=indices,
                draw=draw * self.queries + query,
                device=self.subject.activations.device,
            )

        return of


def why_no_mask(point: FittedPoint) -> str | None:
    """Say why nobody can be given a mask of this point, or None."""
    if not point.stages or not hasattr(point.stages[-1].mechanism, "mask"):
        return (
            "the mechanism has no mask that differs between images; noise that is the same for all images is known "
            "to whoever trains on it, as the attackers single and average do"
        )
    if point.stages[-1].at != point.leaves:
        return "the mask belongs to the input, but what leaves are activations at the cut"
    return None


def rounded(point: FittedPoint) -> FittedPoint:
    """Return a point whose additive noise has four significant digits: what attackers are trained on.

    Noise relative to the activations' root mean square has last digits that depend on the batch size with which that
    was computed. In a test they are rounding; in a training they would grow into another attacker.
    """
    stages = [
        replace(
            stage, mechanism=replace(stage.mechanism, noise_std=float(f"{stage.mechanism.noise_std:.4g}"))
        )
        if isinstance(stage.mechanism, AdditiveNoise)
        else stage
        for stage in point.stages
    ]
    return replace(point, stages=tuple(stages))


def is_noiseless(point: FittedPoint) -> bool:
    """Tell whether asking twice gives the same answer."""
    return all(getattr(stage.mechanism, "noise_std", None) == 0 for stage in point.stages)


def batch_noise(law: str, shape: Sequence[int], device: torch.device) -> Tensor:
    """Draw noise of standard deviation 1 for a whole batch at once from torch's global generator.

    Raises:
        ValueError: unknown law.
    """
    if law == "gaussian":
        return torch.randn(tuple(shape), device=device)
    if law == "laplace":
        # the difference of two standard exponentials is Laplace with scale 1, whose variance is 2
        first, second = (torch.empty(tuple(shape), device=device).exponential_() for _ in range(2))
        return first.sub_(second).mul_(2**-0.5)
    raise ValueError(f"unknown noise law {law!r}; known: gaussian, laplace")
