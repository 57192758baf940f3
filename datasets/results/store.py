"""The store: write-once Parquet files under one folder, the only truth about results."""

import contextlib
import json
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hushsweep.datasets.results.buckets import bucket_of, results_folder, results_name
from hushsweep.datasets.results.errors import FileGoneError, StoreError
from hushsweep.datasets.results.files import (
    available,
    check_name,
    exclusive,
    fetch_all,
    holder,
    write_atomically,
    write_json,
)
from hushsweep.datasets.results.listing import Listing
from hushsweep.datasets.results.reading import read_file
from hushsweep.datasets.results.rows import to_table
from hushsweep.datasets.results.schema import SCHEMA_VERSION, TABLES, arrow_schema

_MARKER = "hushsweep.json"
PARQUET = {"compression": "zstd", "write_page_checksum": True}
"""How rows are written; the checksums are for ``hushsweep verify``."""
_ROWS = 2**20
"""Rows per image that are held at once while they are summarised."""
ATTEMPTS = 5
"""Times that a reader looks again for files that were merged while it read."""


class Store:
    """A results folder, on a disk of this machine, a shared file system, or in S3.

    Files are written once under a temporary name, synced and renamed; a second write of the same name
    replaces the first, so a repeated attempt never counts twice. Any number of processes may use it at once.
    """

    def __init__(self, root: Path | str, *, create: bool = True) -> None:
        """Open the results folder `root`, or ``s3://BUCKET/PREFIX``.

        Raises:
            StoreError: it was written by a newer hushsweep, is damaged, cannot be created or reached, or does not
                exist and `create` is false.
        """
        self.root = results_folder(root)
        """The folder, or that of this machine which stands for the one in S3."""
        marker = self.root / _MARKER
        if create and (not available(marker) or _open_marker(marker).schema_version < SCHEMA_VERSION):
            with exclusive(self.root / ".lock", f"results folder {self.name}", wait_s=10):
                known = available(marker)
                found = _open_marker(marker) if known else _Marker(0, uuid.uuid4().hex, SCHEMA_VERSION)
                # an older hushsweep that opens the folder from now on has to be told that it is too old
                write_json(marker, {**found._asdict(), "schema_version": SCHEMA_VERSION})
        found = _open_marker(marker)
        self.store_id = found.store_id
        """Tells this folder's runs from another's on a shared MLflow server."""
        self.one_schema = found.first_schema_version == SCHEMA_VERSION
        """Whether all its files have the columns of the present schema: no older hushsweep ever wrote here."""

    @property
    def name(self) -> str:
        """What users call it: its path or its address."""
        return results_name(self.root)

    @property
    def cache_dir(self) -> Path:
        """Folder of everything that can be made again."""
        return self.root / "cache"

    @property
    def models_dir(self) -> Path:
        """Folder of trained weights."""
        return self.root / "models"

    def write(self, table: str, name: str, rows: pa.Table | Sequence[Mapping[str, Any]]) -> Path:
        """Make `rows` durable as the file `name` of `table`; when this returns they survive a power cut.

        Args:
            table: A key of ``schema.TABLES``.
            name: File name without ``.parquet``; the same name replaces.
            rows: Missing columns become null; schema and hushsweep version are filled in where absent.

        Returns:
            The file.

        Raises:
            StoreError: unknown table or unsafe name, rows that break the schema, or a disk that is full or
                refuses; then nothing is left behind.
        """
        path = self._folder(table) / f"{check_name(name, 'file name')}.parquet"
        if table == "measurements":
            rows = _with_versions(rows, schema_version=SCHEMA_VERSION, hushsweep_version=_version())
        checked = to_table(table, rows).replace_schema_metadata(footer())
        write_atomically(path, lambda stream: pq.write_table(checked, stream, **PARQUET))
        return path

    def write_parts(self, table: str, name: str, parts: Iterable[pa.Table]) -> Path:
        """Write as `write` does, but one row group per part, so that memory holds one part at a time.

        Raises:
            StoreError: as `write`.
        """
        path = self._folder(table) / f"{check_name(name, 'file name')}.parquet"
        schema = arrow_schema(table).with_metadata(footer())

        def write(stream: BinaryIO) -> None:
            with pq.ParquetWriter(stream, schema, **PARQUET) as writer:
                for part in parts:
                    writer.write_table(to_table(table, part).replace_schema_metadata(schema.metadata))

        write_atomically(path, write)
        return path

    def read(
        self,
        table: str,
        *,
        names: Iterable[str] | None = None,
        columns: Sequence[str] | None = None,
        points: Collection[str] | None = None,
    ) -> pa.Table:
        """Read the raw files of `table`, or those called `names`: superseded and failed rows too.

        With `points` only their rows, and of a file in parts only the parts that may hold them. Of a file that was
        merged with others, the rows of its computation: of all its shards.

        What counts is decided by the views of ``hushsweep.dashboards.queries``.

        Raises:
            StoreError: a file is missing or damaged; the message names it.
        """
        self._folder(table)  # refuses what is no table
        schema = (
            arrow_schema(table)
            if columns is None
            else pa.schema([arrow_schema(table).field(c) for c in columns])
        )
        wanted = None if names is None else sorted(check_name(name, "file name") for name in names)
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(FileGoneError):  # merged with others a moment ago
                return self._read(table, wanted, schema, points)
        return self._read(table, wanted, schema, points)

    def read_by_point(
        self, table: str, names: Iterable[str], points: Sequence[str]
    ) -> Iterator[tuple[str, pa.Table]]:
        """Read the rows of each of `points` in files of `table`, several points at a time as memory allows.

        Opening a file costs as much as it has parts, one per point: read point by point, the time would grow with
        their square.

        Raises:
            StoreError: as `read`.
        """
        names = list(names)
        size = len(self.read(table, names=names, columns=["point_id"]))
        step = max(1, _ROWS * len(points) // max(1, size))
        for start in range(0, len(points), step):
            some = points[start : start + step]
            rows = self.read(table, names=names, points=some)
            place = pc.index_in(rows["point_id"], pa.array(some)).to_numpy()
            rows = rows.take(np.argsort(place, kind="stable"))
            ends = np.cumsum(np.bincount(place, minlength=len(some)))
            for point, begin, end in zip(some, [0, *ends], ends, strict=False):
                yield point, rows.slice(begin, end - begin)

    def _read(
        self, table: str, names: Sequence[str] | None, schema: pa.Schema, points: Collection[str] | None
    ) -> pa.Table:
        listing = self.listing(table)
        chosen = sorted(listing.counted) if names is None else names
        places = dict.fromkeys(self._place(listing, name) for name in chosen)
        fetch_all([path for path, _ in places])
        parts = [read_file(path, schema, points, computation) for path, computation in places]
        return pa.concat_tables([schema.empty_table(), *parts])

    @staticmethod
    def _place(listing: Listing, name: str) -> tuple[Path, tuple[str, str] | None]:
        """Where the rows of a file are: its path, or that of a merged file with the computation in it."""
        merged = listing.merged_into.get(name)
        if merged is None:
            return listing.path(name), None
        computed_by, measure_id = name.split(".")[:2]
        return listing.path(merged), (computed_by, measure_id)

    def names(self, table: str) -> set[str]:
        """Names of the files of `table`, merged since or not; a file that is still being written has none."""
        return self.listing(table).names

    def listing(self, table: str) -> Listing:
        """Look which files of `table` are there, and which of them count."""
        return Listing(self._folder(table))

    def completed(self, *, or_stopped: bool = False) -> set[tuple[str, str]]:
        """(point_id, measure_id) of everything that needs no computing: complete or not applicable.

        Args:
            or_stopped: Whether what was stopped early needs none either.
        """
        rows = self.read("measurements", columns=["point_id", "measure_id", "status"])
        unique = rows.group_by(["point_id", "measure_id", "status"]).aggregate([]).to_pydict()
        triples = zip(unique["point_id"], unique["measure_id"], unique["status"], strict=True)
        open_ = {"failed"} if or_stopped else {"failed", "stopped"}
        return {(point, measure) for point, measure, status in triples if status not in open_}

    def write_sweep(self, name: str, *, spec_text: str, plan: Mapping[str, Any]) -> None:
        """Record what sweep `name` asks for; an earlier, different sweep file is kept as spec.<n>.yaml."""
        folder = self._sweep_folder(name)
        spec = folder / "spec.yaml"
        earlier = spec.read_bytes() if available(spec) else spec_text.encode()
        kept = list[bytes]()
        while available(folder / f"spec.{len(kept) + 1}.yaml"):
            kept.append((folder / f"spec.{len(kept) + 1}.yaml").read_bytes())
        if earlier != spec_text.encode() and earlier not in kept:
            write_atomically(folder / f"spec.{len(kept) + 1}.yaml", lambda stream: stream.write(earlier))
        write_atomically(spec, lambda stream: stream.write(spec_text.encode()))
        write_json(folder / "plan.json", plan)

    def plan(self, name: str) -> dict[str, Any] | None:
        """The points of sweep `name` as its last run planned them, or None if there is no such sweep."""
        path = self._sweep_folder(name) / "plan.json"
        return _read_json(path) if available(path) else None

    def spec_text(self, name: str) -> str | None:
        """The sweep file of `name` as its last run read it, or None if there is none.

        Raises:
            StoreError: the file cannot be read as text.
        """
        path = self._sweep_folder(name) / "spec.yaml"
        try:
            return path.read_text(encoding="utf-8") if available(path) else None
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot be read ({error}); run the sweep again") from error

    def sweeps(self) -> list[str]:
        """Names of the sweeps that were run into this folder, sorted."""
        folder = self.root / "sweeps"
        bucket = bucket_of(folder)
        names = [path.name for path in folder.glob("[!.]*/")] if bucket is None else bucket.folders(folder)
        return sorted(name for name in names if available(folder / name / "plan.json"))

    def lock(self, sweep: str) -> contextlib.AbstractContextManager[None]:
        """Keep a second run of `sweep` away while the block runs; see :func:`files.exclusive`.

        Raises:
            LockHeldError: naming the process that runs it.
        """
        return exclusive(self._sweep_folder(sweep) / ".lock", f"sweep {sweep!r}")

    def running(self, sweep: str) -> str | None:
        """Who runs `sweep` at this moment ("process 12 on host since ..."), or None."""
        return holder(self._sweep_folder(sweep) / ".lock")

    def _folder(self, table: str) -> Path:
        if table not in TABLES:
            raise StoreError(f"unknown table {table!r}; known: {', '.join(TABLES)}")
        return self.root / table

    def _sweep_folder(self, name: str) -> Path:
        return self.root / "sweeps" / check_name(name, "sweep name")


def is_store(results: Path | str) -> bool:
    """Tell whether a results folder has been created.

    Raises:
        StoreError: the bucket cannot be reached.
    """
    return available(results_folder(results) / _MARKER)


def footer() -> dict[str, str]:
    """Return what every file says about itself."""
    return {"hushsweep.schema_version": str(SCHEMA_VERSION), "hushsweep.version": _version()}


@cache
def _version() -> str:
    return version("hushsweep")


def _with_versions(rows: pa.Table | Sequence[Mapping[str, Any]], **versions: Any) -> Any:
    if not isinstance(rows, pa.Table):
        return [{**versions, **row} for row in rows]
    for name, value in versions.items():
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.array([value] * len(rows)))
    return rows


class _Marker(NamedTuple):
    """What a results folder says of itself."""

    schema_version: int
    """Of the newest hushsweep that wrote here."""
    store_id: str
    first_schema_version: int = 0
    """Of the one that created it; 0 where it did not say."""


def _open_marker(marker: Path) -> _Marker:
    if not available(marker):
        raise StoreError(
            f"{results_name(marker.parent)}: no results here; run a sweep first or name its folder with --results"
        )
    found = _read_json(marker)
    try:
        on_disk = int(found["schema_version"])
        opened = _Marker(on_disk, str(found["store_id"]), int(found.get("first_schema_version", 0)))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{marker}: damaged; move it away and run the sweep again, rows are kept") from error
    if on_disk > SCHEMA_VERSION:
        raise StoreError(
            f"{results_name(marker.parent)}: written with schema version {on_disk}, this hushsweep reads up to "
            f"{SCHEMA_VERSION}; upgrade hushsweep or choose another --results"
        )
    return opened


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); move it away and run the sweep again") from error
