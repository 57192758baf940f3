"""Errors of attacks against noise beside the bounds on the same quantity, a panel for each, and the blind floor."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from hushsweep.dashboards.attacks import Line, Panel, span
from hushsweep.dashboards.curves import Curve
from hushsweep.dashboards.figures.style import (
    MARKERS,
    PANEL,
    dress_axis,
    level_axis,
    logarithmic,
    panels_in_a_row,
    write_heading,
    write_legend,
)
from hushsweep.dashboards.palette import COLOURS, MUTED

_LEGEND_WIDTH = 12
"""Characters of legend per inch."""
_TITLE_WIDTH = 11
"""The same of a panel's title."""
_WIDE = 1.6
_STYLES: dict[str, dict[str, Any]] = {
    "every": {"linestyle": "-", "linewidth": 2.8},
    "unbiased": {"linestyle": (0, (4, 2)), "linewidth": 2.8},
    "attack": {"linestyle": "-", "linewidth": 1.4},
    "oracle": {"linestyle": (0, (5, 1.5, 1, 1.5)), "linewidth": 1.4, "markerfacecolor": "white"},
    "blind": {"linestyle": (0, (1, 1.6)), "linewidth": 1.6, "color": MUTED},
}


def attacks_figure(panels: Sequence[Panel], curve: Curve) -> Figure | None:
    """Draw every attack and bound of one curve against its level; None where none can be drawn.

    Attacks have marks; bounds are bold lines without, solid where they hold for every estimator and dashed where only
    for unbiased ones; an oracle is dash-dotted, the blind floor dotted.
    """
    if not panels:
        return None
    wide, columns = (_WIDE, 1) if len(panels) == 1 else (1.0, len(panels))
    styles = _line_styles([line for panel in panels for line in panel.lines])
    labels = {name: textwrap.fill(name, int(_LEGEND_WIDTH * wide * PANEL[0])) for name in styles}
    lines = [1 + 0.85 * label.count("\n") for label in labels.values()]
    each = math.ceil(len(lines) / columns)
    height = max(sum(lines[first : first + each]) for first in range(0, len(lines), each))
    figure, axes = panels_in_a_row(len(panels), legend_lines=height, wide=wide)
    for axis, panel in zip(axes, panels, strict=True):
        for line in panel.lines:
            label = labels.pop(line.name, None)  # once in the legend
            axis.plot(
                list(line.points),
                list(line.points.values()),
                label=label,
                markersize=5.0,
                **styles[line.name],
            )
        dress_axis(axis, textwrap.fill(f"Squared error {panel.about}", int(_TITLE_WIDTH * wide * PANEL[0])))
        levels = [level for line in panel.lines for level in line.points]
        level_axis(axis, [curve.fields.get("level_name")], levels)
        axis.set_ylim(*span(panel.lines))
        logarithmic(axis, "y")
        axis.set_ylim(*span(panel.lines))
    write_heading(figure, curve.name, f"mean squared error in normalised pixels² · {_over(panels)}")
    write_legend(figure, columns=columns, handlelength=3.2)
    return figure


def _over(panels: Sequence[Panel]) -> str:
    """How many images are behind the numbers of each panel."""
    most = [f"{max(line.images for line in panel.lines):,}" for panel in panels]
    return f"over up to {', '.join(most)} images"


def _line_styles(lines: Sequence[Line]) -> dict[str, dict[str, Any]]:
    """Style of every name; bounds and attacks each begin the palette anew, from its two ends."""
    count = {"bound": 0, "attack": 0}
    found = dict[str, dict[str, Any]]()
    for line in lines:
        if line.name in found:
            continue
        side = "bound" if line.kind in ("every", "unbiased") else "attack"
        palette = COLOURS[::-1] if side == "bound" else COLOURS
        style = {"color": palette[count[side] % len(palette)], **_STYLES[line.kind]}
        if line.kind in ("attack", "oracle"):
            style["marker"] = MARKERS[count[side] % len(MARKERS)]
        count[side] += line.kind != "blind"
        found[line.name] = style
    return found
