"""Encoded images to 8-bit pixels."""

import contextlib
import io
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from hushsweep.datasets.heartbeat import beat
from hushsweep.datasets.images.base import DatasetError
from hushsweep.datasets.images.geometry import Geometry
from hushsweep.datasets.images.source import Content, ImageSource

# Part of the cache's key, beside Pillow's version: raise it whenever a decoded pixel changes.
DECODER_VERSION = 1
Decoded = NDArray[np.uint8] | str  # pixels, or why there are none

_BATCH = 16  # images per task: tiny ones would otherwise cost more in hand-over than in decoding
_In = TypeVar("_In")
_Out = TypeVar("_Out")


def decode(content: bytes | NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Decode one image upright, in the geometry's colours and size.

    Args:
        content: An encoded file, or pixels ``(height, width)`` or ``(height, width, 3)`` uint8.
        geometry: Colours, resize and crop.

    Returns:
        ``(channels, height, width)`` uint8.

    Raises:
        Exception: whatever Pillow raises on damaged files (OSError, SyntaxError, struct.error, ...).
    """
    if isinstance(content, np.ndarray):
        image = Image.fromarray(content)
    else:
        if not content:
            raise ValueError("the file is empty")
        image = Image.open(io.BytesIO(content))
        image.load()
        # A damaged EXIF block must not cost the image, whose pixels are whole: then it counts as upright.
        with contextlib.suppress(Exception):
            ImageOps.exif_transpose(image, in_place=True)
    pixels = np.asarray(geometry.apply(_convert(image, geometry.channels)))
    return pixels[None] if geometry.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _convert(image: Image.Image, channels: int) -> Image.Image:
    """To L or RGB as torchvision's loader does: transparency dropped, no colour management."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # Of 16 bits the high 8, as Pillow itself does for RGB; its conversion of greyscale clips at 255.
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} (32 bits) have no agreed black and white")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if channels == 1 and image.mode in ("1", "L", "LA", "La"):
        return image.convert("L")
    image = image.convert("RGB")
    return image if channels == 3 else image.convert("L")


def decode_all(
    source: ImageSource, positions: NDArray[np.int64], geometry: Geometry, threads: int
) -> Generator[Decoded, None, None]:
    """Decode many images in threads, a few at a time.

    Args:
        source: The opened data set.
        positions: Ascending positions.
        geometry: As for ``decode``.
        threads: Number of threads, >= 1.

    Yields:
        For each position, in order, the pixels, or the reason why there are none.

    Raises:
        DatasetError: a file cannot be read at all.
    """

    def work(batch: list[Content]) -> list[Decoded]:
        return [_decode_one(content, geometry) for content in _beating(batch)]

    contents = _beating(source.contents(positions))
    batches = iter(lambda: list(islice(contents, _BATCH)), [])
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for batch in _ordered(pool, work, batches, ahead=2 * threads):
                yield from batch
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _beating(items: Iterable[_In]) -> Iterator[_In]:
    """Say with every item that this process got on."""
    for item in items:
        beat()
        yield item


def _ordered(
    pool: ThreadPoolExecutor, work: Callable[[_In], _Out], items: Iterable[_In], *, ahead: int
) -> Iterator[_Out]:
    """``map`` that takes no more than a few items ahead."""
    pending: deque[Future[_Out]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _decode_one(content: Content, geometry: Geometry) -> Decoded:
    if content is None:
        return "no image in this row"
    try:
        return decode(_read(content) if isinstance(content, Path) else content, geometry)
    except (DatasetError, MemoryError):
        raise
    except UnidentifiedImageError:
        return "not an image file that Pillow knows"  # its own message holds an address, other in every run
    except Exception as error:  # Pillow raises many kinds on damaged files
        return f"{type(error).__name__}: {error}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        # Not the image's fault, and it may pass: so it must not go into the cache as undecodable.
        raise DatasetError(f"'{path}': cannot be read ({error.strerror}); mend it, then run again") from error
