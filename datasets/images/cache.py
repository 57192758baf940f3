"""The decoded cache: every image decoded once per geometry, then memory-mapped by all who need it."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import PIL
import pyarrow as pa
from numpy.typing import NDArray

from hushsweep.datasets.heartbeat import locked
from hushsweep.datasets.images.base import DatasetConfig, DatasetError, DatasetInfo, ImageSet
from hushsweep.datasets.images.decode import DECODER_VERSION, decode_all
from hushsweep.datasets.images.entry import write_entry, write_relabelled
from hushsweep.datasets.images.geometry import Geometry
from hushsweep.datasets.images.registry import describe_source, limited, open_source
from hushsweep.datasets.images.source import ImageSource, array_bytes, digest, pixels_of

_OF_TASKS = ("task", "secondary_classes", "secondary_names")


def node_cache(cache_dir: Path) -> Path:
    """Folder for what is large and can be made again: ``HUSHSWEEP_CACHE``, on this node's own disk, or `cache_dir`."""
    return Path(os.environ.get("HUSHSWEEP_CACHE") or cache_dir).expanduser().absolute()


def load_images(config: DatasetConfig, geometry: Geometry, *, cache_dir: Path, threads: int = 2) -> ImageSet:
    """Decode a data set, or map what an earlier call, here or in another process, has decoded.

    The same images under other labels are one file on the disk, where it has hard links.

    Memory does not grow with the number of images. Images that cannot be decoded are listed in
    ``ImageSet.undecodable``; the rest keep their place in ``ImageSet.indices``.

    Args:
        config: The data set.
        geometry: Colours and size of the result.
        cache_dir: Folder for decoded images, unless :func:`node_cache` names another; everything in it can be deleted
            at any time.
        threads: Decoding threads, >= 1.

    Returns:
        The decodable images.

    Raises:
        DatasetError: as ``describe_dataset``; images left with different sizes; none decodable; a file that
            cannot be read (as opposed to decoded: it may pass, so it is not cached); disk full.
    """
    source = open_source(config)
    info = describe_source(config, source)
    target = node_cache(cache_dir) / "images" / _key(info, geometry)
    if (found := _open(target)) is not None:
        return found
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(f"{target}.lock"):
            if (found := _open(target)) is not None:
                return found
            positions = limited(info.total, config.limit)
            pixels = _pixel_key(config.name, source, positions, geometry)

            def fill(folder: Path) -> None:
                if not write_relabelled(folder, source, info, positions, pixels):
                    images = decode_all(source, positions, geometry, threads)
                    write_entry(folder, source, info, positions, images, pixels)

            _replace(target, fill)
            return ImageSet.open(target)
    except OSError as error:
        raise DatasetError(
            f"{info.name}/{info.split}: cannot write the decoded images to '{target.parent}' "
            f"({error.strerror or error}); free space there or choose another results folder"
        ) from error


def _key(info: DatasetInfo, geometry: Geometry) -> str:
    described = asdict(info)
    if info.task is None:  # images that were decoded before there were tasks are found again
        described = {key: described[key] for key in described if key not in _OF_TASKS}
    identity = [described, asdict(geometry), DECODER_VERSION, PIL.__version__]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def _pixel_key(name: str, source: ImageSource, positions: NDArray[np.int64], geometry: Geometry) -> str:
    """The same for entries that differ in labels alone."""
    identity = [pixels_of(name, source), asdict(geometry), DECODER_VERSION, PIL.__version__]
    return digest([json.dumps(identity, sort_keys=True).encode(), array_bytes(source.index_of(positions))])


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


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
