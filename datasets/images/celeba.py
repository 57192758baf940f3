"""CelebA: faces with forty yes-or-no attributes, as Parquet shards with one column for each attribute."""

from dataclasses import replace

from hushsweep.datasets.images.base import DatasetConfig
from hushsweep.datasets.images.parquet import shards_of
from hushsweep.datasets.images.roots import check_split, folders_for, not_found, resolve_root
from hushsweep.datasets.images.shards import open_shards
from hushsweep.datasets.images.source import ImageSource

_FILE_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}
_DEFAULT = "Smiling"


def open_celeba(config: DatasetConfig) -> ImageSource:
    """Open CelebA (Liu et al., 2015); labels are one attribute, 0 or 1, secondary labels another.

    Raises:
        DatasetError: nothing found, or columns that do not fit.
    """
    check_split(config, tuple(_FILE_NAMES))
    split = config.split or "test"
    root = resolve_root(config)
    for folder in folders_for(root, "celeba"):
        shards = next(filter(None, (shards_of(folder, name) for name in _FILE_NAMES[split])), [])
        if shards:
            source = open_shards(
                config, shards, split=split, label_column=_DEFAULT, secondary_column=config.secondary_column
            )
            return _as_attributes(source, config.label_column or _DEFAULT, config.secondary_column)
    raise not_found(config, split, root, f"'{split}-*.parquet'")


def celeba_splits(config: DatasetConfig) -> tuple[str, ...]:
    """The splits of which there are files."""
    folders = folders_for(resolve_root(config), "celeba")
    return tuple(
        split
        for split, names in _FILE_NAMES.items()
        if any(shards_of(folder, name) for folder in folders for name in names)
    )


def _as_attributes(source: ImageSource, column: str, secondary_column: str | None) -> ImageSource:
    """Two classes each, even where no image of a small split has the attribute."""
    classes = max(2, source.classes)
    source = replace(source, classes=classes, class_names=source.class_names or _names(column, classes))
    if secondary_column is None or source.secondary_classes is None:
        return source
    classes = max(2, source.secondary_classes)
    names = source.secondary_names or _names(secondary_column, classes)
    return replace(source, secondary_classes=classes, secondary_names=names)


def _names(column: str, classes: int) -> tuple[str, ...] | None:
    return (f"not {column}", column) if classes == 2 else None
