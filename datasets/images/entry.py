"""One entry of the decoded cache, as written; ``ImageSet.open`` reads it."""

import json
import os
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hushsweep.datasets.images.base import (
    IMAGES_FILE,
    META_FILE,
    ROWS_FILE,
    DatasetError,
    DatasetInfo,
    ImageSet,
    Undecodable,
)
from hushsweep.datasets.images.decode import Decoded
from hushsweep.datasets.images.source import ImageSource


def write_entry(
    folder: Path,
    source: ImageSource,
    info: DatasetInfo,
    positions: NDArray[np.int64],
    images: Generator[Decoded, None, None],
    pixels: str,
) -> None:
    """Fill an empty folder, flushed to the disk, so that ``ImageSet.open`` can read it.

    Args:
        folder: Where to write.
        source: The opened data set.
        info: Its description.
        positions: Ascending positions of the images in the data set.
        images: What ``decode_all`` yields for them.
        pixels: What tells these images, at this geometry, from others whatever their labels.

    Raises:
        DatasetError: images of different sizes, or none decodable.
        OSError: the disk is full, ...
    """
    with closing(images), (folder / IMAGES_FILE).open("w+b") as file:
        decodable, undecodable = _write_images(file, source, info, positions, images)
        _sync_file(file)
    _write_rows(folder / ROWS_FILE, source, decodable)
    _write_meta(folder / META_FILE, info, undecodable, pixels)


def write_relabelled(
    folder: Path, source: ImageSource, info: DatasetInfo, positions: NDArray[np.int64], pixels: str
) -> bool:
    """Fill an empty folder from one beside it that holds the same images under other labels; False if none does.

    Args:
        folder: As for ``write_entry``, like all that follow.
        source: The opened data set.
        info: Its description.
        positions: Ascending positions of the images in the data set.
        pixels: What tells the images from others.
    """
    for meta in folder.parent.glob(f"*/{META_FILE}"):
        try:
            if json.loads(meta.read_bytes()).get("pixels") != pixels:
                continue
            other = ImageSet.open(meta.parent)
            os.link(meta.parent / IMAGES_FILE, folder / IMAGES_FILE)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException):
            continue  # damaged, deleted at this moment, or a file system without links
        decodable = positions[np.isin(source.index_of(positions), other.indices)]
        _write_rows(folder / ROWS_FILE, source, decodable)
        _write_meta(folder / META_FILE, info, list(other.undecodable), pixels)
        return True
    return False


def _write_meta(path: Path, info: DatasetInfo, undecodable: list[Undecodable], pixels: str) -> None:
    rows = [[u.index, u.image, u.reason] for u in undecodable]
    with path.open("wb") as file:
        file.write(json.dumps({"info": asdict(info), "undecodable": rows, "pixels": pixels}).encode())
        _sync_file(file)


def _write_images(
    file: BinaryIO,
    source: ImageSource,
    info: DatasetInfo,
    positions: NDArray[np.int64],
    images: Iterable[Decoded],
) -> tuple[NDArray[np.int64], list[Undecodable]]:
    """Write what could be decoded; returns its positions, and the images that could not."""
    place = f"{info.name}/{info.split}"
    writer = None
    decodable: list[int] = []
    undecodable: list[Undecodable] = []
    for position, decoded in zip(positions.tolist(), images, strict=True):
        if isinstance(decoded, str):
            index = int(source.index_of(np.array(position)))
            undecodable.append(Undecodable(index, source.name_of(position), decoded))
            continue
        writer = writer or _ArrayWriter(file, decoded.shape)
        if decoded.shape != writer.shape:
            raise DatasetError(
                f"{place}: images differ in size: '{source.name_of(position)}' is {_size(decoded.shape)}, "
                f"those before it {_size(writer.shape)}; give a size (dataset.input_size)"
            )
        writer.append(decoded)
        decodable.append(position)
    if writer is None:
        first = undecodable[0]
        raise DatasetError(
            f"{place}: none of {len(positions)} images can be decoded; the first, '{first.image}': "
            f"{first.reason}; check the files"
        )
    writer.finish()
    return np.array(decodable, np.int64), undecodable


class _ArrayWriter:
    """A .npy file that grows by one image at a time.

    It writes instead of mapping: a full disk is then an error, not the death of the process by SIGBUS.
    """

    def __init__(self, file: BinaryIO, shape: tuple[int, ...]) -> None:
        self.shape, self._file, self._count = shape, file, 0
        self._start = self._write_header()

    def append(self, image: NDArray[np.uint8]) -> None:
        self._file.write(image.tobytes())
        self._count += 1

    def finish(self) -> None:
        self._file.seek(0)
        assert self._write_header() == self._start, "numpy pads headers so that the first axis can grow"

    def _write_header(self) -> int:
        header = {"descr": "|u1", "fortran_order": False, "shape": (self._count, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self._file.tell()


def _write_rows(path: Path, source: ImageSource, positions: NDArray[np.int64]) -> None:
    columns = {
        "index": pa.array(source.index_of(positions)),
        "label": pa.array(source.labels[positions]),
        "name": pa.array([source.name_of(int(i)) for i in positions], pa.string()),
    }
    if source.secondary is not None:
        columns["secondary"] = pa.array(source.secondary[positions])
    table = pa.table(columns)
    with path.open("wb") as file:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        _sync_file(file)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]}"


def _sync_file(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
