"""Where data sets lie: the data root and the folders below it."""

import os
import re
from pathlib import Path

from hushsweep.datasets.images.base import DatasetConfig, DatasetError

DATA_VARIABLE = "HUSHSWEEP_DATA"
GUIDE = "docs/datasets.md"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def resolve_root(config: DatasetConfig) -> Path:
    """Find the data root of a data set as an absolute path (a file for ``parquet``, where it may be one).

    Raises:
        DatasetError: none is given, it does not exist, or it cannot be read.
    """
    base = os.environ.get(DATA_VARIABLE)
    given = config.root or base
    if not given:
        raise DatasetError(
            f"{config.name}: no data root; set dataset.root in the sweep file, or the environment variable "
            f"{DATA_VARIABLE}, to the folder that holds it: {GUIDE}"
        )
    root = Path(given).expanduser()
    if base and not root.is_absolute() and not root.exists():
        root = Path(base).expanduser() / root
    try:
        if root.is_dir():
            os.scandir(root).close()
        elif not root.exists():
            raise FileNotFoundError(2, "no such folder")
        elif config.name != "parquet":
            raise NotADirectoryError(20, "not a folder")
    except OSError as error:
        also = f" (nor under {DATA_VARIABLE}={base})" if base and config.root else ""
        raise DatasetError(
            f"{config.name}: cannot read the data root '{given}'{also}: {error.strerror}; "
            f"give the folder in dataset.root or {DATA_VARIABLE}: {GUIDE}"
        ) from error
    return root.absolute()


def folders_for(root: Path, name: str) -> list[Path]:
    """Folders below a root where a data set may lie, most specific first, the root itself last.

    Case, hyphens and underscores do not count: ``fashion-mnist/FashionMNIST/raw`` holds ``fashion_mnist``.
    """
    own = _named(root, name)
    bases = [*(inner for folder in own for inner in _named(folder, name)), *own, root]
    inside = ("", "raw", "data", "plain_text")
    return [base / sub for base in bases for sub in inside if (base / sub).is_dir()]


def check_split(config: DatasetConfig, known: tuple[str, ...] = ()) -> None:
    """Refuse a split that is not a plain name (it becomes part of a path), or not among the known ones.

    Raises:
        DatasetError: as said.
    """
    if config.split is None:
        return
    if known and config.split not in known:
        raise DatasetError(f"{config.name}: unknown split {config.split!r}; known: {', '.join(known)}")
    if not _PLAIN_NAME.fullmatch(config.split):
        raise DatasetError(
            f"{config.name}: split {config.split!r} is not a plain name: letters, digits, '_', '-', '.'"
        )


def not_found(config: DatasetConfig, split: str, root: Path, wanted: str) -> DatasetError:
    """The error of a data set that is not under its root."""
    return DatasetError(
        f"{config.name}/{split}: no file {wanted} under the data root '{root}'; how to obtain it: {GUIDE}"
    )


def _named(folder: Path, name: str) -> list[Path]:
    def plain(text: str) -> str:
        return re.sub("[^a-z0-9]", "", text.lower())

    return sorted(entry for entry in folder.iterdir() if plain(entry.name) == plain(name) and entry.is_dir())
