"""Top-1 and top-5 accuracy, clean and with the mechanism, over repeated draws of its noise."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from hushsweep.workers.features import ActivationBatch
from hushsweep.workers.measures.base import FittedPoint, FittedStage, MeasureRows, Statistic, Subject
from hushsweep.workers.noise import unit_noise

TOP = 5
_CHUNK = 2**24
"""Logits held at once where many levels are compared together: 64 MiB."""


@dataclass(frozen=True)
class Hits:
    """Counts per point and image; ``(points, images)`` int32, ``(images,)`` for the clean network."""

    top1: np.ndarray
    top5: np.ndarray
    clean_top1: np.ndarray
    clean_top5: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Fraction of images whose label is the network's first choice, or among its first five."""

    VERSION: ClassVar[int] = 1

    draws: int = field(default=1, metadata={"ge": 1})
    """Repetitions of the noise per image."""

    def inapplicable(self, point: FittedPoint) -> str | None:
        """Every chain has an accuracy."""
        return None

    def measure(self, subject: Subject, points: Sequence[FittedPoint]) -> MeasureRows:
        """Count hits of every point on every image of the shard."""
        hits = count_hits(subject, points, draws=self.draws)
        return MeasureRows(
            per_image=(self._rows(subject, point, hits, row) for row, point in enumerate(points))
        )

    def _rows(self, subject: Subject, point: FittedPoint, hits: Hits, row: int) -> pa.Table:
        images = subject.activations.images
        chosen = np.array([p for p in subject.positions if point.reports(p)], dtype=np.int64)
        inside = chosen - subject.positions.start
        return pa.table(
            {
                "point_id": pa.repeat(point.point_id, len(chosen)),
                "image_index": images.indices[chosen],
                "image": pa.array([images.names[position] for position in chosen], pa.string()),
                "label": images.labels[chosen],
                "draws": np.full(len(chosen), self.draws, np.int32),
                "clean_top1": hits.clean_top1[inside],
                "clean_top5": hits.clean_top5[inside],
                "hits_top1": hits.top1[row][inside],
                "hits_top5": hits.top5[row][inside],
                "status": pa.repeat("complete", len(chosen)),
            }
        )

    def summarise(self, per_image: pa.Table) -> Sequence[Statistic]:
        """Means over images; the standard error is that of the images' mean hit rates, so it covers the draws."""
        complete = per_image.filter(pc.equal(per_image["status"], "complete"))
        columns = {"clean_top1": None, "clean_top5": None, "hits_top1": "top1", "hits_top5": "top5"}
        statistics = []
        for column, name in columns.items():
            rate = complete[column].to_numpy().astype(np.float64)
            if name is not None:
                rate = rate / complete["draws"].to_numpy()
            statistics.append(mean_statistic(name or column, rate, "fraction"))
        failed = per_image.filter(pc.equal(per_image["status"], "failed"))
        listed = [f"{row['image']}: {row['reason']}" for row in failed.slice(0, 5).to_pylist()]
        more = f" and {failed.num_rows - 5} more" if failed.num_rows > len(listed) else ""
        reason = "; ".join(listed) + more if listed else None
        return [
            *statistics,
            Statistic("undecodable", failed.num_rows, "images", per_image.num_rows, None, reason),
        ]


def mean_statistic(name: str, values: np.ndarray, unit: str) -> Statistic:
    """Return the mean over images with its standard error (none for a single image).

    Raises:
        ValueError: there is no image.
    """
    if not len(values):
        raise ValueError("no decodable image is left to measure on")
    stderr = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return Statistic(name, float(values.mean()), unit, len(values), stderr)


def count_hits(subject: Subject, points: Sequence[FittedPoint], *, draws: int, stream: str = "") -> Hits:
    """Count, per point and image, the draws in which the label came first or among the first five.

    Points share everything up to the last step: clean activations, each draw's unit noise (the same for every level:
    common random numbers) and, where the head is linear, the noise's image in logit space.

    Args:
        subject: model, images and their activations.
        points: what to measure.
        draws: repetitions of the noise.
        stream: distinguishes the noise of a calibration from that of the reported numbers.
    """
    size = len(subject.positions)
    hits = np.zeros((2, len(points), size), dtype=np.int32)
    clean = np.zeros((2, size), dtype=np.int32)
    start = subject.positions.start
    for batch in subject.activations.batches(subject.positions):
        count = partial(_count_batch, subject, points, batch, draws=draws, stream=stream)
        for piece, found in subject.activations.limit.pieces(batch.positions, count):
            columns = slice(piece.start - start, piece.stop - start)
            clean[:, columns], hits[:, :, columns] = found
    return Hits(top1=hits[0], top5=hits[1], clean_top1=clean[0], clean_top5=clean[1])


@torch.inference_mode()
def _count_batch(
    subject: Subject,
    points: Sequence[FittedPoint],
    batch: ActivationBatch,
    positions: range,
    *,
    draws: int,
    stream: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Hits of some images of a batch, ``(2, images)`` of the clean network and ``(2, points, images)``."""
    counter = _BatchCounter(subject, batch.of(positions), stream)
    hits = np.zeros((2, len(points), len(positions)), dtype=np.int32)
    for draw in range(draws):
        for rows, found in counter.noisy(points, draw):
            hits[:, rows] += found
    return counter.clean(), hits


class _BatchCounter:
    """Hits of one batch of images under every point."""

    def __init__(self, subject: Subject, batch: ActivationBatch, stream: str) -> None:
        images = subject.activations.images
        self._subject, self._batch, self._stream = subject, batch, stream
        chosen = slice(batch.positions.start, batch.positions.stop)
        self._labels = torch.from_numpy(np.array(images.labels[chosen])).to(batch.activations.device)
        self._indices = [int(index) for index in images.indices[chosen]]
        logits = subject.activations.logits
        self._logits = batch.activations if logits else subject.model.head(batch.activations)

    def clean(self) -> np.ndarray:
        """``(2, images)``: top-1 and top-5 of the clean network, 0 or 1."""
        return hits_of(self._logits, self._labels)

    def noisy(self, points: Sequence[FittedPoint], draw: int) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield rows of points with their ``(2, rows, images)`` hits in one draw."""
        linear = self._subject.activations.logits
        together = dict[tuple[int, str, str], list[int]]()
        alone = []
        for row, point in enumerate(points):
            noise = point.cut_noise
            if linear and noise is not None:
                together.setdefault((point.seed, point.stages[0].purpose, noise.law), []).append(row)
            else:
                alone.append(row)
        for (seed, purpose, law), rows in together.items():
            yield from self._linear(
                points, rows, self._noise(seed, purpose, draw, self._subject.model.feature_shape)(law)
            )
        memory = dict[tuple[int, str, str], Tensor]()
        inputs = dict[tuple[int, tuple[FittedStage, ...]], Tensor]()
        seed, before = -1, None
        for row in sorted(alone, key=lambda row: (points[row].seed, repr(_input_stages(points[row])))):
            # only what the next point shares is kept, so that memory does not grow with the number of points
            if points[row].seed != seed:
                memory.clear()
            if (points[row].seed, _input_stages(points[row])) != (seed, before):
                inputs.clear()
            seed, before = points[row].seed, _input_stages(points[row])
            logits = self._chain(points[row], draw, memory, inputs)
            yield [row], hits_of(logits, self._labels)[:, None]

    def _linear(
        self, points: Sequence[FittedPoint], rows: list[int], noise: Tensor
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """A head that is affine in the features turns a + sigma v into logits(a) + sigma (head(v) - head(0))."""
        head = self._subject.model.head
        offset = head(torch.zeros_like(noise[:1]))
        pushed = head(noise) - offset
        for part in _parts(rows, max(1, _CHUNK // max(1, pushed.numel()))):
            noises = [points[row].cut_noise for row in part]
            std = torch.tensor([n.noise_std for n in noises if n], dtype=torch.float32, device=pushed.device)
            yield part, hits_of(self._logits + std[:, None, None] * pushed, self._labels)

    def _chain(
        self,
        point: FittedPoint,
        draw: int,
        memory: dict[tuple[int, str, str], Tensor],
        inputs: dict[tuple[int, tuple[FittedStage, ...]], Tensor],
    ) -> Tensor:
        """Run a whole chain; what acts on the input is shared by all points that begin alike."""
        before = _input_stages(point)
        activations = self._subject.activations
        if not before and len(point.stages) == 0:
            return self._logits
        if before:
            if (point.seed, before) not in inputs:
                x = activations.inputs(self._batch.positions)
                inputs[point.seed, before] = activations.cut(self._apply(before, x, point, draw, memory))
            a = inputs[point.seed, before]
        else:
            a = self._batch.activations
        a = self._apply(tuple(s for s in point.stages if s.at == "cut"), a, point, draw, memory)
        return self._subject.model.head(a)

    def _apply(
        self,
        stages: tuple[FittedStage, ...],
        values: Tensor,
        point: FittedPoint,
        draw: int,
        memory: dict[tuple[int, str, str], Tensor],
    ) -> Tensor:
        for stage in stages:
            draw_noise = self._noise(point.seed, stage.purpose, draw, values.shape[1:])

            def remembered(
                law: str, draw_noise: Callable[[str], Tensor] = draw_noise, stage: FittedStage = stage
            ) -> Tensor:
                key = (point.seed, stage.purpose, law)
                if key not in memory:
                    memory[key] = draw_noise(law)
                return memory[key]

            values = stage.mechanism.apply(values, remembered)
        return values

    def _noise(self, seed: int, purpose: str, draw: int, shape: Sequence[int]) -> Callable[[str], Tensor]:
        return lambda law: unit_noise(
            law,
            tuple(shape),
            seed=seed,
            purpose=self._stream + purpose,
            image_indices=self._indices,
            draw=draw,
            device=self._logits.device,
        )


def _input_stages(point: FittedPoint) -> tuple[FittedStage, ...]:
    return tuple(stage for stage in point.stages if stage.at == "input")


def hits_of(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Tell whether the label comes first, and among the first five; equal logits rank by class number.

    Args:
        logits: ``(..., images, classes)``.
        labels: ``(images,)``.

    Returns:
        ``(2, ..., images)`` int32, 0 or 1. A label whose logit is not finite is a miss.
    """
    chosen = labels.expand(logits.shape[:-1]).unsqueeze(-1)
    target = logits.gather(-1, chosen)
    lower = torch.arange(logits.shape[-1], device=logits.device) < chosen
    rank = ((logits > target) | ((logits == target) & lower)).sum(-1)
    finite = target.isfinite().squeeze(-1)
    return torch.stack([(rank < 1) & finite, (rank < TOP) & finite]).int().cpu().numpy()


def _parts(rows: list[int], size: int) -> list[list[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
