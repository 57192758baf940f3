"""Curves as small as a word: how accuracy falls and a bound grows with the level."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_BLOCKS = "▁▂▃▄▅▆▇█"
_DIGITS = "0123456789"
_SHOWN = 12


def sparkline(values: Sequence[float | None], top: float, *, ascii_only: bool = False) -> str:
    """One character per value: a block as high as the value is between 0 and `top`, or its tenths as a digit.

    Args:
        values: Non-negative; a missing one is a space.
        top: Value of the highest character, > 0.
        ascii_only: Digits in place of blocks.
    """
    steps = _DIGITS if ascii_only else _BLOCKS
    return "".join(
        " " if value is None else steps[min(int(len(steps) * value / top), len(steps) - 1)]
        for value in values
    )


def print_sparklines(rows: Sequence[dict[str, Any]], names: dict[str, str], console: Console) -> None:
    """Print accuracy and HCR bound of every curve with several levels, a line each.

    Args:
        rows: Of the view tradeoff, by curve and level.
        names: Of the curves, by id.
        console: Where to.
    """
    curves = dict[str, list[dict[str, Any]]]()
    for row in rows:
        if row["level"] is not None and row["top1"] is not None:
            curves.setdefault(row["curve_id"], []).append(row)
    shown = {key: own for key, own in curves.items() if len({row["level"] for row in own}) > 1}
    if not shown:
        return
    most = max((row["std_bound_median"] or 0.0 for own in shown.values() for row in own), default=0.0)
    table = Table("levels rise to the right", "accuracy", box=box.SIMPLE, pad_edge=False)
    if most:
        table.add_column("HCR bound")
    only_ascii = console.options.ascii_only
    for key, own in list(shown.items())[:_SHOWN]:
        accuracies, bounds = ([row[name] for row in own] for name in ("top1", "std_bound_median"))
        line = sparkline(accuracies, 1.0, ascii_only=only_ascii)
        cells = [escape(names[key]), f"{line} {100 * accuracies[0]:.0f} to {100 * accuracies[-1]:.0f} %"]
        known = [bound for bound in bounds if bound is not None]
        if known:
            line = sparkline(bounds, most, ascii_only=only_ascii)
            cells.append(f"{line} {known[0]:.2g} to {known[-1]:.2g}")
        table.add_row(*cells)
    console.print(table)
    if len(shown) > _SHOWN:
        console.print(f"... and {len(shown) - _SHOWN} more curves")
