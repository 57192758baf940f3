"""What a point's last mechanism is given and what leaves, for estimates that look at many images at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hushsweep.workers.measures.base import FittedPoint, FittedStage, Subject
from hushsweep.workers.measures.leaving import leaving
from hushsweep.workers.mechanisms import AdditiveNoise, Unchanged, UnitNoise
from hushsweep.workers.noise import unit_noise


class Left(NamedTuple):
    """What left for some images, and whether any noise was drawn for it."""

    values: Tensor
    """``(n, d)`` float32."""
    noisy: bool


def active_stages(point: FittedPoint) -> tuple[FittedStage, ...]:
    """Stages of a chain that change anything."""
    return tuple(stage for stage in point.stages if not _idle(stage.mechanism))


def _idle(mechanism: Any) -> bool:
    return isinstance(mechanism, Unchanged) or (
        isinstance(mechanism, AdditiveNoise) and mechanism.noise_std == 0
    )


class Channels:
    """Runs the images of a trial to where mechanisms act; what all points share is computed once."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._clean = dict[tuple[str, tuple[int, ...]], Tensor]()

    def clean(self, at: str, positions: Sequence[int]) -> Tensor:
        """Normalised inputs or activations at the cut, ``(n, *shape)`` float32."""
        key = (at, tuple(positions))
        if key not in self._clean:
            activations = self._subject.activations
            inputs = (activations.inputs(part) for part in self._parts(positions))
            self._clean[key] = torch.cat([x if at == "input" else activations.cut(x) for x in inputs])
        return self._clean[key]

    def entries(self, at: str) -> int:
        """Entries of one image there."""
        model = self._subject.model
        return int(torch.Size(model.input_shape if at == "input" else model.feature_shape).numel())

    @torch.inference_mode()
    def moments(self, stage: FittedStage, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of what leaves a mechanism that has them, ``(n, d)`` float64 each."""
        mechanism: Any = stage.mechanism
        exact = mechanism.double() if hasattr(mechanism, "double") else mechanism
        clean, size = self.clean(stage.at, positions), self._subject.activations.batch_size
        found = [exact.moments(clean[start : start + size].double()) for start in range(0, len(clean), size)]
        mean, std = (torch.cat([pair[row].flatten(1) for pair in found]) for row in (0, 1))
        return mean.double(), std.double()

    @torch.inference_mode()
    def leaves(self, point: FittedPoint, positions: Sequence[int]) -> Left:
        """Send images through the whole chain, with the noise of the first draw of the evaluation."""
        active = replace(point, stages=active_stages(point))
        start, asked, found = active.stages[0].at, list[str](), list[Tensor]()
        clean, cut = self.clean(start, positions), self._subject.activations.cut
        for part in self._parts(range(len(positions))):
            values = clean[part[0] : part[-1] + 1]
            noise_of = self._noise(point.seed, [positions[row] for row in part], asked)
            left = leaving(active, values, features=_same if start == "cut" else cut, noise_of=noise_of)
            found.append(left.flatten(1).float())
        return Left(torch.cat(found), bool(asked))

    def _noise(
        self, seed: int, positions: Sequence[int], asked: list[str]
    ) -> Callable[[FittedStage, Tensor], UnitNoise]:
        """Give the first draw of the evaluation noise, and note which laws were asked for."""
        indices = self._subject.image_indices(positions)

        def noise_of(stage: FittedStage, values: Tensor) -> UnitNoise:
            def draw(law: str) -> Tensor:
                asked.append(law)
                return unit_noise(
                    law,
                    tuple(values.shape[1:]),
                    seed=seed,
                    purpose=stage.purpose,
                    image_indices=indices,
                    draw=0,
                    device=values.device,
                )

            return draw

        return noise_of

    def _parts(self, positions: Sequence[int]) -> list[Sequence[int]]:
        size = self._subject.activations.batch_size
        return [positions[start : start + size] for start in range(0, len(positions), size)]


def _same(values: Tensor) -> Tensor:
    """Stand for the network up to the cut where the values are its features already."""
    return values
