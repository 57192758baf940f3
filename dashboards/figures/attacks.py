"""Errors of attacks against noise, with bounds below and the blind floor above."""

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from hushsweep.dashboards.attacks import Line, span
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
_WIDE = 1.6
_STYLES: dict[str, dict[str, Any]] = {
    "every": {"linestyle": "-", "linewidth": 2.8},
    "unbiased": {"linestyle": (0, (4, 2)), "linewidth": 2.8},
    "attack": {"linestyle": "-", "linewidth": 1.4},
    "oracle": {"linestyle": (0, (5, 1.5, 1, 1.5)), "linewidth": 1.4, "markerfacecolor": "white"},
    "blind": {"linestyle": (0, (1, 1.6)), "linewidth": 1.6, "color": MUTED},
}


def attacks_figure(lines: Sequence[Line], curve: Curve) -> Figure | None:
    """Draw every attack and bound of one curve against its level; None where none can be drawn.

    Attacks have marks; bounds are bold lines without, solid where they hold for every estimator and dashed where only
    for unbiased ones; an oracle is dash-dotted, the blind floor dotted.
    """
    if not lines:
        return None
    labels = [textwrap.fill(line.name, int(_LEGEND_WIDTH * PANEL[0] * _WIDE)) for line in lines]
    figure, (axis,) = panels_in_a_row(
        1, legend_lines=sum(1 + 0.85 * label.count("\n") for label in labels), wide=_WIDE
    )
    styles = _line_styles(lines)
    for line, label, style in zip(lines, labels, styles, strict=True):
        axis.plot(list(line.points), list(line.points.values()), label=label, markersize=5.0, **style)
    dress_axis(axis, "Mean squared error  (normalised pixels²)")
    level_axis(axis, [curve.fields.get("level_name")], [level for line in lines for level in line.points])
    axis.set_ylim(*span(lines))
    logarithmic(axis, "y")
    axis.set_ylim(*span(lines))
    images = [line.images for line in lines if line.kind not in ("every", "unbiased")]
    over = [line.images for line in lines if line.kind in ("every", "unbiased")]
    told = [f"attacks on up to {max(images):,} images"] if images else []
    told += [f"bounds on up to {max(over):,}"] if over else []
    told.append(
        "a bound for every estimator is about an average of its own: see the table for like beside like"
    )
    write_heading(figure, curve.name, " · ".join(told))
    write_legend(figure, columns=1, handlelength=3.2)
    return figure


def _line_styles(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Bounds and attacks each begin the palette anew, from its two ends."""
    count = {"bound": 0, "attack": 0}
    found = list[dict[str, Any]]()
    for line in lines:
        side = "bound" if line.kind in ("every", "unbiased") else "attack"
        palette = COLOURS[::-1] if side == "bound" else COLOURS
        style = {"color": palette[count[side] % len(palette)], **_STYLES[line.kind]}
        if line.kind in ("attack", "oracle"):
            style["marker"] = MARKERS[count[side] % len(MARKERS)]
        count[side] += line.kind != "blind"
        found.append(style)
    return found
