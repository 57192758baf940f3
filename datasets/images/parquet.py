"""Any Parquet data set with an image column: which files make up which split."""

import itertools
import re
from pathlib import Path

from hushsweep.datasets.images.base import DatasetConfig, DatasetError
from hushsweep.datasets.images.roots import check_split, not_found, resolve_root
from hushsweep.datasets.images.shards import open_shards
from hushsweep.datasets.images.source import ImageSource

_SPLITS = ("train", "test", "validation", "val")


def open_parquet(config: DatasetConfig) -> ImageSource:
    """Open a Parquet file or a folder of shards (``test-00000-of-00002.parquet``, in ``data/``, ``test/``).

    Without a split: ``test``; where no file name names a split, all files. Labels are integers >= 0, or
    text, which is numbered in sorted order.

    Raises:
        DatasetError: nothing found, or columns that do not fit.
    """
    check_split(config)
    root = resolve_root(config)
    if root.is_file():
        if config.split:
            raise DatasetError(
                f"parquet: split {config.split!r} needs a folder as dataset.root, got the file '{root}'"
            )
        return open_shards(config, [root], split="all")
    folders = [folder for folder in (root, root / "data") if folder.is_dir()]
    split = config.split or "test"
    for folder in folders:
        if shards := shards_of(folder, split):
            return open_shards(config, shards, split=split)
    files = sorted(itertools.chain.from_iterable(folder.glob("*.parquet") for folder in folders))
    splits = parquet_splits(config)
    if files and not splits and not config.split:
        return open_shards(config, files, split="all")
    if splits:
        raise DatasetError(
            f"parquet/{split}: no such split under '{root}'; set dataset.split to one of: {', '.join(splits)}"
        )
    raise not_found(config, split, root, f"'{split}-*.parquet'")


def parquet_splits(config: DatasetConfig) -> tuple[str, ...]:
    """The usual splits of which there are files."""
    root = resolve_root(config)
    folders = [folder for folder in (root, root / "data") if folder.is_dir()]
    return tuple(name for name in _SPLITS if any(shards_of(folder, name) for folder in folders))


def shards_of(folder: Path, split: str) -> list[Path]:
    """Parquet files of a split directly in a folder, or in its folder of that name, in order."""
    own = [
        path for path in folder.glob("*.parquet") if re.fullmatch(re.escape(split) + r"([-_.].*)?", path.stem)
    ]
    return sorted(own) or sorted((folder / split).glob("*.parquet"))
