"""Activations of the clean images, computed once: in blocks, cached by content, shared by levels, seeds and shards.

A block holds ``BLOCK`` consecutive images whatever the batch size or the number of shards, so that any way of cutting
the work meets the same files. A trial that needs the RMS of all images fills its own blocks first and then takes over
those that nobody is working on; a lock per block keeps two workers from doing the same one. What the RMS needs of a
block, a number per image, all nodes share; its activations may lie on the disk of the node that computed them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from filelock import Timeout
from torch import Tensor

from hushsweep.datasets.heartbeat import locked
from hushsweep.datasets.images import ImageSet
from hushsweep.datasets.results.files import kept, write_atomically
from hushsweep.workers.memory import BatchLimit
from hushsweep.workers.models import SplitModel

BLOCK = 1024


@dataclass(frozen=True)
class ActivationBatch:
    """Consecutive images of an image set."""

    positions: range
    """Places in the image set."""
    activations: Tensor
    """``(n, *feature)`` at the cut, or ``(n, classes)`` logits, float32, on the device."""

    def of(self, positions: range) -> "ActivationBatch":
        """Return the part of it at these positions."""
        first = positions.start - self.positions.start
        return ActivationBatch(positions, self.activations[first : first + len(positions)])


@dataclass(frozen=True, kw_only=True)
class Activations:
    """The clean activations of an image set at the cut of a model, or its logits.

    Logits take the place of activations where the head is linear and all noise is added at the cut: the noise can then
    be pushed through the head on its own, and nothing else of the activations is needed.
    """

    model: SplitModel
    images: ImageSet
    logits: bool
    device: torch.device
    batch_size: int
    precision: str = "float32"
    folder: Path | None = None
    """Where blocks are kept; None keeps nothing."""
    values_folder: Path | None = None
    """Where their activations are kept, which are large, if that is another folder: on this node's own disk."""
    cache_bytes: float = 0
    """Activations larger than this in all are computed anew for every pass; their squares are kept anyway."""
    progress: Callable[[int], None] = field(default=lambda images: None)
    """Told the number of images each time a batch went through the network."""
    limit: BatchLimit = field(default_factory=BatchLimit)
    """Makes batches smaller that do not fit into memory; those of a trial share one."""

    def rms(self, first: range) -> float:
        """Root mean square over all images and entries of the activations at the cut, mean not removed.

        Args:
            first: positions that this worker will need itself; their blocks are computed before all others.

        Raises:
            ValueError: an activation is not finite.
        """
        own = [block for block in self._blocks() if first.start < block.stop and block.start < first.stop]
        sums = dict[int, np.ndarray]()
        for wait in (
            False,
            True,
        ):  # a block that another worker is at is waited for only when nothing else is left
            for block in [*own, *self._blocks()]:
                if block.start not in sums:
                    found = self._squares(block, wait=wait)
                    if found is not None:
                        sums[block.start] = found
        squares = np.concatenate([sums[block.start] for block in self._blocks()])
        if not np.isfinite(squares).all():
            bad = self.images.names[int(np.flatnonzero(~np.isfinite(squares))[0])]
            raise ValueError(f"the activations of image {bad!r} at the cut are not finite")
        return float(np.sqrt(squares.sum() / (len(squares) * int(np.prod(self.model.feature_shape)))))

    def batches(self, positions: range) -> Iterator[ActivationBatch]:
        """Yield the activations of ``positions`` in order, from the cache where they are there."""
        for block in self._blocks():
            inside = range(max(block.start, positions.start), min(block.stop, positions.stop))
            if not inside:
                continue
            if self._keeps:
                self._squares(block, wait=True, values=True)
            for part in _split(inside, self.batch_size):
                for piece, values in self.limit.pieces(part, partial(self._activations, block)):
                    yield ActivationBatch(piece, values)

    def inputs(self, positions: Sequence[int]) -> Tensor:
        """Return the normalised network inputs of ``positions``, ``(n, channels, height, width)`` float32."""
        pixels = torch.from_numpy(np.array(self.images.images[np.asarray(positions, dtype=np.int64)]))
        return self.model.normalise(pixels.to(self.device))

    def cut(self, inputs: Tensor) -> Tensor:
        """Run the network up to the cut at the point's precision; the result is float32."""
        lower = (
            torch.autocast(self.device.type, dtype=torch.bfloat16)
            if self.precision == "bfloat16"
            else nullcontext()
        )
        with torch.inference_mode(), lower:
            activations = self.model.features(inputs)
        self.progress(len(inputs))
        return activations.float()

    @torch.inference_mode()
    def compute(self, positions: range) -> tuple[Tensor, np.ndarray]:
        """Return activations (or logits) of ``positions`` and each image's sum of squares at the cut, float64."""
        features = self.cut(self.inputs(positions))
        squares = torch.linalg.vector_norm(features.flatten(1), dim=1, dtype=torch.float64).square()
        return (self.model.head(features) if self.logits else features), squares.cpu().numpy()

    def _computed(self, block: range) -> Iterator[tuple[Tensor, np.ndarray]]:
        """Batch by batch what :meth:`compute` returns."""
        for part in _split(block, self.batch_size):
            for _, found in self.limit.pieces(part, self.compute):
                yield found

    def _activations(self, block: range, part: range) -> Tensor:
        """Activations of a part of a block, from the cache where they are there."""
        stored = self._read(block, part) if self._keeps else None
        return self.compute(part)[0] if stored is None else stored

    @property
    def _keeps(self) -> bool:
        return self.folder is not None and len(self.images) * self._image_bytes <= self.cache_bytes

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.model.num_classes,) if self.logits else tuple(self.model.feature_shape)

    @property
    def _image_bytes(self) -> int:
        return 4 * int(np.prod(self._shape))

    def _blocks(self) -> list[range]:
        return _split(range(len(self.images)), BLOCK)

    def _squares(self, block: range, *, wait: bool, values: bool = False) -> np.ndarray | None:
        """Return the block's sums of squares, computing and keeping the block if it is new; None if it is busy.

        With ``values`` its activations have to be on this node as well.
        """
        if self.folder is None:
            return np.concatenate([sums for _, sums in self._computed(block)])
        target = self.folder / f"{block.start:09d}.squares.npy"
        if not self._is_kept(block, target, values):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with locked(target.with_suffix(".lock"), wait=wait):
                    if not self._is_kept(block, target, values):
                        self._fill(block, target)
            except Timeout:
                return None
        found: np.ndarray = np.load(target, allow_pickle=False)
        return found

    def _is_kept(self, block: range, target: Path, values: bool) -> bool:
        return kept(target) and not (values and self._keeps and not self._values(block).exists())

    def _fill(self, block: range, target: Path) -> None:
        squares = list[np.ndarray]()

        def compute(stream: BinaryIO | None) -> None:
            for activations, sums in self._computed(block):
                squares.append(sums)
                if stream is not None:
                    stream.write(activations.contiguous().cpu().numpy().tobytes())

        if self._keeps:
            write_atomically(self._values(block), compute)
        else:
            compute(None)
        # the squares are written last: they say that the block is complete
        write_atomically(target, lambda stream: np.save(stream, np.concatenate(squares)))

    def _read(self, block: range, part: range) -> Tensor | None:
        """Read a slice by file calls, not by a memory map: resident memory then does not grow with the images."""
        try:
            with self._values(block).open("rb") as file:
                file.seek((part.start - block.start) * self._image_bytes)
                values = np.fromfile(file, dtype=np.float32, count=len(part) * int(np.prod(self._shape)))
        except FileNotFoundError:
            return None  # the cache may be deleted at any time
        return torch.from_numpy(values).reshape(len(part), *self._shape).to(self.device)

    def _values(self, block: range) -> Path:
        folder = self.values_folder or self.folder
        assert folder is not None
        return folder / f"{block.start:09d}.f32"


def shard_range(size: int, shard: int, shards: int) -> range:
    """Return the positions of one of ``shards`` nearly equal parts of ``size`` images."""
    return range(size * shard // shards, size * (shard + 1) // shards)


def _split(positions: range, size: int) -> list[range]:
    return [
        range(start, min(start + size, positions.stop))
        for start in range(positions.start, positions.stop, size)
    ]
