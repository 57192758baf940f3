"""How many images of each class there are to learn from."""

from dataclasses import replace

import numpy as np

from hushsweep.datasets.images.base import DatasetConfig, DatasetError
from hushsweep.datasets.images.source import ImageSource, pixels_of
from hushsweep.datasets.tasks.parts import taken


def shuffled_class_counts(config: DatasetConfig) -> tuple[int, ...] | None:
    """Number of images by class label that the part ``train`` keeps: ``class_counts``, shuffled by ``class_seed``."""
    if config.class_counts is None:
        return None
    order = np.random.default_rng(config.class_seed).permutation(len(config.class_counts))
    return tuple(config.class_counts[place] for place in order)


def keep_class_counts(config: DatasetConfig, source: ImageSource) -> ImageSource:
    """Keep so many images of each class of the part ``train``; other parts stay as they are.

    Of a class, the images at the places floor(i * total / count) of those in it are kept, as by a ``limit``. They keep
    their order, their positions in the full split, hence their noise.

    Args:
        config: With ``class_counts``.
        source: The part that ``config.split`` names, with the labels of its task where there is one.

    Raises:
        DatasetError: not one number for each class, none that is positive, or more than a class has.
    """
    _check(config, source)
    if config.split != "train":
        return source
    chosen = []
    for label, count in enumerate(shuffled_class_counts(config) or ()):
        members = np.flatnonzero(source.labels == label)
        if count > len(members):
            name = f" ({source.class_names[label]})" if source.class_names else ""
            raise DatasetError(
                f"{config.name}/train: class_counts, shuffled by class_seed {config.class_seed}, asks for {count} "
                f"images of class {label}{name}, which has {len(members)}; give a smaller number"
            )
        chosen.append(members[np.arange(count) * len(members) // max(count, 1)])
    source = replace(source, pixels=pixels_of(config.name, source))  # the same images, whichever are kept
    return taken(source, np.sort(np.concatenate(chosen)))


def _check(config: DatasetConfig, source: ImageSource) -> None:
    counts, place = config.class_counts or (), f"{config.name}/{source.split}"
    if not all(type(count) is int and count >= 0 for count in counts):
        raise DatasetError(f"{place}: class_counts must be whole numbers >= 0, got {list(counts)}")
    if type(config.class_seed) is not int or config.class_seed < 0:
        raise DatasetError(f"{place}: class_seed must be a whole number >= 0, got {config.class_seed!r}")
    if len(counts) != source.classes:
        raise DatasetError(
            f"{place}: class_counts has {len(counts)} numbers and there are {source.classes} classes; give one number "
            "for each class"
        )
    if not any(counts):
        raise DatasetError(f"{place}: class_counts are all 0, so nothing is left to learn from; raise one")
