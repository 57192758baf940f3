"""Every bound against noise, with the accuracy that the noise costs beside it."""

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hushsweep.dashboards.curves import Curve
from hushsweep.dashboards.figures.style import (
    GAP,
    MARKERS,
    PANEL,
    dress_axis,
    level_axis,
    logarithmic,
    panels_in_a_row,
    write_heading,
    write_legend,
)
from hushsweep.dashboards.figures.tradeoff import ACCURACY, describe_data, draw_curve, finish_panel, is_drawn
from hushsweep.dashboards.palette import COLOURS, INK
from hushsweep.dashboards.promises import ORDER, is_bound, place
from hushsweep.dashboards.series import Series, series_points

_SPAN = 1e4
"""Largest to smallest error that is drawn: a search of a few modes has a median next to nothing."""
_ERROR = "Reconstruction error, std  (normalised pixels)"
_SUCCESS = "Chance of the right guess, at most"
_LEGEND_WIDTH = 12
"""Characters of legend per inch."""


def bounds_figure(
    series: Sequence[Series], curve: Curve, tradeoff_rows: Sequence[dict[str, Any]]
) -> Figure | None:
    """Draw accuracy and every bound of one curve against its level; None when no bound can be drawn.

    The strongest search of a bound is drawn bold, its others thin. Levels and bounds that are not positive, which
    a logarithmic axis cannot show, are left out; the subtitle names bounds of which nothing is left.
    """
    accuracy = [r for r in tradeoff_rows if r["curve_id"] == curve.curve_id and (r["level"] or 0) > 0]
    kinds = [kind for kind in ("errors", "chances") if any(series_points(one, kind) for one in series)]
    if not kinds:
        return None
    has_accuracy = any(is_drawn(ACCURACY, row) for row in accuracy)
    panels = len(kinds) + has_accuracy
    labelled = [one for one in series if one.is_strongest and any(series_points(one, kind) for kind in kinds)]
    columns = int(_LEGEND_WIDTH * (panels * PANEL[0] + (panels - 1) * GAP))
    labels = {one: textwrap.fill(_describe(one, series), columns) for one in labelled}
    lines = sum(1 + label.count("\n") * 0.85 for label in labels.values())
    figure, axes = panels_in_a_row(panels, legend_lines=lines)
    if has_accuracy:
        draw_curve(axes[0], ACCURACY, accuracy, 6, 0.5, "_nolegend_")
        finish_panel(axes[0], ACCURACY, accuracy)
    level_names = [curve.fields.get("level_name")]
    for axis, kind in zip(axes[has_accuracy:], kinds, strict=True):
        drawn = {one: points for one in series if (points := series_points(one, kind))}
        for one in sorted(drawn, key=lambda one: one.is_strongest):
            label = labels.pop(one) if one in labels else "_nolegend_"
            _draw(axis, one, drawn[one], label)
        dress_axis(axis, _ERROR if kind == "errors" else _SUCCESS)
        level_axis(axis, level_names, [level for points in drawn.values() for level in points])
        if kind == "errors":
            logarithmic(axis, "y")
            top = max(value for points in drawn.values() for value in points.values())
            axis.set_ylim(bottom=max(axis.get_ylim()[0], top / _SPAN))
        else:
            axis.set_ylim(0, 1.02)
            axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    write_heading(figure, curve.name, _subtitle(series, kinds, accuracy))
    write_legend(figure, columns=1, handlelength=3.2)
    return figure


def line_style(series: Series) -> dict[str, Any]:
    """Colour, marker and line of the bound: solid for unbiased estimators, dashed beyond, dotted for none."""
    number = place(series.bound)[0]
    number = ORDER.index("cramer_rao") if series.bound == "cramer_rao_estimate" else number
    if not is_bound(series.holds_for):
        line: dict[str, Any] = {"linestyle": (0, (1, 1.6)), "markerfacecolor": "white"}
    else:
        line = {"linestyle": "-" if str(series.holds_for).startswith("unbiased") else (0, (4, 2))}
    colours = (*COLOURS, INK)
    return {"color": colours[number % len(colours)], "marker": MARKERS[number % len(MARKERS)], **line}


def _draw(axis: Axes, series: Series, points: dict[float, float], label: str) -> None:
    levels = sorted(points)
    axis.plot(
        levels,
        [points[level] for level in levels],
        label=label,
        linewidth=2.0 if series.is_strongest else 0.8,
        markersize=5.0 if series.is_strongest else 2.5,
        **line_style(series),
    )


def _describe(series: Series, among: Sequence[Series]) -> str:
    several = len({one.measure_id for one in among if one.label == series.label}) > 1
    name = series.label + (f" [{series.measure_id[:8]}]" if several else "")
    if not is_bound(series.holds_for):
        return f"{name}: {series.holds_for or 'no bound'}"
    return f"{name}: for {series.holds_for}"


def _subtitle(series: Sequence[Series], kinds: Sequence[str], accuracy: Sequence[dict[str, Any]]) -> str:
    images = max(one.images for one in series)
    parts = [describe_data(accuracy)] if accuracy else []
    parts.append(
        f"bounds on up to {images:,} images: median over modes and images, or root of the mean squared error"
    )
    if not all(one.is_strongest for one in series):
        parts.append("thin: weaker searches of the same bound")
    empty = sorted({one.label for one in series if not any(series_points(one, kind) for kind in kinds)})
    if empty:
        parts.append(f"zero and so not drawn: {', '.join(empty)}")
    return " · ".join(parts)
