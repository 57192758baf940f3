"""What ``hushsweep query compare A B`` prints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hushsweep.dashboards.queries.compare import Comparison, compare
from hushsweep.dashboards.queries.output import write_result
from hushsweep.dashboards.queries.run import QueryError


def answer_comparison(
    asked: str | None,
    points: Sequence[str],
    *,
    results: Path,
    sweep: str | None,
    output_format: str,
    output: Path | None,
) -> None:
    """Answer ``compare A B`` in a format of :func:`write_result`; its table for the terminal comes with sentences.

    Raises:
        QueryError: another query has points, or compare has not two of them.
        StoreError: as :func:`compare`.
    """
    if asked != "compare":
        raise QueryError(
            f"query {asked!r}: takes no {points[0]!r}; only compare is about points: query compare A B"
        )
    if len(points) != 2:
        raise QueryError(
            f"compare: expected two points, found {len(points)}: hushsweep query compare A B, each model/method/level "
            "as 'hushsweep query overview' prints them, or how its id begins"
        )
    found = compare(results, *points, sweep=sweep)
    if output_format == "table" and output is None:
        print_comparison(found, Console())
    else:
        write_result(found.rows, output_format, output)


def print_comparison(found: Comparison, console: Console) -> None:
    """Print both points, a row for every quantity, and a sentence on what each row means."""
    for name, point in (("A", found.a), ("B", found.b)):
        console.print(f"{name}  {point['point_id'][:12]}  {escape(point['label'])}", highlight=False)
    table = Table("quantity", box=box.SIMPLE, pad_edge=False)
    for heading in ("images", "A", "B", "A - B", "95 % interval", "p"):
        table.add_column(heading, justify="right")
    rows = found.rows.to_pylist()
    for row in rows:
        table.add_row(escape(_heading(row)), str(row["images"]), *_cells(row))
    console.print(table)
    for row in rows:
        console.print(f"- {escape(row['meaning'])}", highlight=False)
    several = f" The {len(rows)} p-values are not corrected for each other." if len(rows) > 1 else ""
    console.print(
        "A and B are means over the images that both have, paired image by image. p and interval speak of other images "
        f"of the same kind, not of networks trained with another seed.{several}",
        style="dim",
        highlight=False,
    )


def _heading(row: dict[str, Any]) -> str:
    return f"{row['quantity']}, %" if row["unit"] == "fraction" else str(row["quantity"])


def _cells(row: dict[str, Any]) -> list[str]:
    scale = 100.0 if row["unit"] == "fraction" else 1.0
    numbers = [_number(row[name], scale) for name in ("a", "b", "difference")]
    interval = "-" if row["low"] is None else f"{_number(row['low'], scale)} to {_number(row['high'], scale)}"
    return [*numbers, interval, "-" if row["p_value"] is None else f"{row['p_value']:.2g}"]


def _number(value: float, scale: float) -> str:
    return f"{scale * value:.3g}"
