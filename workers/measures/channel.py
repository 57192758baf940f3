"""What a point's last mechanism is given and what leaves, for estimates that look at many images at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from hushsweep.workers.measures.base import FittedPoint, FittedStage, Subject
from hushsweep.workers.measures.leaving import leaving
from hushsweep.workers.mechanisms import AdditiveNoise, Unchanged, UnitNoise
from hushsweep.workers.noise import unit_noise

_Found = TypeVar("_Found")


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

            def compute(part: Sequence[int]) -> Tensor:
                inputs = activations.inputs(part)
                return inputs if at == "input" else activations.cut(inputs)

            self._clean[key] = torch.cat(list(self._in_batches(positions, compute)))
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
        clean = self.clean(stage.at, positions)

        def compute(rows: Sequence[int]) -> tuple[Tensor, Tensor]:
            moments: tuple[Tensor, Tensor] = exact.moments(clean[rows[0] : rows[-1] + 1].double())
            return moments

        found = list(self._in_batches(range(len(clean)), compute))
        mean, std = (torch.cat([pair[row].flatten(1) for pair in found]) for row in (0, 1))
        return mean.double(), std.double()

    @torch.inference_mode()
    def leaves(self, point: FittedPoint, positions: Sequence[int]) -> Left:
        """Send images through the whole chain, with the noise of the first draw of the evaluation."""
        active = replace(point, stages=active_stages(point))
        start, asked = active.stages[0].at, list[str]()
        clean, cut = self.clean(start, positions), self._subject.activations.cut

        def compute(rows: Sequence[int]) -> Tensor:
            values = clean[rows[0] : rows[-1] + 1]
            noise_of = self._noise(point.seed, [positions[row] for row in rows], asked)
            left = leaving(active, values, features=_same if start == "cut" else cut, noise_of=noise_of)
            return left.flatten(1).float()

        return Left(torch.cat(list(self._in_batches(range(len(positions)), compute))), bool(asked))

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

    def _in_batches(
        self, positions: Sequence[int], compute: Callable[[Sequence[int]], _Found]
    ) -> Iterator[_Found]:
        """Compute batch by batch, in smaller ones where memory is lacking."""
        size, limit = self._subject.activations.batch_size, self._subject.activations.limit
        for start in range(0, len(positions), size):
            for _, found in limit.pieces(positions[start : start + size], compute):
                yield found


def _same(values: Tensor) -> Tensor:
    """Stand for the network up to the cut where the values are its features already."""
    return values
