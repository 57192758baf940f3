"""Tables of a report: the answer of a query with its SQL."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from hushsweep.dashboards.queries import run_query
from hushsweep.dashboards.reports.model import Table


def table(results: Path | str, sql: str) -> Table:
    """Run `sql` and keep its answer with it."""
    return Table(run_query(results, sql), sql)


def varying(
    rows: pa.Table, names: Sequence[str], always: Sequence[str] = ("model", "mechanism")
) -> list[str]:
    """The columns of `names` that tell rows apart; those of `always` in any case."""
    columns = {name: set(rows.column(name).to_pylist()) for name in names}
    return [name for name in names if name in always or len(columns[name]) > 1]


def quote(text: str) -> str:
    """`text` as a string of SQL."""
    return "'" + text.replace("'", "''") + "'"
