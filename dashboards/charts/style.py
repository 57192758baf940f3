"""What all charts share: colours by name, axes, legends, and the look in light and dark."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from hushsweep.dashboards.curves import NAME_FIELDS, name_curves
from hushsweep.dashboards.palette import COLOURS, GRID, INK, LEVELS, MUTED

Row = Mapping[str, Any]
REFERENCE = "#808080"
"""Lines that are no curve's; this and the colours below are legible on white and on black."""
CHART_COLOURS = (*COLOURS[:-1], "#8C8C8C")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
WIDTH, HEIGHT = 380, 280
_TICKS = 10
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
_DARK_INK, _DARK_MUTED, _DARK_GRID = "#E6EDF3", "#9DA7B1", "#30363D"


def look(*, dark: bool = False, background: str | None = None) -> dict[str, Any]:
    """Vega-Lite's ``config`` for light or dark surroundings; without `background` these shine through."""
    ink, muted, grid = (_DARK_INK, _DARK_MUTED, _DARK_GRID) if dark else (INK, MUTED, GRID)
    return {
        "background": background or "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            "gridColor": grid,
            "domainColor": muted,
            "tickColor": grid,
            "labelColor": muted,
            "titleColor": ink,
            "titleFontWeight": "normal",
            "labelFontSize": 11,
            "titleFontSize": 12,
        },
        "legend": {"labelColor": ink, "titleColor": ink, "labelFontSize": 11.5, "labelLimit": 0},
        "title": {"color": ink, "subtitleColor": muted, "anchor": "start", "fontSize": 13},
    }


def spec(
    chart: alt.TopLevelMixin, *, dark: bool | None = None, background: str | None = None
) -> dict[str, Any]:
    """Write `chart` as Vega-Lite with all its rows; without a look where `dark` is None."""
    with alt.data_transformers.enable("default", max_rows=None):
        found: dict[str, Any] = chart.to_dict(validate=False)  # its parts were checked as they were made
    found.pop("config", None)
    if dark is not None:
        found["config"] = look(dark=dark, background=background)
    return found


def series_names(rows: Sequence[Row], names: Mapping[str, str] | None) -> dict[str, str]:
    """Name the curves of `rows`: by `names`, or by what tells them apart; equal names share a colour."""
    fields = {
        row["curve_id"]: {name: row[name] for name in NAME_FIELDS if row.get(name) is not None}
        for row in rows
    }
    found = name_curves(fields) if names is None or fields.keys() - names.keys() else {}
    return {curve_id: (names or {}).get(curve_id) or found[curve_id] for curve_id in fields}


def level_axis(rows: Sequence[Row]) -> alt.X:
    """Logarithmic axis of the column level: ticks at the levels of `rows` if these are few, titled by their name."""
    own = {row["level_name"] for row in rows if row["level_name"]}
    name = own.pop() if len(own) == 1 else "noise level"
    title = LEVELS.get(name, name.replace("_", " "))
    levels = sorted({row["level"] for row in rows if (row["level"] or 0) > 0})
    axis = plain_axis(values=levels) if len(levels) < _TICKS else plain_axis()
    return alt.X("level:Q", scale=alt.Scale(type="log", nice=False, padding=12), title=title, axis=axis)


def plain_axis(**options: Any) -> alt.Axis:
    """Axis in plain numbers."""
    return alt.Axis(format="~g", labelOverlap=True, **options)


def colour(column: str, names: Sequence[str]) -> alt.Color:
    """Colour of the column, in the order of `names`, with a legend of one name a line below the chart."""
    palette = [CHART_COLOURS[number % len(CHART_COLOURS)] for number in range(len(names))]
    return alt.Color(
        f"{column}:N", scale=alt.Scale(domain=list(names), range=palette), legend=_legend(), sort=None
    )


def shape(column: str, names: Sequence[str]) -> alt.Shape:
    """Mark of the column, as :func:`colour`: those that share a colour differ in the mark."""
    marks = [SHAPES[(n + n // len(CHART_COLOURS)) % len(SHAPES)] for n in range(len(names))]
    return alt.Shape(
        f"{column}:N", scale=alt.Scale(domain=list(names), range=marks), legend=_legend(), sort=None
    )


def _legend() -> alt.Legend:
    return alt.Legend(
        title=None, orient="bottom", columns=1, labelLimit=0, symbolStrokeWidth=2, symbolOpacity=1
    )


def chosen(column: str, name: str) -> alt.Parameter:
    """Legend entries that were clicked; shift adds one. Names of parameters are unique within a page's chart."""
    return alt.selection_point(name=name, fields=[column], bind="legend")


def faded(choice: alt.Parameter, opacity: float = 1.0) -> Any:
    """`opacity` for what is chosen, or for all while nothing is; the rest nearly vanishes."""
    return alt.condition(choice, alt.value(opacity), alt.value(opacity * 0.12))


def zoom(name: str) -> alt.Parameter:
    """Drag moves, shift and the wheel zooms, a double click resets: the wheel alone scrolls the page."""
    return alt.selection_interval(name=name, bind="scales", zoom="wheel![event.shiftKey]")
