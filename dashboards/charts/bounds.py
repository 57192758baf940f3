"""Every bound against noise on one axis, and whom each holds for."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import altair as alt
import pandas as pd

from hushsweep.dashboards.charts.style import (
    CHART_COLOURS,
    HEIGHT,
    SHAPES,
    WIDTH,
    Row,
    chosen,
    faded,
    level_axis,
    plain_axis,
    zoom,
)
from hushsweep.dashboards.promises import is_bound, place
from hushsweep.dashboards.series import Series, series_of, series_points

_SPAN = 1e4
"""Largest to smallest error that is drawn."""
_AXES = {
    "errors": "Reconstruction error, std  (normalised pixels)",
    "chances": "Chance of the right guess, at most",
}
_DASHES: dict[str, list[float]] = {"unbiased": [1, 0], "every": [6, 3], "no bound": [1.5, 2.5]}


def bounds_chart(rows: Sequence[Row], *, width: int = WIDTH) -> alt.LayerChart | alt.HConcatChart | None:
    """Draw every bound of one curve against its level; None where none can be drawn.

    The legend says whom a bound holds for: solid lines hold for unbiased estimators, dashed ones for everybody,
    dotted ones are estimates. The strongest search of a bound is bold, its others thin. Bounds on the chance of a
    right guess have an axis of their own beside the errors'.

    Args:
        rows: Rows of the view bounds, of one curve of one sweep.
        width: Of a plot, in pixels.
    """
    series = list(chain(*series_of(rows).values()))
    panels = [
        _panel(series, kind, rows, width) for kind in _AXES if any(series_points(one, kind) for one in series)
    ]
    if not panels:
        return None
    return panels[0] if len(panels) == 1 else alt.hconcat(*panels, spacing=40)


def describe(series: Series) -> str:
    """Name of a bound and whom it holds for, as in a legend."""
    if not is_bound(series.holds_for):
        return f"{series.label}: {series.holds_for or 'no bound'}"
    return f"{series.label}: for {series.holds_for}"


def _panel(series: Sequence[Series], kind: str, rows: Sequence[Row], width: int) -> alt.LayerChart:
    strongest = {(one.measure_id, one.bound): describe(one) for one in series if one.is_strongest}
    drawn = {one: points for one in series if (points := series_points(one, kind))}
    names = list(dict.fromkeys(strongest[one.measure_id, one.bound] for one in drawn))
    numbers = [
        {
            "bound": strongest[one.measure_id, one.bound],
            "line": f"{one.measure_id} {one.picture}",
            "search": one.search or "",
            "holds_for": one.holds_for or "no bound",
            "level": level,
            "value": value,
            "over": one.images,
            "is_strongest": one.is_strongest,
        }
        for one, points in drawn.items()
        for level, value in sorted(points.items())
    ]
    styles = {strongest[one.measure_id, one.bound]: _style(one) for one in drawn}
    columns = list(zip(*(styles[name] for name in names), strict=True))
    top = max(max(points.values()) for points in drawn.values())
    least = min(min(points.values()) for points in drawn.values())
    scale = (
        alt.Scale(type="log", domain=[max(least / 1.3, top / _SPAN), 1.3 * top], nice=False, clamp=True)
        if kind == "errors"
        else alt.Scale(domain=[0, 1])
    )
    axis = plain_axis() if kind == "errors" else alt.Axis(format="~%")
    legend = alt.Legend(
        title=None,
        orient="bottom",
        columns=1,
        labelLimit=0,
        symbolSize=110,
        symbolStrokeWidth=2,
        symbolOpacity=1,
    )

    def scaled(values: Sequence[Any]) -> alt.Scale:
        return alt.Scale(domain=names, range=list(values))

    choice = chosen("bound", f"{kind}_bound")
    base = alt.Chart(pd.DataFrame(numbers)).encode(
        x=level_axis(rows),
        y=alt.Y("value:Q", scale=scale, axis=axis, title=_AXES[kind]),
        color=alt.Color("bound:N", scale=scaled(columns[0]), legend=legend, sort=None),
        detail="line:N",
        opacity=faded(choice),
    )
    line = base.mark_line().encode(
        strokeDash=alt.StrokeDash("bound:N", scale=scaled(columns[2]), legend=legend, sort=None),
        strokeWidth=alt.condition("datum.is_strongest", alt.value(2.2), alt.value(0.8)),
    )
    points = base.mark_point(filled=True).encode(
        shape=alt.Shape("bound:N", scale=scaled(columns[1]), legend=legend, sort=None),
        size=alt.condition("datum.is_strongest", alt.value(55), alt.value(18)),
        tooltip=[
            alt.Tooltip("bound:N"),
            alt.Tooltip("search:N"),
            alt.Tooltip("holds_for:N", title="holds for"),
            alt.Tooltip("level:Q", format=".4~g"),
            alt.Tooltip("value:Q", format=".4~g"),
            alt.Tooltip("over:Q", format=",", title="over images"),
        ],
    )
    layers = [line, points.add_params(choice, zoom(f"{kind}_zoom"))]
    return alt.LayerChart(layer=layers, width=width, height=HEIGHT)


def _style(series: Series) -> tuple[str, str, list[float]]:
    """Colour, mark and dashes of a bound; an estimate of Cramér-Rao has the colour of that."""
    number = place("cramer_rao" if series.bound == "cramer_rao_estimate" else series.bound)[0]
    kind = "no bound"
    if is_bound(series.holds_for):
        kind = "unbiased" if str(series.holds_for).startswith("unbiased") else "every"
    colours = (*CHART_COLOURS, "#B8860B")
    return colours[number % len(colours)], SHAPES[number % len(SHAPES)], _DASHES[kind]
