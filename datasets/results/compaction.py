"""Merging a results folder's many small files into few large ones, while others read it and write to it."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from hushsweep.datasets.results.files import exclusive, remove, write_atomically
from hushsweep.datasets.results.listing import MERGED, REPLACES, replaced_by
from hushsweep.datasets.results.reading import read_file
from hushsweep.datasets.results.schema import TABLES, arrow_schema
from hushsweep.datasets.results.store import PARQUET, Store, footer

_LARGE = 128 * 2**20
"""Bytes of sources that make a file; one of half of that is left alone."""
_GROUP_ROWS, _GROUP_BYTES = 2**17, 2**26
"""Rows and bytes of memory of a row group: what a query reads at least, and what merging holds in memory."""


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """What became of one table.

    Attributes:
        table: Its name.
        before: Files that counted.
        after: Those that count now.
        bytes_before: Their bytes.
        bytes_after: And these files'.
    """

    table: str
    before: int
    after: int
    bytes_before: int
    bytes_after: int


def compact(store: Store) -> list[Compacted]:
    """Merge the files of complete computations, table by table.

    Readers see every row once at any moment: a merged file names the files whose place it takes, and appears at once;
    they are deleted afterwards. May be killed at any moment and run again, also while sweeps run.

    What failed or was stopped stays as it is, since a later attempt replaces it, and so does what is not complete.

    Raises:
        LockHeldError: another process compacts this folder.
        StoreError: a file is damaged, or the disk is full; what was merged until then stays merged.
    """
    with exclusive(store.root / ".compact.lock", f"compaction of {store.name}"):
        # a shard whose summary stands is never asked for again
        complete = {name for name in store.names("measurements") if len(name.split(".")) == 2}
        return [_compact_table(store, table, complete) for table in TABLES]


def _compact_table(store: Store, table: str, complete: set[str]) -> Compacted:
    listing = store.listing(table)
    _delete(listing.replaced)
    sizes = listing.sizes()
    mergeable = [name for name in sorted(sizes) if _computation(name) in complete or name.startswith(MERGED)]
    for group in _groups(mergeable, sizes):
        paths = [listing.on_disk[name] for name in group]
        _merge(store, table, paths)
        _delete(paths)
    after = store.listing(table).sizes()
    return Compacted(
        table=table,
        before=len(sizes),
        after=len(after),
        bytes_before=sum(sizes.values()),
        bytes_after=sum(after.values()),
    )


def _computation(name: str) -> str:
    """Name of the summary that a file belongs to; failed files carry more, but never belong to one."""
    parts = name.split(".")
    return name if len(parts) > 3 else ".".join(parts[:2])


def _groups(names: Sequence[str], sizes: dict[str, int]) -> Iterator[list[str]]:
    """Cut files into groups of about `_LARGE` bytes, but for those that are large enough or would stay alone."""
    group, total = list[str](), 0
    for name in (name for name in names if sizes[name] < _LARGE / 2):
        group.append(name)
        total += sizes[name]
        if total >= _LARGE:
            yield group
            group, total = [], 0
    if len(group) > 1:
        yield group


def _merge(store: Store, table: str, paths: Sequence[Path]) -> None:
    """Write the rows of some files as one that names them."""
    names = {path.stem for path in paths}
    names |= {name for path in paths if path.stem.startswith(MERGED) for name in replaced_by(path)}
    digest = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:20]
    metadata = {**footer(), REPLACES.decode(): json.dumps(sorted(names))}
    schema = arrow_schema(table).with_metadata(metadata)

    def write(stream: BinaryIO) -> None:
        with pq.ParquetWriter(stream, schema, **PARQUET) as writer:
            for rows in _row_groups(paths, arrow_schema(table)):
                writer.write_table(rows.replace_schema_metadata(metadata), row_group_size=len(rows))

    write_atomically(store.root / table / f"{MERGED}{digest}.parquet", write)


def _row_groups(paths: Sequence[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    """Read files one after another and hand their rows on in groups."""
    parts, rows, size = list[pa.Table](), 0, 0
    for path in paths:
        part = read_file(path, schema)
        parts.append(part)
        rows, size = rows + len(part), size + part.nbytes
        if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
            yield pa.concat_tables(parts).combine_chunks()
            parts, rows, size = [], 0, 0
    if rows:
        yield pa.concat_tables(parts).combine_chunks()


def _delete(paths: Sequence[Path]) -> None:
    for path in paths:
        remove(path)
