"""A data set with a task: the task is found, its part opened and its labels given."""

import difflib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hushsweep.datasets.images.base import DatasetConfig, DatasetError
from hushsweep.datasets.images.source import ImageSource, array_bytes, digest
from hushsweep.datasets.tasks.parts import open_part
from hushsweep.datasets.tasks.registry import TASKS, ColumnTask, Task


def has_task(config: DatasetConfig) -> bool:
    """Tell whether images get two labels."""
    return config.task is not None or config.secondary_column is not None


def open_task(config: DatasetConfig, load: Callable[[DatasetConfig], ImageSource]) -> ImageSource:
    """Open a part of a data set with the labels of its task.

    Args:
        config: Settings with a task, or with a secondary column.
        load: Opens a split of the data set with the columns that the settings name, whatever their task.

    Raises:
        DatasetError: unknown task, a task of another data set, labels that do not fit, or what ``load`` raises.
    """
    task = _find_task(config)
    part = open_part(replace(task.read(config), task=None), lambda split: _checked(config.name, load(split)))
    try:
        source = task.label(part)
    except DatasetError as error:
        raise DatasetError(f"{config.name}/{error}") from error
    assert source.secondary is not None
    labels = (array_bytes(source.labels), array_bytes(source.secondary))
    return replace(
        source,
        task=config.task or _joined(config),
        fingerprint=digest([source.fingerprint.encode(), *labels]),
    )


def _find_task(config: DatasetConfig) -> Task:
    if config.secondary_column is not None:
        if config.task is not None:
            raise DatasetError(
                f"{config.name}: task {config.task!r} and secondary_column {config.secondary_column!r} stand "
                "together; give one of them"
            )
        return ColumnTask(
            datasets=(config.name,), primary=config.label_column, secondary=config.secondary_column
        )
    assert config.task is not None
    own = [name for name, task in TASKS.items() if config.name in task.datasets]
    if config.task in own:
        return TASKS[config.task]
    if config.task in TASKS:
        others = ", ".join(TASKS[config.task].datasets)
        problem = f"task {config.task!r} is for {others}"
    else:
        near = difflib.get_close_matches(config.task, TASKS, n=1)
        problem = f"unknown task {config.task!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    known = f"known for {config.name}: {', '.join(own)}" if own else f"{config.name} has no task"
    raise DatasetError(
        f"{config.name}: {problem}; {known}; or give a secondary_column (parquet, cifar100, celeba)"
    )


def _checked(name: str, source: ImageSource) -> ImageSource:
    """A source whose secondary labels, where there are any, are what a loader has to give."""
    if source.secondary is None:
        return source
    secondary, place = np.asarray(source.secondary), f"{name}/{source.split}"
    if secondary.shape != source.labels.shape or secondary.dtype.kind not in "iu":
        raise DatasetError(
            f"{place}: secondary labels must be whole numbers, one for each of {len(source.labels)} images; got "
            f"{secondary.dtype} of shape {secondary.shape}; mend the loader"
        )
    if len(secondary) and secondary.min() < 0:
        raise DatasetError(
            f"{place}: secondary label {secondary.min()}, expected numbers >= 0; mend the loader"
        )
    return replace(source, secondary=secondary.astype(np.int64))


def _joined(config: DatasetConfig) -> str:
    """Name of a task made of two columns."""
    defaults = {"cifar100": "fine_label", "celeba": "Smiling"}
    primary = config.label_column or defaults.get(config.name, "label")
    return f"{primary}_{config.secondary_column}"
