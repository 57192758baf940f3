"""The parts of a data set that has a task: one to learn from, one to choose on, one to report."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hushsweep.datasets.images.base import DatasetConfig, DatasetError
from hushsweep.datasets.images.celeba import celeba_splits
from hushsweep.datasets.images.imagefolder import folder_splits
from hushsweep.datasets.images.parquet import parquet_splits
from hushsweep.datasets.images.source import ImageSource, array_bytes, digest, pixels_of

PARTS = ("train", "validation", "test")
# Which part an image is in, by the last digit of its position. Neighbours in a folder sorted by class part.
_CARVED = ("train",) * 9 + ("validation",)
_CUT = tuple({3: "test", 8: "test", 9: "validation"}.get(digit, "train") for digit in range(10))
_SPLITS_ON_DISK: dict[str, Callable[[DatasetConfig], tuple[str, ...]]] = {
    "celeba": celeba_splits,
    "imagefolder": folder_splits,
    "parquet": parquet_splits,
}
_HELD_OUT = ("validation", "val")


class _Place(NamedTuple):
    """Where a part is: a split as the loader knows it, and the parts of that split's images by last digit."""

    split: str | None
    parts: tuple[str, ...] | None


def training_part(config: DatasetConfig) -> DatasetConfig:
    """The images from which anything is learned: the part ``train``, or ``train_limit`` images of it.

    ``class_counts`` needs nothing here: it says what the part ``train`` is, whoever asks for it.
    """
    return replace(config, split="train", limit=config.train_limit)


def validation_part(config: DatasetConfig) -> DatasetConfig:
    """The images on which anything is chosen: the part ``validation``, as many of them as are reported."""
    return replace(config, split="validation")


def open_part(config: DatasetConfig, load: Callable[[DatasetConfig], ImageSource]) -> ImageSource:
    """Open the part that ``config.split`` names, by default ``test``, whichever splits the data set has.

    A data set without a validation split lends every tenth image of its train split; one with a single split is cut
    in three: positions that end in 3 and 8 are ``test``, in 9 ``validation``. ``limit`` plays no role in it.

    Args:
        config: Settings for the loader, but for the split.
        load: Opens a split as the data set knows it.

    Raises:
        DatasetError: unknown part, no train split, a part without images, or what ``load`` raises.
    """
    part = config.split or "test"
    if part not in PARTS:
        raise DatasetError(
            f"{config.name}: unknown split {config.split!r}; with a task there are: {', '.join(PARTS)}"
        )
    place = _place(config, part)
    source = load(replace(config, split=place.split))
    source = replace(source, pixels=pixels_of(config.name, source))  # before the split gets its part's name
    if place.parts is None:
        return replace(source, split=part)
    names = np.array(place.parts)[np.arange(len(source.labels)) % 10]
    chosen = np.flatnonzero(names == part)
    if not len(chosen):
        raise DatasetError(
            f"{config.name}: the part {part!r} is cut from {len(source.labels)} images of {source.split!r}, and "
            "nothing is left for it; give at least 10 images"
        )
    return replace(taken(source, chosen), split=part)


def _place(config: DatasetConfig, part: str) -> _Place:
    list_splits = _SPLITS_ON_DISK.get(config.name)
    splits = list_splits(config) if list_splits else ("train", "test")
    if len(splits) < 2:
        return _Place(splits[0] if splits else None, _CUT)
    if "train" not in splits:
        raise DatasetError(
            f"{config.name}: a task needs a split 'train' to learn from, found only {', '.join(splits)}"
        )
    held_out = next((name for name in _HELD_OUT if name in splits), None)
    if part == "test":
        return _Place("test" if "test" in splits else held_out, None)
    if held_out is None or "test" not in splits:
        return _Place("train", _CARVED)
    return _Place(held_out if part == "validation" else "train", None)


def taken(source: ImageSource, chosen: NDArray[np.int64]) -> ImageSource:
    """A part of a source: images at ascending positions, which keep their indices and names."""
    return replace(
        source,
        fingerprint=digest([source.fingerprint.encode(), array_bytes(chosen)]),
        labels=source.labels[chosen],
        secondary=None if source.secondary is None else source.secondary[chosen],
        contents=lambda positions: source.contents(chosen[positions]),
        name_of=lambda position: source.name_of(int(chosen[position])),
        indices=source.index_of(chosen),
    )
