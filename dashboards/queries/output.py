"""A query's answer as text for people and as files for programs."""

import base64
import json
import math
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

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
            JSON text, bytes in both as base64; json has null for NaN) or ``parquet``. On a terminal that is too narrow
            a table says once what is the same in all rows, leaves out columns without a value, and goes on below.
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
    if output_format == "table" and sys.stdout.isatty():
        _write_table(table, sys.stdout.buffer, shutil.get_terminal_size().columns)
    else:
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


class _Column(NamedTuple):
    """What stands in a column: its name, a rule, and cells, all of one width."""

    lines: list[str]

    @classmethod
    def of(cls, name: str, cells: list[str], *, is_number: bool) -> "_Column":
        width = max(map(len, [name, *cells]))
        return cls(
            [one.rjust(width) if is_number else one.ljust(width) for one in (name, "-" * width, *cells)]
        )

    @property
    def width(self) -> int:
        return len(self.lines[0])


def _write_table(table: pa.Table, stream: BinaryIO, width: int | None = None) -> None:
    """Write aligned text; with a width, in parts that are no wider, if columns are not."""
    if table.column_names == ["explain_key", "explain_value"]:
        stream.write("\n".join(table.column("explain_value").to_pylist()).encode())
        return
    cells = {
        field.name: [cell_text(value) for value in column.to_pylist()]
        for field, column in zip(table.schema, table.slice(0, _TABLE_ROWS).columns, strict=True)
    }
    columns = {
        field.name: _Column.of(field.name, cells[field.name], is_number=is_number(field.type))
        for field in table.schema
    }
    if width is not None and _width(columns.values()) > width and len(table) > 1:
        same = {name: texts[0] for name, texts in cells.items() if len(set(texts)) == 1}
        columns = {name: column for name, column in columns.items() if name not in same} or columns
        told = [f"{name} {text}" for name, text in same.items() if text]
        empty = [name for name, text in same.items() if not text]
        for words, names in (("the same in all rows: ", told), ("without a value: ", empty)):
            if names:
                stream.write((textwrap.fill(words + ", ".join(names), width) + "\n\n").encode())
    for number, part in enumerate(_parts(list(columns.values()), width or math.inf)):
        stream.write(b"\n" * (number > 0))
        for line in zip(*(column.lines for column in part), strict=True):
            stream.write(("  ".join(line).rstrip() + "\n").encode())
    if len(table) > _TABLE_ROWS:
        stream.write(f"... {len(table) - _TABLE_ROWS} more rows; --format csv shows all\n".encode())


def _width(columns: Iterable[_Column]) -> int:
    return sum(column.width + 2 for column in columns) - 2


def _parts(columns: list[_Column], width: float) -> Iterator[list[_Column]]:
    """Columns that fit beside each other, one at least."""
    part = list[_Column]()
    for column in columns:
        if part and _width([*part, column]) > width:
            yield part
            part = []
        part.append(column)
    yield part


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
