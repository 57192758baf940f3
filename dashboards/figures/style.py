"""The look that all figures share: colours, panels, titles, axes."""

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from hushsweep.dashboards.palette import GRID, INK, LEVELS, MUTED
from hushsweep.datasets.results.files import write_atomically

MARKERS = ("o", "s", "^", "D", "v")
# Inches.
PANEL, LEFT, GAP, RIGHT, TOP, BOTTOM, LEGEND_LINE = (4.3, 2.9), 0.75, 0.85, 0.25, 1.1, 0.75, 0.225


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` as a PNG that is whole or absent."""
    write_atomically(path, lambda stream: figure.savefig(stream, format="png", dpi=160, facecolor="white"))


def panels_in_a_row(panels: int, *, legend_lines: float, wide: float = 1.0) -> tuple[Figure, list[Axes]]:
    """Make a figure of `panels` equal panels in a row, `wide` times the usual width, with room for title and legend."""
    panel = wide * PANEL[0]
    bottom = BOTTOM + LEGEND_LINE * legend_lines
    width = LEFT + panels * panel + (panels - 1) * GAP + RIGHT
    height = TOP + PANEL[1] + bottom
    figure = Figure(figsize=(width, height))
    axes = [
        figure.add_axes(
            (
                (LEFT + number * (panel + GAP)) / width,
                bottom / height,
                panel / width,
                PANEL[1] / height,
            )
        )
        for number in range(panels)
    ]
    return figure, axes


def write_heading(figure: Figure, title: str, subtitle: str, *, left: float = LEFT) -> None:
    """Title and muted subtitle at the top, starting `left` inches from the edge."""
    width, height = figure.get_size_inches()
    x = left / width
    figure.text(
        x, 1 - 0.18 / height, title, va="top", fontsize=14, weight="bold", color=INK, parse_math=False
    )
    wrapped = textwrap.fill(subtitle, int(12 * (width - left)))
    figure.text(x, 1 - 0.47 / height, wrapped, va="top", fontsize=9.5, color=MUTED, parse_math=False)


def write_legend(figure: Figure, *, columns: int, **options: Any) -> None:
    """Legend of all labelled lines below the panels; `options` as for matplotlib's."""
    width, height = figure.get_size_inches()
    legend = figure.legend(
        loc="lower left",
        bbox_to_anchor=((LEFT - 0.1) / width, 0.08 / height),
        borderaxespad=0,
        ncols=columns,
        frameon=False,
        fontsize=9.5,
        **options,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def dress_axis(axis: Axes, title: str) -> None:
    """Title, grid and the house's spines and ticks."""
    axis.set_title(title, loc="left", fontsize=10.5, color=INK, pad=8)
    axis.grid(color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(colors=MUTED, labelsize=9, length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(MUTED)


def level_axis(axis: Axes, names: Sequence[str | None], levels: Sequence[float]) -> None:
    """Logarithmic noise axis, ticked at `levels` and labelled by the one name among `names`."""
    name = str(names[0]) if len(set(names)) == 1 else "noise level"
    axis.set_xlabel(LEVELS.get(name, name.replace("_", " ")), fontsize=9.5, color=INK)
    logarithmic(axis, "x", sorted(set(levels)))


def logarithmic(axis: Axes, which: str, values: Sequence[float] = ()) -> None:
    """Logarithmic scale in plain numbers: at `values` if these leave room, else at 1, 2, 5 or at decades."""
    (axis.set_xscale if which == "x" else axis.set_yscale)("log")
    low, high = axis.get_xlim() if which == "x" else axis.get_ylim()
    steps = (1.0,) if high / low > 3000 else (1.0, 2.0, 5.0)
    gaps = [after / before for before, after in pairwise(values)]
    roomy = 0 < len(values) < 9 and all(gap > (high / low) ** 0.06 for gap in gaps)
    scale = axis.xaxis if which == "x" else axis.yaxis
    scale.set_major_locator(FixedLocator(list(values)) if roomy else LogLocator(subs=steps))
    scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    scale.set_minor_locator(NullLocator())
