"""What a run of learned noise prints at its end: how much less a server learns at little cost of accuracy."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hushsweep.sweeps.session import Summary

_SHOWN = 12
_TELLING = ("dataset", "task", "model", "cut")


def print_drops(summary: Summary, console: Console) -> bool:
    """Print the secondary drop at no more than 1 point of primary loss; tell whether the sweep has attackers."""
    from hushsweep.dashboards import secondary_drop

    rows = secondary_drop(summary.results, summary.sweep).to_pylist()
    if not rows:
        return False
    telling = [name for name in _TELLING if len({row[name] for row in rows}) > 1]
    settings = list(dict.fromkeys(row["setting"] for row in rows[:_SHOWN]))
    for setting in settings:
        own = [row for row in rows[:_SHOWN] if row["setting"] == setting]
        data = ", ".join(str(own[0][name]) for name in telling)
        floor = "" if own[0]["floor"] is None else f", floor {100 * own[0]['floor']:.1f}"
        about = f"{data}: " if data else ""
        console.print(escape(f"{about}secondary drop at no more than 1 point of primary loss, in %{floor}"))
        console.print(_table(own))
    if len(rows) > _SHOWN:
        console.print(f'... and {len(rows) - _SHOWN} more rows: hushsweep query "FROM secondary_drop()"')
    references = ", ".join(sorted({row["reference"] for row in rows}))
    console.print(
        "single, strongest: accuracy of attackers who read the secondary label from what leaves; drop: of the "
        f"strongest, against {escape(references)}; floor: the best guess from the primary label.",
        style="dim",
    )
    return True


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("method", "level")
    for name in ("primary", "lost", "single", "strongest", "drop"):
        table.add_column(name, justify="right")
    names = [row["method"] for row in rows]
    for row in rows:
        method = row["method"] + (f", {row['place']}" if names.count(row["method"]) > 1 else "")
        numbers = (
            "primary_top1",
            "primary_loss",
            "secondary_single",
            "secondary_strongest",
            "secondary_drop",
        )
        table.add_row(escape(method), _level(row), *(_percent(row[name]) for name in numbers))
    return table


def _level(row: dict[str, Any]) -> str:
    if row["level"] is None:
        return "none" if row["primary_top1"] is None else "-"
    seeds = f" ({row['n_seeds']} of {row['seeds']} seeds)" if row["n_seeds"] < row["seeds"] else ""
    return f"{row['level']:.3g}{seeds}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
