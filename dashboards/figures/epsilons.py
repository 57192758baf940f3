"""Accuracy against the epsilon of the training: one panel per data set and network, one line per method."""

import math
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from hushsweep.dashboards.figures.style import (
    MARKERS,
    dress_axis,
    logarithmic,
    panels_in_a_row,
    save_figure,
    write_heading,
    write_legend,
)
from hushsweep.dashboards.palette import COLOURS, INK
from hushsweep.dashboards.queries import dp

_PANEL = ("dataset", "model", "weights", "train_limit", "class_counts")
_LETTERS = 60
"""Of the legend, side by side under one panel."""
Row = dict[str, Any]


def draw_epsilons(results: Path | str, sweep: str, folder: Path | str) -> list[Path]:
    """Write :func:`epsilons_figure` of `sweep` into `folder` as epsilons.png, if there is something to draw.

    Raises:
        StoreError: there are no results, no such sweep in them, or the file cannot be written.
    """
    figure = epsilons_figure(dp(results, sweep).to_pylist(), title=sweep)
    if figure is None:
        return []
    path = Path(folder) / "epsilons.png"
    save_figure(figure, path)
    return [path]


def epsilons_figure(rows: Sequence[Row], *, title: str) -> Figure | None:
    """Draw the rows of the view dp of one sweep; None where no accuracy has a finite epsilon above 0.

    Points are means over seeds with their standard deviation. A dashed line is the accuracy without privacy: of the
    method with the same name and no noise, or of the network that the sweep did nothing to.
    """
    panels = {key: own for key, own in _grouped(rows, _PANEL).items() if any(map(_is_drawn, own))}
    if not panels:
        return None
    varied = [place for place in range(len(_PANEL)) if len({key[place] for key in panels}) > 1]
    names = sorted({_method(row) for own in panels.values() for row in own if _is_drawn(row)})
    room = _LETTERS * len(panels)
    columns = 1 if max(map(len, names)) > room // 2 else 2
    labels = [textwrap.fill(name, room) for name in names]
    lines = sum(label.count("\n") + 1 for label in labels) + 1
    figure, axes = panels_in_a_row(len(panels), legend_lines=math.ceil(lines / columns))
    for axis, (key, own) in zip(axes, panels.items(), strict=True):
        words = " · ".join(_told(_PANEL[place], key[place]) for place in varied)
        dress_axis(axis, words or "Top-1 accuracy")
        for number, name in enumerate(names):
            _draw(axis, [row for row in own if _method(row) == name], number)
        _draw_reference(axis, own)
        logarithmic(axis, "x")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
        axis.set_xlabel("epsilon of the training (PLD)", fontsize=9.5, color=INK)
    write_heading(figure, title, _subtitle(rows, panels.values()))
    handles = [
        axes[0].plot([], [], color=COLOURS[n % len(COLOURS)], marker=MARKERS[n % len(MARKERS)], label=label)[
            0
        ]
        for n, label in enumerate(labels)
    ]
    handles += axes[0].plot([], [], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="without privacy")
    write_legend(figure, columns=columns, handles=handles)
    return figure


def _told(name: str, value: object) -> str:
    if value is None:
        return f"{name.replace('_', ' ')}: all"
    return f"{name.replace('_', ' ')}: {value}" if name in ("train_limit", "class_counts") else str(value)


def _draw(axis: Axes, rows: Sequence[Row], number: int) -> None:
    levels = _grouped([row for row in rows if _is_drawn(row)], ("level",))
    points = sorted(
        (fmean(row["epsilon"] for row in own), *_spread([row["top1"] for row in own]))
        for own in levels.values()
    )
    if points:
        x, y, error = zip(*points, strict=True)
        axis.errorbar(
            x,
            y,
            yerr=error,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            linewidth=1.6,
            elinewidth=1,
            capsize=2.5,
        )


def _draw_reference(axis: Axes, rows: Sequence[Row]) -> None:
    untouched = [row["top1"] for row in rows if row["top1"] is not None and is_without_privacy(row)]
    if untouched:
        axis.axhline(fmean(untouched), color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)


def is_without_privacy(row: Row) -> bool:
    """Tell whether a row of the view dp is of a network that was trained without noise."""
    return bool(row["method"] == "none" or row["noise_multiplier"] == 0)


def _is_drawn(row: Row) -> bool:
    return row["top1"] is not None and row["epsilon"] is not None and row["epsilon"] > 0


def _method(row: Row) -> str:
    return " · ".join(filter(None, (row["method"], row["variant"])))


def _grouped(rows: Iterable[Row], names: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    groups = defaultdict[tuple[Any, ...], list[Row]](list)
    for row in rows:
        groups[tuple(row[name] for name in names)].append(row)
    return dict(groups)


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; NaN, which draws no bar, of a single value."""
    return fmean(values), stdev(values) if len(values) > 1 else math.nan


def _subtitle(rows: Sequence[Row], panels: Iterable[Sequence[Row]]) -> str:
    data = sorted({"/".join(filter(None, (row["dataset"], row["split"]))) for row in rows})
    deltas = sorted({row["delta"] for row in rows if row["delta"] is not None})
    seeds = max(len({row["seed"] for row in own if _is_drawn(row)}) for own in panels)
    parts = [", ".join(data), f"delta {', '.join(f'{delta:g}' for delta in deltas)}"]
    parts.append(f"mean and standard deviation over {seeds} seeds" if seeds > 1 else "1 seed")
    parts += sorted({row["caveat"] for row in rows if row["caveat"]})
    return " · ".join(parts)
