"""CIFAR-10 and CIFAR-100: the python version's batches, as torchvision lays them out, or Parquet shards."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hushsweep.datasets.images.base import DatasetConfig, DatasetError
from hushsweep.datasets.images.parquet import shards_of
from hushsweep.datasets.images.published import CIFAR10, CIFAR100, Published
from hushsweep.datasets.images.roots import check_split, folders_for, not_found, resolve_root
from hushsweep.datasets.images.shards import open_shards
from hushsweep.datasets.images.source import ImageSource, array_bytes, digest, from_array, numbered

_BATCHES: dict[str, dict[str, tuple[str, ...]]] = {
    "cifar10": {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    "cifar100": {"train": ("train",), "test": ("test",)},
}
_BATCH_FOLDER = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
# label column -> key in a batch; the first is the default, the other one is the secondary label
_LABEL_KEYS = {
    "cifar10": {"label": "labels"},
    "cifar100": {"fine_label": "fine_labels", "coarse_label": "coarse_labels"},
}
_NAME_KEYS = {"label": "label_names", "fine_label": "fine_label_names", "coarse_label": "coarse_label_names"}
_META_FILE = {"cifar10": "batches.meta", "cifar100": "meta"}


def open_cifar10(config: DatasetConfig) -> ImageSource:
    """Open CIFAR-10 (Krizhevsky, 2009), 32x32 RGB, 50,000 + 10,000 images."""
    return _open(config, CIFAR10)


def open_cifar100(config: DatasetConfig) -> ImageSource:
    """Open CIFAR-100 (Krizhevsky, 2009), 32x32 RGB; the coarse labels are its secondary labels."""
    return _open(config, CIFAR100)


def _open(config: DatasetConfig, published: Published) -> ImageSource:
    check_split(config, ("train", "test"))
    split = config.split or "test"
    columns = list(_LABEL_KEYS[published.name])
    label = config.label_column or columns[0]
    if label not in columns:
        raise DatasetError(f"{config.name}: unknown label_column {label!r}; known: {', '.join(columns)}")
    if config.secondary_column == label or config.secondary_column not in (None, *columns):
        raise DatasetError(
            f"{config.name}: secondary_column must be one of {', '.join(columns)} and not the label_column, "
            f"got {config.secondary_column!r}"
        )
    secondary = next((column for column in columns if column != label), None)
    root = resolve_root(config)
    batches = _BATCHES[published.name][split]
    for folder in folders_for(root, published.name):
        for place in (folder / _BATCH_FOLDER[published.name], folder):
            if (place / batches[0]).is_file():
                return _open_batches(place, published, split, label, secondary)
        if shards := shards_of(folder, split):
            return open_shards(
                config,
                shards,
                split=split,
                published=published,
                label_column=label,
                secondary_column=secondary,
            )
    wanted = f"'{_BATCH_FOLDER[published.name]}/{batches[0]}' or '{split}-*.parquet'"
    raise not_found(config, split, root, wanted)


def _open_batches(
    folder: Path, published: Published, split: str, label: str, secondary: str | None
) -> ImageSource:
    keys = _LABEL_KEYS[published.name]
    wanted = [keys[column] for column in (label, secondary) if column]
    batches = [_read_batch(folder / name, wanted, published) for name in _BATCHES[published.name][split]]
    pixels = np.concatenate([batch[0] for batch in batches])
    labels = [np.concatenate(parts) for parts in zip(*(batch[1] for batch in batches), strict=True)]
    meta = folder / _META_FILE[published.name]
    names = _class_names(meta, _NAME_KEYS[label]) or published.class_names
    secondary_names = _class_names(meta, _NAME_KEYS[secondary]) if secondary else None
    return ImageSource(
        split=split,
        fingerprint=digest([array_bytes(pixels), *map(array_bytes, labels)]),
        labels=labels[0],
        secondary=labels[1] if secondary else None,
        secondary_classes=len(secondary_names) if secondary_names else None,
        secondary_names=secondary_names,
        contents=from_array(pixels),
        name_of=numbered(split),
        classes=len(names) if names else int(labels[0].max()) + 1,
        channels=published.channels,
        height=published.side,
        width=published.side,
        mean=published.mean,
        std=published.std,
        class_names=names,
    )


def _read_batch(
    path: Path, wanted: list[str], published: Published
) -> tuple[NDArray[np.uint8], list[NDArray[np.int64]]]:
    """Pixels ``(n, 32, 32, 3)`` and the wanted labels of one batch file."""
    batch = _read_pickle(path)
    data = batch.get("data")
    pixels = published.channels * published.side**2
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape == (len(data), pixels)):
        raise DatasetError(f"'{path}': expected 'data' of (n, {pixels}) unsigned bytes; copy the file again")
    columns = []
    for key in wanted:
        values = batch.get(key)
        if not (
            isinstance(values, list) and len(values) == len(data) and all(type(v) is int for v in values)
        ):
            raise DatasetError(
                f"'{path}': expected '{key}' to be a list of {len(data)} integers; copy the file again"
            )
        columns.append(np.array(values, np.int64))
        if len(data) and not 0 <= min(values) <= max(values) < published.classes:
            raise DatasetError(f"'{path}': a label in '{key}' is outside 0..{published.classes - 1}")
    return data.reshape(-1, published.channels, published.side, published.side).transpose(0, 2, 3, 1), columns


def _class_names(path: Path, key: str) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    names = _read_pickle(path).get(key) or ()
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names) or None


def _encode(text: str, encoding: str) -> bytes:
    """Bytes as Python 3 writes them in old pickles; no other codec, since some decompress."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"codec {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):  # a bare pickle.load would run any code the file names
    """Unpickler of numpy arrays, numbers, strings and built-in containers, and of nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        reconstruct: Any = np.array([0]).__reduce__()[0]
        allowed: dict[tuple[str, str], Any] = {
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _encode,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a data file has no use for")
        return allowed[module, name]


def _read_pickle(path: Path) -> dict[str, Any]:
    try:
        content = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        return {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
    except Exception as error:  # a damaged pickle raises almost anything
        raise DatasetError(f"'{path}': not a CIFAR batch file ({error}); copy the file again") from error
