"""A query's answer as text for people and as files for programs."""

import base64
import json
import math
import re
import sys
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from hushsweep.dashboards.queries.run import QueryError
from hushsweep.datasets.results.files import write_atomically

_TABLE_ROWS = 1000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")  # newlines, and escapes that would drive the terminal
_MARKDOWN = re.compile(r"[\\`*\[\]<>&|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def write_result(table: pa.Table, output_format: str, output: Path | None = None) -> None:
    """Write `table` to the file `output`, or to standard output.

    Args:
        table: What :func:`run_query` returned.
        output_format: ``table`` (aligned text, 6 significant digits, at most 1000 rows), ``markdown`` (a table for
            GitHub and notebooks, 4 significant digits, all rows), ``csv`` and ``json`` (all digits; lists in csv as
            JSON text, bytes in both as base64; json has null for NaN) or ``parquet``.
        output: The file; an existing one is replaced at once or not at all.

    Raises:
        QueryError: unknown format, or Parquet to a terminal.
        StoreError: the file cannot be written.
    """
    if output_format not in _WRITERS:
        raise QueryError(f"unknown format {output_format!r}; known: {', '.join(_WRITERS)}")
    if output is not None:
        write_atomically(output, lambda stream: _WRITERS[output_format](table, stream))
        return
    if output_format == "parquet" and sys.stdout.isatty():
        raise QueryError("parquet is not for a terminal; name a file with -o")
    sys.stdout.flush()
    _WRITERS[output_format](table, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def markdown_table(table: pa.Table) -> str:
    """Render `table` as a GitHub table: numbers with 4 significant digits, null as an empty cell, text escaped."""
    names = [escape_markdown(name) for name in table.column_names]
    rules = ["---:" if is_number(field.type) else "---" for field in table.schema]
    cells = [
        [escape_markdown(cell_text(value, 4)) for value in column.to_pylist()] for column in table.columns
    ]
    rows = [names, rules, *zip(*cells, strict=True)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def escape_markdown(text: str) -> str:
    """Write `text` so that Markdown shows it as it is, on one line: no markup, no HTML, no link."""
    return _MARKDOWN.sub(r"\\\g<0>", _CONTROL.sub(" ", text))


def _write_table(table: pa.Table, stream: BinaryIO) -> None:
    if table.column_names == ["explain_key", "explain_value"]:
        stream.write("\n".join(table.column("explain_value").to_pylist()).encode())
        return
    shown = [
        [cell_text(value) for value in column.to_pylist()] for column in table.slice(0, _TABLE_ROWS).columns
    ]
    widths = [max(map(len, [name, *cells])) for name, cells in zip(table.column_names, shown, strict=True)]
    numeric = [is_number(field.type) for field in table.schema]
    rows = [table.column_names, ["-" * width for width in widths], *zip(*shown, strict=True)]
    for row in rows:
        cells = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)]
        stream.write(("  ".join(cells).rstrip() + "\n").encode())
    if len(table) > _TABLE_ROWS:
        stream.write(f"... {len(table) - _TABLE_ROWS} more rows; --format csv shows all\n".encode())


def _write_csv(table: pa.Table, stream: BinaryIO) -> None:
    columns = [
        pa.array([None if value is None else _text(value) for value in column.to_pylist()], pa.string())
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type)
        else column
        for column in table.columns
    ]
    csv.write_csv(pa.table(columns, names=table.column_names), stream)


def _write_json(table: pa.Table, stream: BinaryIO) -> None:
    for number, row in enumerate(table.to_pylist()):
        stream.write((("[\n" if number == 0 else ",\n") + _json(row)).encode())
    stream.write(b"\n]\n" if len(table) else b"[]\n")


def is_number(kind: pa.DataType) -> bool:
    """Whether values of this type are aligned as numbers."""
    return bool(pa.types.is_decimal(kind) or (pa.types.is_primitive(kind) and not pa.types.is_temporal(kind)))


def _text(value: Any) -> str:
    return str(_plain(value)) if isinstance(value, bytes) else _json(value)


def cell_text(value: Any, digits: int = 6) -> str:
    """Write a value on one line, floating-point numbers with so many significant digits, null as nothing."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    text = str(value) if isinstance(value, str | int | Decimal) else _json(value)
    return _CONTROL.sub(" ", text)


def _json(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):  # DuckDB sums whole numbers in 128 bits
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | bytes):
        return base64.b64encode(value).decode() if isinstance(value, bytes) else value.isoformat()
    return value if value is None or isinstance(value, str | int) else str(value)


_WRITERS: dict[str, Callable[[pa.Table, BinaryIO], object]] = {
    "table": _write_table,
    "markdown": lambda table, stream: stream.write(markdown_table(table).encode()),
    "csv": _write_csv,
    "json": _write_json,
    "parquet": lambda table, stream: pq.write_table(table, stream, compression="zstd"),
}
