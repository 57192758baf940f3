"""What a run with reconstruction attacks prints at its end: the best of every level, and how near a bound it is."""

from collections import defaultdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hushsweep.sweeps.session import Summary

_SHOWN = 12


def print_attacks(summary: Summary, names: dict[str, str], console: Console) -> bool:
    """Print the best attack of every point; tell whether the sweep has attacks.

    Args:
        summary: of the run.
        names: curve id to what the curve is called.
        console: where to.
    """
    from hushsweep.dashboards import reconstructions, sandwich

    points = defaultdict[str, list[dict[str, Any]]](list)
    for row in reconstructions(summary.results, summary.sweep).to_pylist():
        if row["mse"] is not None and not row["is_oracle"]:
            points[row["point_id"]].append(row)
    if not points:
        return False
    gaps = defaultdict[str, list[float]](list)
    violated = 0
    for row in sandwich(summary.results, summary.sweep).to_pylist():
        violated += (row["flag"] or "").startswith("violated")
        if row["holds_for"] == "every estimator" and row["gap"] is not None:
            gaps[row["point_id"]].append(row["gap"])
    best = [min(rows, key=lambda row: (row["mse"], row["attack"])) for rows in points.values()]
    best.sort(key=lambda row: (names[row["curve_id"]], row["level"] or 0))
    table = Table(
        "curve", "noise" if {row["level_name"] for row in best} <= {None, "noise_scale"} else "level"
    )
    table.add_column("best attack")
    for heading in ("MSE", "of\nblind", "PSNR\ndB", "found\nagain", "gap to\nbound"):
        table.add_column(heading, justify="right")
    previous = None
    for row in best[:_SHOWN]:
        curve = names[row["curve_id"]]
        if previous not in (None, curve):
            table.add_section()
        found = row["reidentified"]
        table.add_row(
            "" if curve == previous else escape(curve),
            "-" if row["level"] is None else f"{row['level']:g}",
            escape(row["attack"]),
            f"{row['mse']:.2g}",
            f"{row['mse'] / row['mse_blind']:.0%}" if row["mse_blind"] else "-",
            "-" if row["psnr"] is None else f"{row['psnr']:.1f}",
            "-" if found is None else f"{found:.0%}",
            f"{min(gaps[row['point_id']]):.2g}" if gaps[row["point_id"]] else "-",
        )
        previous = curve
    console.print(table)
    if len(best) > _SHOWN:
        console.print(f"... and {len(best) - _SHOWN} more rows: hushsweep query attacks")
    console.print(
        "best attack: of least mean squared error, normalised pixels (blind: the mean training image); found again: "
        "nearest of the candidates; gap: error over the strongest bound for every estimator, on what that averages "
        "over. A better attack may exist.",
        style="dim",
    )
    if violated:
        console.print(
            f"[bold red]{violated} bounds are violated:[/] one of two programs is wrong; do not quote these points: "
            'hushsweep query "FROM sandwich WHERE flag IS NOT NULL"',
            soft_wrap=True,
        )
    return True
