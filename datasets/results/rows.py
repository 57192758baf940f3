"""From a worker's rows to an Arrow table that keeps the promises of the schema."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hushsweep.datasets.results.errors import StoreError
from hushsweep.datasets.results.schema import STATUSES, TABLES, Column, arrow_schema


def to_table(table: str, rows: pa.Table | Sequence[Mapping[str, Any]]) -> pa.Table:
    """Bring rows into the columns, order and types of `table`; columns they lack become null.

    Raises:
        StoreError: an unknown column, a value of another type, NaN or infinity, null where a value is
            required, an unknown status, a missing number without a reason or a failed row with a number.
    """
    given = rows.column_names if isinstance(rows, pa.Table) else sorted({key for row in rows for key in row})
    columns = TABLES[table]
    unknown = [name for name in given if name not in {column.name for column in columns}]
    if unknown:
        raise StoreError(f"{table}: unknown column(s) {', '.join(map(repr, unknown))}; see docs/results.md")
    arrays = [_convert(table, column, rows) for column in columns]
    result = pa.Table.from_arrays(arrays, schema=arrow_schema(table))
    _check_statuses(table, result)
    return result


def _convert(
    table: str, column: Column, rows: pa.Table | Sequence[Mapping[str, Any]]
) -> pa.ChunkedArray | pa.Array:
    place = f"{table}.{column.name}"
    try:
        if not isinstance(rows, pa.Table):
            values = [row.get(column.name) for row in rows]
            # Given the type, Arrow would cut 1.5 down to 1 without a word; a cast refuses.
            is_whole = pa.types.is_integer(column.type)
            array = pa.array(values).cast(column.type) if is_whole else pa.array(values, column.type)
        elif column.name in rows.column_names:
            array = rows.column(column.name).cast(column.type)
        else:
            array = pa.nulls(len(rows), column.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise StoreError(f"{place}: expected {column.type}: {error}") from error
    if column.required and array.null_count:
        raise StoreError(f"{place}: null, but every row needs a value")
    _check_finite(place, column, array)
    return array


def _check_finite(place: str, column: Column, array: pa.ChunkedArray | pa.Array) -> None:
    numbers = pc.list_flatten(array) if pa.types.is_list(array.type) else array
    if not pa.types.is_floating(numbers.type):
        return
    bad = pc.is_nan(numbers) if column.may_be_infinite else pc.invert(pc.is_finite(numbers))
    if pc.any(bad).as_py():
        found = numbers.filter(bad)[0].as_py()
        raise StoreError(f"{place}: {found}; a missing number is null, with its reason")


def _check_statuses(table: str, rows: pa.Table) -> None:
    if "status" not in rows.column_names:
        return
    status = rows.column("status")
    unknown = pc.invert(pc.is_in(status, pa.array(STATUSES)))
    if pc.any(unknown).as_py():
        found = status.filter(unknown)[0].as_py()
        raise StoreError(f"{table}.status: expected one of {', '.join(STATUSES)}, got {found!r}")
    incomplete = pc.not_equal(status, "complete")
    if pc.any(pc.and_(incomplete, pc.is_null(rows.column("reason")))).as_py():
        raise StoreError(f"{table}.reason: null in a row that is not complete; say why the number is missing")
    if (
        "value" in rows.column_names
        and pc.any(pc.equal(incomplete, pc.is_valid(rows.column("value")))).as_py()
    ):
        raise StoreError(f"{table}.value: expected a number in complete rows and null in all others")
