"""What a loader returns: an opened data set of which nothing is decoded yet."""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# An encoded file, a path to one, pixels (height, width) or (height, width, 3), or None for a missing value.
Content = bytes | Path | NDArray[np.uint8] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSource:
    """An opened data set; the return value of every loader, in this package or outside it.

    Attributes:
        split: Name of the split that was opened.
        fingerprint: See DatasetInfo.
        labels: ``(total,)`` int64, >= 0.
        contents: Given ascending positions, yields one content for each, in order, reading as it goes.
        name_of: Name of the image at a position.
        classes: Number of classes.
        channels: 1 or 3.
        height: Pixels, where fixed by definition of the data set.
        width: As ``height``.
        mean: Usual normalisation, pixels 0..1.
        std: As ``mean``.
        class_names: By label.
        secondary: ``(total,)`` int64, labels of a second task.
        secondary_classes: Number of its classes. None: the largest of its labels + 1.
        secondary_names: By secondary label.
        task: Name of the task that gave the labels; set by ``datasets.tasks``, not by loaders.
        indices: ``(total,)`` int64, ascending, position of each image in the full split; set by ``datasets.tasks``
            where this is a part of it. None: all of it.
        pixels: Identity of the images whatever their labels. None: ``fingerprint`` stands for them, too.
    """

    split: str
    fingerprint: str
    labels: NDArray[np.int64]
    contents: Callable[[NDArray[np.int64]], Iterator[Content]]
    name_of: Callable[[int], str]
    classes: int
    channels: int
    height: int | None = None
    width: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: tuple[str, ...] | None = None
    secondary: NDArray[np.int64] | None = None
    secondary_classes: int | None = None
    secondary_names: tuple[str, ...] | None = None
    task: str | None = None
    indices: NDArray[np.int64] | None = None
    pixels: str | None = None

    def index_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions in the full split of images at positions in this part."""
        return positions if self.indices is None else self.indices[positions]


def pixels_of(name: str, source: ImageSource) -> str:
    """Identity of the images of a data set, the same under all labels where the loader can tell."""
    return source.pixels or digest([name.encode(), source.split.encode(), source.fingerprint.encode()])


def from_array(images: NDArray[np.uint8]) -> Callable[[NDArray[np.int64]], Iterator[Content]]:
    """Contents of ``(total, height, width[, 3])`` uint8 pixels in memory."""
    return lambda positions: (images[i] for i in positions)


def numbered(split: str) -> Callable[[int], str]:
    """Names of images that have none: split and position, ``test/00017``."""
    return lambda position: f"{split}/{position:05d}"


def digest(parts: Iterable[bytes | memoryview]) -> str:
    """SHA-256 (hex) of the parts, each preceded by its length so that no two lists collide."""
    total = hashlib.sha256()
    for part in parts:
        total.update(memoryview(part).nbytes.to_bytes(8, "big"))
        total.update(part)
    return total.hexdigest()


def array_bytes(array: NDArray[np.generic]) -> memoryview:
    """The bytes of an array, row by row, without a copy where it is contiguous."""
    return np.ascontiguousarray(array).data.cast("B")


def probe(contents: Iterable[Content]) -> set[tuple[int, tuple[int, int]]]:
    """(Channels, (height, width)) that the headers of encoded images declare; damaged ones do not count."""
    found = set()
    for content in contents:
        try:
            with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:  # type: ignore[arg-type]
                grey = image.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "F")
                found.add((1 if grey else 3, (image.height, image.width)))
        except Exception:  # noqa: S112  (Pillow raises many kinds; the decoder reports them by name later)
            continue
    return found
