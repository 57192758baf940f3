"""The trade-off: primary accuracy against what a server still learns, with every method's Pareto frontier."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Bbox

from hushsweep.dashboards.figures.style import (
    MARKERS,
    dress_axis,
    logarithmic,
    panels_in_a_row,
    write_heading,
    write_legend,
)
from hushsweep.dashboards.palette import COLOURS, INK, MUTED
from hushsweep.dashboards.queries import frontier

_GREY, _BAND = "#A9B1BA", "#FFF4D6"
_POINT = 0.01
"""Loss of primary accuracy within which methods are compared."""
_LETTER, _LINE, _MARK = 4.6, 9.0, 3.0
"""In points: width and height of a level's letters beside its point, and half the width of that."""
_TELLING = ("dataset", "split", "task", "model", "weights", "cut")


class _Panel(NamedTuple):
    """What one panel draws of the view frontier: columns, the axis' words."""

    value: str
    std: str
    is_pareto: str
    axis: str


_ATTACK = _Panel(
    "secondary_strongest", "secondary_std", "is_pareto", "secondary accuracy of the strongest attacker"
)
_INFORMATION = _Panel(
    "mi_upper", "mi_upper_std", "is_pareto_mi", "information about the image, at most  (bits)"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Setting:
    """The trade-off on one data set with one network.

    Attributes:
        setting: Its id in the views.
        name: What tells it from the other settings of the sweep; "" if there is one alone.
        rows: Its rows of the view frontier.
    """

    setting: str
    name: str
    rows: list[dict[str, Any]]


def read_settings(results: Path | str, sweep: str) -> list[Setting]:
    """Read the trade-off of `sweep`, one item per data set and network that has secondary accuracies.

    Raises:
        StoreError: there are no results, no such sweep in them, or a file is damaged.
    """
    groups = defaultdict[str, list[dict[str, Any]]](list)
    for row in frontier(results, sweep).to_pylist():
        groups[row["setting"]].append(row)
    found = {key: rows for key, rows in groups.items() if any(_has(_ATTACK, row) for row in rows)}
    shown = [name for name in _TELLING if len({rows[0][name] for rows in found.values()}) > 1]
    names = {key: " · ".join(str(rows[0][name]) for name in shown) for key, rows in found.items()}
    taken = list(names.values())
    return [
        Setting(setting=key, name=names[key] if taken.count(names[key]) == 1 else key, rows=rows)
        for key, rows in found.items()
    ]


def frontier_figure(setting: Setting, *, title: str) -> Figure:
    """Draw primary accuracy against the strongest attacker's accuracy and, where it is known, against information.

    Coloured points are those of a method that no other level of the method beats, joined by a line; its other ones
    are grey. Error bars are standard deviations over seeds; a hollow point has fewer seeds than the sweep asks for.
    Information that is not positive, which a logarithmic axis cannot show, is left out.
    """
    rows = [row for row in setting.rows if row["method"] != "none"]
    panels = [panel for panel in (_ATTACK, _INFORMATION) if any(_has(panel, row) for row in rows)] or [
        _ATTACK
    ]
    methods = group_methods(rows)
    marks = list(_explained(setting.rows, rows))
    columns = 2 if len(panels) == 1 else 3
    figure, axes = panels_in_a_row(len(panels), legend_lines=math.ceil((len(methods) + len(marks)) / columns))
    for axis, panel in zip(axes, panels, strict=True):
        for number, (name, own) in enumerate(methods.items()):
            style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            _draw_method(axis, panel, own, style, name if axis is axes[0] else "_nolegend_")
        _draw_references(axis, panel, setting.rows)
        _finish(axis, panel)
        _write_levels(axis, panel, methods)
    write_heading(figure, title, _subtitle(setting.rows, rows))
    handles = axes[0].get_legend_handles_labels()[0]
    write_legend(figure, columns=columns, handles=[*handles, *marks])
    return figure


def group_methods(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by method, which is named with its place where it acts at several."""
    places = defaultdict[str, set[str]](set)
    for row in rows:
        places[row["method"]].add(row["place"])
    found = defaultdict[str, list[dict[str, Any]]](list)
    for row in rows:
        method = row["method"]
        found[method + (f", {row['place']}" if len(places[method]) > 1 else "")].append(row)
    return dict(sorted(found.items()))


def _has(panel: _Panel, row: dict[str, Any]) -> bool:
    value = row[panel.value]
    return row["primary_top1"] is not None and value is not None and (panel is _ATTACK or value > 0)


def _draw_method(
    axis: Axes, panel: _Panel, rows: Sequence[dict[str, Any]], style: dict[str, str], label: str
) -> None:
    drawn = sorted((row for row in rows if _has(panel, row)), key=lambda row: float(row[panel.value]))
    best = [row for row in drawn if row[panel.is_pareto]]
    x, y = [row[panel.value] for row in best], [row["primary_top1"] for row in best]
    axis.plot(x, y, color=style["color"], linewidth=1.6)
    for row in drawn:
        colour = style["color"] if row[panel.is_pareto] else _GREY
        axis.errorbar(
            [row[panel.value]],
            [row["primary_top1"]],
            xerr=row[panel.std] or math.nan,
            yerr=row["primary_std"] or math.nan,
            color=colour,
            marker=style["marker"],
            markersize=2 * _MARK,
            markerfacecolor="white" if row["n_seeds"] < row["seeds"] else colour,
            linestyle="none",
            elinewidth=1,
            capsize=2.5,
            zorder=3 if row[panel.is_pareto] else 2,
        )
    axis.plot([], [], color=style["color"], marker=style["marker"], linewidth=1.6, markersize=6, label=label)


def _draw_references(axis: Axes, panel: _Panel, rows: Sequence[dict[str, Any]]) -> None:
    clean, floor = rows[0]["reference_primary"], _floor(rows)
    axis.axhspan(clean - _POINT, clean, color=_BAND, linewidth=0, zorder=0)
    axis.axhline(clean, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    if panel is not _ATTACK:
        return
    if floor is not None:
        axis.axvline(floor, color=INK, linewidth=1, linestyle=(0, (1, 1.5)), zorder=1)
        axis.plot(
            [floor], [clean], marker="*", markersize=13, color=INK, linestyle="none", clip_on=False, zorder=4
        )
    for row in rows:
        if row["method"] == "none" and _has(panel, row):
            axis.plot(
                [row[panel.value]],
                [row["primary_top1"]],
                marker="X",
                markersize=8,
                color=INK,
                linestyle="none",
                zorder=4,
            )


def _explained(rows: Sequence[dict[str, Any]], methods: Sequence[dict[str, Any]]) -> Iterator[Line2D | Patch]:
    """What the legend says of marks that are no method's."""
    floor = _floor(rows)
    words = "without noise" if rows[0]["reference"] == "none" else rows[0]["reference"]
    dashes = (0, (4, 3))
    if any(row["method"] == "none" and _has(_ATTACK, row) for row in rows):
        yield Line2D([], [], color=INK, linewidth=1, linestyle=dashes, marker="X", markersize=7, label=words)
    else:
        yield Line2D([], [], color=INK, linewidth=1, linestyle=dashes, label=words)
    yield Patch(color=_BAND, label=f"no more than {100 * _POINT:g} point lost")
    if floor is not None:
        name = f"blind floor, {100 * floor:.1f} %"
        yield Line2D([], [], color=INK, linewidth=1, linestyle=(0, (1, 1.5)), label=name)
        yield Line2D([], [], color=INK, marker="*", markersize=11, linestyle="none", label="ideal")
    if any(row["is_pareto"] is False or row["is_pareto_mi"] is False for row in methods):
        yield Line2D([], [], color=_GREY, marker="o", linestyle="none", label="beaten by another level")
    if any(row["n_seeds"] < row["seeds"] for row in methods):
        yield Line2D(
            [], [], color=MUTED, marker="o", markerfacecolor="white", linestyle="none", label="seeds missing"
        )


def _floor(rows: Sequence[dict[str, Any]]) -> float | None:
    return max((row["floor"] for row in rows if row["floor"] is not None), default=None)


def _finish(axis: Axes, panel: _Panel) -> None:
    dress_axis(axis, "Primary accuracy")
    percent = FuncFormatter(lambda value, _: f"{100 * value:.4g} %")
    axis.yaxis.set_major_formatter(percent)
    axis.set_ylim(top=min(axis.get_ylim()[1], 1.01))
    if panel is _ATTACK:
        axis.xaxis.set_major_formatter(percent)
        axis.set_xlim(right=min(axis.get_xlim()[1], 1.03))
    else:
        logarithmic(axis, "x")
    axis.set_xlabel(panel.axis, fontsize=9.5, color=INK)


def _write_levels(axis: Axes, panel: _Panel, methods: dict[str, list[dict[str, Any]]]) -> None:
    """Write levels beside the points of the frontiers, where they cover neither one another nor a point."""
    found = axis.get_figure(root=True)
    scale = (found.dpi if found else 72) / 72
    drawn = [
        (row[panel.value], row["primary_top1"]) for own in methods.values() for row in own if _has(panel, row)
    ]
    corners = [axis.transData.transform(at) - scale * _MARK for at in drawn]
    taken = [Bbox.from_bounds(x, y, 2 * scale * _MARK, 2 * scale * _MARK) for x, y in corners]
    for number, rows in enumerate(methods.values()):
        for row in sorted(rows, key=lambda row: row["primary_top1"]):
            if not (_has(panel, row) and row[panel.is_pareto] and row["level"] is not None):
                continue
            text, at = f"{row['level']:.3g}", (row[panel.value], row["primary_top1"])
            x, y = axis.transData.transform(at) + scale * np.array((5, -9))
            box = Bbox.from_bounds(x, y, scale * _LETTER * len(text), scale * _LINE)
            if any(box.overlaps(other) for other in taken):
                continue
            taken.append(box)
            colour = COLOURS[number % len(COLOURS)]
            axis.annotate(text, at, (5, -9), textcoords="offset points", fontsize=7.5, color=colour)


def _subtitle(rows: Sequence[dict[str, Any]], methods: Sequence[dict[str, Any]]) -> str:
    row = rows[0]
    parts = ["/".join(filter(None, (row["dataset"], row["split"]))), row["task"], row["model"]]
    if row["images"] is not None:
        parts.append(f"{max(r['images'] or 0 for r in rows):,} images")
    seeds = max((row["n_seeds"] for row in methods), default=1)
    parts.append(f"mean and standard deviation over {seeds} seeds" if seeds > 1 else "1 seed")
    names = sorted({row["level_name"].replace("_", " ") for row in methods if row["level_name"]})
    parts += [f"beside points: {', '.join(names)}"] if names else []
    parts += sorted({r["caveat"] for r in rows if r["caveat"]})
    return " · ".join(filter(None, parts))
