"""What ``hushsweep status`` prints: how far sweeps are, and what each node does for them."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hushsweep.dashboards import SweepStatus, sweep_status
from hushsweep.sweeps.progress import clock

_SHOWN_NODES = 10
_DAY = 86400.0


def print_status(results: Path, sweep: str | None, console: Console) -> None:
    """Print how far sweeps are, and what the nodes do for the one that is named, or runs, or is alone.

    Raises:
        StoreError: there are no results, or no such sweep.
    """
    found = sweep_status(results, sweep)
    table = Table("sweep", "state")
    for name in ("points", "done", "failed", "missing", "images/s", "left"):
        table.add_column(name, justify="right")
    for status in found:
        table.add_row(
            escape(status.sweep),
            f"run by {escape(status.running)}"
            if status.running
            else "idle"
            if status.missing
            else "finished",
            *map(str, (status.points, status.done, status.failed, status.missing)),
            "-" if status.images_per_second is None else f"{status.images_per_second:.0f}",
            "-" if status.seconds_left is None else clock(status.seconds_left),
        )
    console.print(table)
    for status in found:
        if status.nodes and (status.running or len(found) == 1):
            _print_nodes(status, console)
    for status in found:
        reasons = dict[str, int]()
        for failure in status.failures:
            reasons[failure.reason] = reasons.get(failure.reason, 0) + 1
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
            console.print(
                f"[bold]{escape(status.sweep)}: {count} failed:[/] {escape(reason)}", soft_wrap=True
            )


def _print_nodes(status: SweepStatus, console: Console) -> None:
    """Print what the nodes that did most have done; images per second have the same meaning as in the sweep's row."""
    table = Table("node")
    for name in ("done", "failed", "images/s", "workers", "last row"):
        table.add_column(name, justify="right")
    now = datetime.now(UTC)
    for use in status.nodes[:_SHOWN_NODES]:
        age = None if use.last_row_at is None else max(0.0, (now - use.last_row_at).total_seconds())
        table.add_row(
            escape(use.node),
            *map(str, (use.done, use.failed)),
            "-" if use.images_per_second is None else f"{use.images_per_second:.0f}",
            str(use.workers),
            "-" if age is None else f"{_age(age)} ago",
        )
    console.print(f"{escape(status.sweep)}, measures by node:", highlight=False)
    console.print(table)
    if len(status.nodes) > _SHOWN_NODES:
        console.print(f"and {len(status.nodes) - _SHOWN_NODES} more (--json has all)", highlight=False)


def _age(seconds: float) -> str:
    """Spell how long ago something was: days where a clock would count hundreds of hours."""
    return clock(seconds) if seconds < 2 * _DAY else f"{seconds / _DAY:.0f} days"


def status_json(results: Path, sweep: str | None) -> list[dict[str, Any]]:
    """Return how far sweeps are as plain values: what print_status shows, and all nodes and failures.

    Raises:
        StoreError: there are no results, or no such sweep.
    """
    found = [asdict(status) for status in sweep_status(results, sweep)]
    for node in (node for status in found for node in status["nodes"]):
        node["last_row_at"] = node["last_row_at"] and node["last_row_at"].isoformat()
    return found
