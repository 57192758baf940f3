"""The decoded cache: every image decoded once per geometry, then memory-mapped by all who need it."""

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import PIL
import pyarrow as pa
from filelock import FileLock
from numpy.typing import NDArray

from hushsweep.datasets.images.base import (
    IMAGES_FILE,
    META_FILE,
    ROWS_FILE,
    DatasetConfig,
    DatasetError,
    DatasetInfo,
    ImageSet,
    Undecodable,
)
from hushsweep.datasets.images.decode import DECODER_VERSION, decode
from hushsweep.datasets.images.geometry import Geometry
from hushsweep.datasets.images.registry import describe_source, limited, open_source
from hushsweep.datasets.images.source import Content, ImageSource

_BATCH = 16  # images per task: tiny ones would otherwise cost more in hand-over than in decoding
_Decoded = NDArray[np.uint8] | str
_In, _Out = TypeVar("_In"), TypeVar("_Out")


def load_images(config: DatasetConfig, geometry: Geometry, *, cache_dir: Path, threads: int = 2) -> ImageSet:
    """Decode a data set, or map what an earlier call, here or in another process, has decoded.

    Memory does not grow with the number of images. Images that cannot be decoded are listed in
    ``ImageSet.undecodable``; the rest keep their place in ``ImageSet.indices``.

    Args:
        config: The data set.
        geometry: Colours and size of the result.
        cache_dir: Folder for decoded images; everything in it can be deleted at any time.
        threads: Decoding threads, >= 1.

    Returns:
        The decodable images.

    Raises:
        DatasetError: as ``describe_dataset``; images left with different sizes; none decodable; a file that cannot be read
            (as opposed to decoded: that may pass, so it is not cached); cache not writable or disk full.
    """
    source = open_source(config)
    info = describe_source(config, source)
    target = Path(cache_dir).absolute() / "images" / _key(info, geometry)
    if (found := _open(target)) is not None:
        return found
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if (found := _open(target)) is not None:
                return found
            _replace(target, lambda folder: _fill(folder, source, info, config, geometry, threads))
    except OSError as error:
        raise DatasetError(
            f"{info.name}/{info.split}: cannot write the decoded images to '{target.parent}' ({error.strerror or error}); "
            "free space there or choose another results folder"
        ) from error
    return ImageSet.open(target)


def _key(info: DatasetInfo, geometry: Geometry) -> str:
    identity = [asdict(info), asdict(geometry), DECODER_VERSION, PIL.__version__]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def _open(folder: Path) -> ImageSet | None:
    """An entry of the cache, or None where it is missing or damaged (say, half deleted)."""
    try:
        return ImageSet.open(folder)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None


def _replace(target: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder under a temporary name, then rename it; nobody ever sees a half-filled one."""
    folder = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed: we hold the lock
    folder.mkdir()
    try:
        fill(folder)
        _sync(folder)
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _fill(
    folder: Path,
    source: ImageSource,
    info: DatasetInfo,
    config: DatasetConfig,
    geometry: Geometry,
    threads: int,
) -> None:
    positions = limited(info.total, config.limit)
    decodable = np.zeros(len(positions), bool)
    undecodable: list[Undecodable] = []
    with ExitStack() as files:
        file = files.enter_context((folder / IMAGES_FILE).open("w+b"))
        writer = None
        stream = files.enter_context(closing(_decode_all(source, positions, geometry, threads)))
        for i, decoded in enumerate(stream):
            if isinstance(decoded, str):
                position = int(positions[i])
                undecodable.append(Undecodable(position, source.name_of(position), decoded))
                continue
            writer = writer or _ArrayWriter(file, decoded.shape)
            if decoded.shape != writer.shape:
                raise DatasetError(
                    f"{info.name}/{info.split}: images differ in size, {_size(decoded.shape)} for "
                    f"'{source.name_of(int(positions[i]))}' and {_size(writer.shape)} before it; give a size (dataset.input_size)"
                )
            writer.append(decoded)
            decodable[i] = True
        if writer is None:
            first = undecodable[0]
            raise DatasetError(
                f"{info.name}/{info.split}: none of {len(positions)} images can be decoded; the first, '{first.image}': "
                f"{first.reason}; check the files"
            )
        writer.finish()
        _sync_file(file)
    _write_rows(folder / ROWS_FILE, source, positions[decodable])
    meta = {"info": asdict(info), "undecodable": [[u.index, u.image, u.reason] for u in undecodable]}
    with (folder / META_FILE).open("wb") as file:
        file.write(json.dumps(meta).encode())
        _sync_file(file)


class _ArrayWriter:
    """A .npy file that grows by one image at a time; plain writes, since a full disk kills who writes to a map."""

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
        "index": pa.array(positions),
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


def _decode_all(
    source: ImageSource, positions: NDArray[np.int64], geometry: Geometry, threads: int
) -> Iterator[_Decoded]:
    """The decoded images in order, or for each that cannot be decoded the reason."""

    def work(batch: list[tuple[int, Content]]) -> list[_Decoded]:
        return [_decode_one(content, geometry, source.name_of, position) for position, content in batch]

    pairs = zip(positions.tolist(), source.contents(positions), strict=True)
    batches = iter(lambda: list(islice(pairs, _BATCH)), [])
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for batch in _ordered(pool, work, batches, ahead=2 * threads):
                yield from batch
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


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


def _decode_one(
    content: Content, geometry: Geometry, name_of: Callable[[int], str], position: int
) -> _Decoded:
    if content is None:
        return "no image in this row"
    if isinstance(content, Path):
        try:
            content = content.read_bytes()
        except OSError as error:
            raise DatasetError(
                f"'{content}': cannot be read ({error.strerror}); mend it, then run again"
            ) from error
    try:
        return decode(content, geometry)
    except Exception as error:  # Pillow raises many kinds on damaged files
        return f"{type(error).__name__}: {error}"


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]}"


def _sync_file(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
