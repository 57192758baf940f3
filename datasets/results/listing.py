"""Which files of a table count: all but those whose rows a merged file holds.

A merged file names in its footer the files it was made of. So it takes their place at the moment it appears, whether
or not they are deleted, and no row is ever there twice or not at all.
"""

import json
import os
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pyarrow.parquet as pq

from hushsweep.datasets.results.buckets import Bucket, bucket_of
from hushsweep.datasets.results.errors import StoreError

MERGED = "merged-"
"""How the names of merged files begin; no computation's name does."""
REPLACES = b"hushsweep.replaces"


class Listing:
    """The files of one table at one moment."""

    def __init__(self, folder: Path) -> None:
        """List `folder`; a file that is still being written has no name.

        Raises:
            StoreError: a merged file cannot be read.
        """
        self.folder = folder
        self._files = _names(folder)
        replaces = {name: replaced_by(self.path(name)) for name in self._files if name.startswith(MERGED)}
        within = frozenset[str]().union(*replaces.values())
        # a merged file that was merged again is named by its successor, with all that it named itself
        self.merged_into = {
            old: name for name, olds in replaces.items() if name not in within for old in olds
        }
        """Name of every file that was merged to that of the one which holds its rows."""

    def path(self, name: str) -> Path:
        """Where the file of that name is, or would be."""
        return self.folder / f"{name}.parquet"

    @cached_property
    def on_disk(self) -> dict[str, Path]:
        """All files by name; most who look want names alone, which take a tenth of the time."""
        return {name: self.path(name) for name in self._files}

    @property
    def names(self) -> set[str]:
        """Names of all files that were written, merged since or not."""
        return {name for name in {*self._files, *self.merged_into} if not name.startswith(MERGED)}

    @property
    def counted(self) -> dict[str, Path]:
        """The files whose rows count, by name."""
        return {name: path for name, path in self.on_disk.items() if name not in self.merged_into}

    @property
    def replaced(self) -> list[Path]:
        """Files that a merged one has replaced and that are still there."""
        return [path for name, path in self.on_disk.items() if name in self.merged_into]

    def sizes(self) -> dict[str, int]:
        """Bytes of the files whose rows count, by name."""
        bucket = bucket_of(self.folder / MERGED)
        if bucket is None:
            return {name: path.stat().st_size for name, path in self.counted.items()}
        return {name: bucket.size(path) for name, path in self.counted.items()}


def _names(folder: Path) -> list[str]:
    """Names in a folder, of which none that a merged file replaces is missing while that one is missing too.

    A folder is not read at one moment: files may go before they are reached and the merged one come after. But then
    a second look finds it, because it was there before they went.
    """
    while True:
        found = _look(folder)
        if {name for name in _look(folder) if name.startswith(MERGED)} <= set(found):
            return found


def _look(folder: Path) -> list[str]:
    bucket = bucket_of(folder / MERGED)
    try:
        # listdir takes a tenth of the time of Path objects, for tens of thousands
        entries = os.listdir(folder) if bucket is None else bucket.files(folder)  # noqa: PTH208
    except FileNotFoundError:
        return []
    return [name[:-8] for name in entries if name.endswith(".parquet") and not name.startswith(".")]


def replaced_by(path: Path) -> frozenset[str]:
    """Names of the files whose rows the merged file `path` holds; none if it has just been replaced itself.

    Raises:
        StoreError: it cannot be read.
    """
    bucket = bucket_of(path)
    try:
        return _footer(path, path.stat().st_mtime_ns if bucket is None else 0)
    except FileNotFoundError:
        return frozenset()


def _end(bucket: Bucket, path: Path) -> BinaryIO:
    """Read the footer alone, and what says how long it is: a merged file may be large."""
    size = int.from_bytes(bucket.read_end(path, 8)[:4], "little")
    return BytesIO(bucket.read_end(path, size + 8))


@lru_cache(maxsize=4096)
def _footer(path: Path, modified: int) -> frozenset[str]:
    """Read once per process: a merged file never changes, and ``modified`` tells it from another of its name."""
    bucket = bucket_of(path)
    try:
        schema = pq.read_schema(path if bucket is None else _end(bucket, path))
        return frozenset(json.loads(schema.metadata[REPLACES]))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path}: cannot be read ({error}); move it away and run the sweeps again to recompute its points"
        ) from error
