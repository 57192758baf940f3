"""MNIST and Fashion-MNIST: idx files, gzipped or plain, as torchvision lays them out, or Parquet shards."""

import gzip
import math
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hushsweep.datasets.images.base import DatasetConfig, DatasetError
from hushsweep.datasets.images.parquet import shards_of
from hushsweep.datasets.images.published import FASHION_MNIST, MNIST, Published
from hushsweep.datasets.images.roots import check_split, folders_for, not_found, resolve_root
from hushsweep.datasets.images.shards import open_shards
from hushsweep.datasets.images.source import ImageSource, array_bytes, digest, from_array, numbered

_STEM = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTES = 0x08

# Fingerprints of the published splits. The two sets share file names, so only the content tells them apart.
_PUBLISHED = {
    "da5900e6b0e782c7b595bd4f600f70b6b72484053aa8e6f17338b1a6c95bccb4": "mnist/train",
    "9d6addb440e0e1570d07d6ce18427a0caf01f094262800cef46527cc8a107a8b": "mnist/test",
    "b913170293d37d5a2a1321e335ce5ec980e6738fe8fcaa59d3c42210f65f629d": "fashion_mnist/train",
    "d431210b65a463e5e52a414e5c80f387314f2ba7b598a771e2f3a8d1e79dcdd5": "fashion_mnist/test",
}


def open_mnist(config: DatasetConfig) -> ImageSource:
    """Open MNIST (LeCun, Cortes, Burges), 28x28 grey, 60,000 + 10,000 images."""
    return _open(config, MNIST)


def open_fashion_mnist(config: DatasetConfig) -> ImageSource:
    """Open Fashion-MNIST (arXiv:1708.07747), 28x28 grey, 60,000 + 10,000 images."""
    return _open(config, FASHION_MNIST)


def _open(config: DatasetConfig, published: Published) -> ImageSource:
    check_split(config, ("train", "test"))
    split = config.split or "test"
    root = resolve_root(config)
    images_name, labels_name = f"{_STEM[split]}-images-idx3-ubyte", f"{_STEM[split]}-labels-idx1-ubyte"
    for folder in folders_for(root, published.name):
        images_file = _either(folder, images_name)
        if images_file:
            labels_file = _either(folder, labels_name)
            if not labels_file:
                raise not_found(config, split, folder, f"'{labels_name}' beside '{images_file.name}'")
            return _open_idx(config, published, split, images_file, labels_file)
        if shards := shards_of(folder, split):
            return open_shards(config, shards, split=split, published=published)
    raise not_found(config, split, root, f"'{images_name}[.gz]' or '{split}-*.parquet'")


def _open_idx(
    config: DatasetConfig, published: Published, split: str, images_file: Path, labels_file: Path
) -> ImageSource:
    images = read_idx(images_file, dimensions=3)
    labels = read_idx(labels_file, dimensions=1)
    if len(images) != len(labels) or images.shape[1:] != (published.side, published.side) or not len(labels):
        raise DatasetError(
            f"{config.name}/{split}: '{images_file}' holds {images.shape} images and '{labels_file.name}' "
            f"{len(labels)} labels; expected as many, {published.side}x{published.side}; copy both again"
        )
    if labels.max() >= published.classes:
        raise DatasetError(
            f"{config.name}/{split}: label {labels.max()} in '{labels_file}'; expected 0 to "
            f"{published.classes - 1}; copy the file again"
        )
    fingerprint = digest([array_bytes(images), array_bytes(labels)])
    _compare_with_published(config.name, split, fingerprint, images_file)
    return ImageSource(
        split=split,
        fingerprint=fingerprint,
        labels=labels.astype(np.int64),
        contents=from_array(images),
        name_of=numbered(split),
        classes=published.classes,
        channels=published.channels,
        height=published.side,
        width=published.side,
        mean=published.mean,
        std=published.std,
        class_names=published.class_names,
    )


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes, gzipped where its name ends in ``.gz``.

    Raises:
        DatasetError: wrong magic number, or a length other than the header's.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"'{path}': cannot be read ({error}); copy the file again") from error
    magic = bytes([0, 0, _UNSIGNED_BYTES, dimensions])
    header = 4 + 4 * dimensions
    if content[:4] != magic or len(content) < header:
        raise DatasetError(
            f"'{path}': not an idx file of {dimensions}-dimensional bytes: it starts with "
            f"{content[:4].hex() or 'nothing'}, expected {magic.hex()}; copy the file again"
        )
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    if len(content) - header != math.prod(shape):
        raise DatasetError(
            f"'{path}': {len(content) - header} bytes of data where its header announces {math.prod(shape)}; "
            "copy the file again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _either(folder: Path, name: str) -> Path | None:
    found = (folder / name, folder / f"{name}.gz", folder / name.replace("-idx", ".idx"))
    return next((path for path in found if path.is_file()), None)


def _compare_with_published(name: str, split: str, fingerprint: str, path: Path) -> None:
    found = _PUBLISHED.get(fingerprint)
    if found is None:
        warnings.warn(
            f"{name}/{split}: '{path}' is not the published file; its numbers compare with no other's",
            stacklevel=2,
        )
    elif found != f"{name}/{split}":
        raise DatasetError(
            f"{name}/{split}: '{path}' holds {found}; give the folder of {name} as dataset.root, "
            f"or name: {found.split('/')[0]}"
        )
