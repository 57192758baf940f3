"""PneumoniaMNIST: chest X-rays of children, as one npz file of MedMNIST."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hushsweep.datasets.images.base import DatasetConfig, DatasetError
from hushsweep.datasets.images.published import PNEUMONIA
from hushsweep.datasets.images.roots import check_split, folders_for, resolve_root
from hushsweep.datasets.images.source import ImageSource, array_bytes, digest, from_array, numbered

_FILE = "pneumoniamnist.npz"
_KEYS = {"train": "train", "validation": "val", "test": "test"}


def open_pneumonia(config: DatasetConfig) -> ImageSource:
    """Open PneumoniaMNIST, 28x28 grey, 4,708 + 524 + 624 images, normal or pneumonia.

    MedMNIST v2 (Yang et al. 2023, doi:10.1038/s41597-022-01721-8) of the X-rays of Kermany et al. (2018), CC BY 4.0.

    Raises:
        DatasetError: unknown split, no such file, or one that holds something else.
    """
    check_split(config, tuple(_KEYS))
    split, root = config.split or "test", resolve_root(config)
    found = (folder / _FILE for folder in folders_for(root, PNEUMONIA.name))
    path = next((path for path in found if path.is_file()), None)
    if path is None:
        raise DatasetError(
            f"{config.name}/{split}: no file '{_FILE}' under the data root '{root}'; get it from "
            "https://medmnist.com: docs/datasets.md"
        )
    images, labels = _read(path, _KEYS[split])
    return ImageSource(
        split=split,
        fingerprint=digest([array_bytes(images), array_bytes(labels)]),
        labels=labels,
        contents=from_array(images),
        name_of=numbered(split),
        classes=PNEUMONIA.classes,
        channels=PNEUMONIA.channels,
        height=PNEUMONIA.side,
        width=PNEUMONIA.side,
        mean=PNEUMONIA.mean,
        std=PNEUMONIA.std,
        class_names=PNEUMONIA.class_names,
    )


def _read(path: Path, key: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images ``(n, 28, 28)`` and labels ``(n,)`` of a part."""
    try:
        arrays = np.load(path, allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise ValueError("one array alone")
        with arrays:
            images, labels = arrays[f"{key}_images"], arrays[f"{key}_labels"]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(
            f"'{path}': not the npz file of PneumoniaMNIST ({reason}); copy it again"
        ) from error
    side = PNEUMONIA.side
    fits = images.dtype == labels.dtype == np.uint8 and images.shape == (len(labels), side, side)
    if not fits or labels.shape not in ((len(labels),), (len(labels), 1)) or not len(labels):
        raise DatasetError(
            f"'{path}': {key}_images are {images.dtype} of shape {images.shape} and {key}_labels {labels.dtype} of "
            f"shape {labels.shape}; expected unsigned bytes, {side}x{side} pixels and a label for each; copy it again"
        )
    if labels.max() >= PNEUMONIA.classes:
        raise DatasetError(
            f"'{path}': label {labels.max()} in {key}_labels; expected 0 or 1; copy the file again"
        )
    return images, labels.reshape(-1).astype(np.int64)
