"""Reading one Parquet file of the store: whole, or the rows of some points, as far as possible without the others."""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hushsweep.datasets.results.errors import FileGoneError, StoreError
from hushsweep.datasets.results.files import available
from hushsweep.datasets.results.rows import to_table


def read_file(
    path: Path,
    schema: pa.Schema,
    points: Collection[str] | None = None,
    computation: tuple[str, str] | None = None,
) -> pa.Table:
    """Read a file in the columns and types of `schema`, null where it is older than a column.

    Args:
        path: The file.
        schema: Of the table, or of some of its columns.
        points: Read the rows of these points alone.
        computation: Read the rows of this ``(computed_by, measure_id)`` alone.

    Raises:
        FileGoneError: it is not there.
        StoreError: it is damaged.
    """
    keys = dict[str, list[str]]()
    if computation is not None:
        keys |= {"computed_by": [computation[0]], "measure_id": [computation[1]]}
    if points is not None:
        keys["point_id"] = sorted(points)
    available(path, listed=True)
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            present = file.schema_arrow.names
            columns = [name for name in {*schema.names, *keys} if name in present]
            if keys:
                chosen = [
                    n for n in range(file.num_row_groups) if _may_hold(file.metadata.row_group(n), keys)
                ]
                rows = file.read_row_groups(chosen, columns=columns, use_threads=False)
            else:
                rows = file.read(columns=columns, use_threads=False)
    except FileNotFoundError as error:
        raise FileGoneError(unreadable(path, error)) from error
    except (OSError, pa.ArrowException) as error:
        raise StoreError(unreadable(path, error)) from error
    for name, values in keys.items():
        rows = rows.filter(pc.is_in(rows[name], pa.array(values, pa.string())))
    arrays = [
        rows.column(field.name).cast(field.type) if field.name in present else pa.nulls(len(rows), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def read_whole(table: str, path: Path) -> pa.Table:
    """Read a file of `table` to its last byte and hold it against its checksums and the schema.

    Raises:
        StoreError: it is damaged, or its rows break a promise of the schema.
    """
    available(path)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            rows = file.read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(unreadable(path, error)) from error
    try:
        return to_table(table, rows)
    except StoreError as error:
        raise StoreError(f"{path}: {error}; move it away and run the sweep again") from error


def unreadable(path: Path, error: Exception) -> str:
    """Say that a file of rows is damaged or gone."""
    return f"{path}: cannot be read ({error}); move it away and run the sweep again to recompute its points"


def _may_hold(group: pq.RowGroupMetaData, keys: Mapping[str, Sequence[str]]) -> bool:
    """Tell from a row group's statistics whether it may have rows with these values."""
    columns = (group.column(n) for n in range(group.num_columns))
    found = {column.path_in_schema: column.statistics for column in columns if column.path_in_schema in keys}
    return all(
        statistics is None
        or not statistics.has_min_max
        or bisect_left(keys[name], statistics.min) < bisect_right(keys[name], statistics.max)
        for name, statistics in found.items()
    )
