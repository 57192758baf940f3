"""The tasks by name: how each makes a primary and a secondary label of what a data set holds."""

import re
from dataclasses import dataclass, replace

import numpy as np

from hushsweep.datasets.images.base import DatasetConfig, DatasetError
from hushsweep.datasets.images.source import ImageSource

_IMAGENET_CLASSES, _ANIMALS = 1000, 398
_WNID = re.compile(r"n\d{8}")
_FIRST_THING = "n02666196"  # abacus, class 398: in the order of their wnids, all animals come before it


@dataclass(frozen=True, kw_only=True)
class ClassTask:
    """Primary: whether the class is one of the first; secondary: the class.

    Attributes:
        datasets: Names of the data sets that have the task.
        first: The primary label is 1 for classes below it.
        names: Of the primary labels 0 and 1.
    """

    datasets: tuple[str, ...]
    first: int
    names: tuple[str, str]

    def read(self, config: DatasetConfig) -> DatasetConfig:
        """Settings with which the loader finds the labels."""
        return config

    def label(self, source: ImageSource) -> ImageSource:
        """Give a source its labels."""
        return _by_class(source, source.labels < self.first, self.names)


@dataclass(frozen=True, kw_only=True)
class AnimalTask:
    """Primary: whether the class of ImageNet is an animal, one of the first 398; secondary: the class.

    Attributes:
        datasets: Names of the data sets that may hold ImageNet.
    """

    datasets: tuple[str, ...]

    def read(self, config: DatasetConfig) -> DatasetConfig:
        """Settings with which the loader finds the labels."""
        return config

    def label(self, source: ImageSource) -> ImageSource:
        """Give a source its labels; class folders named by wnid may be fewer than 1,000.

        Raises:
            DatasetError: these are not ImageNet's classes.
        """
        names = source.class_names or ()
        if names and all(map(_WNID.fullmatch, names)):
            is_animal = np.array([name < _FIRST_THING for name in names])[source.labels]
        elif source.classes == _IMAGENET_CLASSES:
            is_animal = source.labels < _ANIMALS
        else:
            raise DatasetError(
                f"{source.split}: task 'animal' needs ImageNet's 1,000 classes, or class folders named by wnid "
                f"such as n01440764, found {source.classes} others; give ImageNet's folder as dataset.root, or "
                "leave the task out"
            )
        return _by_class(source, is_animal, ("no animal", "animal"))


@dataclass(frozen=True, kw_only=True)
class ColumnTask:
    """Primary and secondary labels are two columns.

    Attributes:
        datasets: Names of the data sets that have the task.
        primary: Column.
        secondary: Column.
        classes: Number of primary and secondary classes; None: as the data say.
    """

    datasets: tuple[str, ...]
    primary: str | None
    secondary: str
    classes: tuple[int, int] | None = None

    def read(self, config: DatasetConfig) -> DatasetConfig:
        """Settings with which the loader finds the labels.

        Raises:
            DatasetError: the settings name columns of their own.
        """
        if self.classes and config.label_column is not None:
            raise DatasetError(
                f"{config.name}: task {config.task!r} reads the columns {self.primary!r} and {self.secondary!r}; "
                "leave label_column out, or give label_column and secondary_column and no task"
            )
        return replace(config, label_column=self.primary, secondary_column=self.secondary)

    def label(self, source: ImageSource) -> ImageSource:
        """Give a source its labels."""
        if source.secondary is None:
            raise DatasetError(
                f"{source.split}: the loader gave no secondary labels for secondary_column {self.secondary!r}; "
                "its ImageSource has to hold them as secondary"
            )
        classes, secondary_classes = self.classes or (
            len(source.class_names or ()) or source.classes,
            max(source.secondary_classes or 0, int(source.secondary.max()) + 1),
        )
        for labels, known, column in (
            (source.labels, classes, self.primary),
            (source.secondary, secondary_classes, self.secondary),
        ):
            if labels.max() >= known:
                raise DatasetError(
                    f"{source.split}: label {labels.max()} in column {column!r}; expected 0 to {known - 1}; "
                    "mend the labels, or give label_column and secondary_column and no task"
                )
        return replace(source, classes=classes, secondary_classes=secondary_classes)


Task = ClassTask | AnimalTask | ColumnTask

TASKS: dict[str, Task] = {
    "less_than_5": ClassTask(
        datasets=("digits", "mnist", "fashion_mnist"), first=5, names=("5 or more", "less than 5")
    ),
    "superclass": ColumnTask(
        datasets=("cifar100",), primary="coarse_label", secondary="fine_label", classes=(20, 100)
    ),
    "smiling_male": ColumnTask(datasets=("celeba",), primary="Smiling", secondary="Male", classes=(2, 2)),
    "smiling_young": ColumnTask(datasets=("celeba",), primary="Smiling", secondary="Young", classes=(2, 2)),
    "animal": AnimalTask(datasets=("imagefolder", "parquet")),
}


def _by_class(source: ImageSource, is_first: np.ndarray, names: tuple[str, str]) -> ImageSource:
    return replace(
        source,
        labels=is_first.astype(np.int64),
        classes=2,
        class_names=names,
        secondary=source.labels,
        secondary_classes=source.classes,
        secondary_names=source.class_names,
    )
