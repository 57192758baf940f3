"""Look-up of a data set by the name in a sweep file."""

import difflib
import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hushsweep.datasets.images.base import DatasetConfig, DatasetError, DatasetInfo
from hushsweep.datasets.images.celeba import open_celeba
from hushsweep.datasets.images.cifar import open_cifar10, open_cifar100
from hushsweep.datasets.images.digits import open_digits
from hushsweep.datasets.images.imagefolder import open_imagefolder
from hushsweep.datasets.images.mnist import open_fashion_mnist, open_mnist
from hushsweep.datasets.images.parquet import open_parquet
from hushsweep.datasets.images.pneumonia import open_pneumonia
from hushsweep.datasets.images.source import ImageSource
from hushsweep.datasets.plugins import import_plug_in, is_plug_in
from hushsweep.datasets.tasks.class_counts import keep_class_counts
from hushsweep.datasets.tasks.opening import has_task, open_task

Loader = Callable[[DatasetConfig], ImageSource]

LOADERS: dict[str, Loader] = {
    "digits": open_digits,
    "mnist": open_mnist,
    "fashion_mnist": open_fashion_mnist,
    "cifar10": open_cifar10,
    "cifar100": open_cifar100,
    "celeba": open_celeba,
    "pneumonia": open_pneumonia,
    "imagefolder": open_imagefolder,
    "parquet": open_parquet,
}
_COLUMN_READERS = {
    "label_column": ("parquet", "cifar100", "celeba"),
    "image_column": ("parquet",),
    "secondary_column": ("parquet", "cifar100", "celeba"),
}


def describe_dataset(config: DatasetConfig) -> DatasetInfo:
    """Describe a data set without decoding an image: seconds for 50,000 files.

    Raises:
        DatasetError: unknown name or split, missing or damaged files, limit < 1.
    """
    return describe_source(config, open_source(config))


def describe_source(config: DatasetConfig, source: ImageSource) -> DatasetInfo:
    """Describe a data set that is already open."""
    return DatasetInfo(
        name=config.name,
        split=source.split,
        fingerprint=source.fingerprint,
        size=len(limited(len(source.labels), config.limit)),
        total=len(source.labels),
        classes=source.classes,
        channels=source.channels,
        height=source.height,
        width=source.width,
        mean=source.mean,
        std=source.std,
        class_names=source.class_names,
        task=source.task,
        secondary_classes=source.secondary_classes if source.task else None,
        secondary_names=source.secondary_names if source.task else None,
    )


def limited(total: int, limit: int | None) -> NDArray[np.int64]:
    """Positions left by a limit: ``floor(i * total / limit)``, ascending, all of them without one."""
    if limit is None or limit >= total:
        return np.arange(total)
    return np.arange(limit) * total // limit


def open_source(config: DatasetConfig) -> ImageSource:
    """Open a data set with its loader, and give its images the labels of its task where there is one.

    Raises:
        DatasetError: see ``describe_dataset``; or a folder or file cannot be read; or the task, or the numbers of
            images of each class, do not fit.
    """
    for field in ("limit", "train_limit"):
        limit = getattr(config, field)
        if limit is not None and (type(limit) is not int or limit < 1):
            raise DatasetError(f"{config.name}: {field} must be a whole number >= 1, got {limit!r}")
    source = open_task(config, _open) if has_task(config) else _open(config)
    return source if config.class_counts is None else keep_class_counts(config, source)


def _open(config: DatasetConfig) -> ImageSource:
    loader = LOADERS[config.name] if config.name in LOADERS else _plug_in(config.name)
    for field, readers in _COLUMN_READERS.items():
        if getattr(config, field) is not None and config.name in LOADERS and config.name not in readers:
            *others, last = readers
            known = f"{', '.join(others)} and {last}" if others else last
            raise DatasetError(f"{config.name}: {field} is for {known} only; leave it out")
    try:
        source = loader(config)
    except OSError as error:
        place = f"'{os.fsdecode(error.filename)}'" if isinstance(error.filename, str | bytes) else "its files"
        raise DatasetError(
            f"{config.name}: cannot read {place} ({error.strerror or error}); mend it or take it out"
        ) from error
    if not isinstance(source, ImageSource):
        raise DatasetError(
            f"{config.name}: returned {type(source).__name__}; a loader returns an ImageSource"
        )
    return source


def _plug_in(name: str) -> Loader:
    known = ", ".join(LOADERS)
    if not is_plug_in(name):
        close = difflib.get_close_matches(name, LOADERS, n=1)
        hint = f"; did you mean {close[0]!r}? Known" if close else "; known"
        raise DatasetError(f"unknown data set {name!r}{hint}: {known}, or package.module:Name")
    try:
        loader: Loader = import_plug_in(name)
    except (ImportError, AttributeError) as error:
        raise DatasetError(
            f"data set {name!r}: {error}; install its package where the workers run"
        ) from error
    except (Exception, SystemExit) as error:  # other people's code raises anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DatasetError(f"data set {name!r}: its module fails on import, {reason}; mend it") from error
    if not callable(loader):
        raise DatasetError(f"{name}: is a {type(loader).__name__}, not a function that opens a data set")
    return loader
