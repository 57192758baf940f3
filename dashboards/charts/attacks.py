"""Errors of attacks against noise beside the bounds on the same quantity, a panel for each, and the blind floor."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from hushsweep.dashboards.attacks import Line, Panel, panels_of, span
from hushsweep.dashboards.charts.style import (
    CHART_COLOURS,
    HEIGHT,
    REFERENCE,
    SHAPES,
    WIDTH,
    Row,
    chosen,
    faded,
    level_axis,
    plain_axis,
    zoom,
)

_SPACING = 60
_OWN: dict[str, Any] = {"color": "independent", "shape": "independent", "strokeDash": "independent"}
"""Legends of a panel name its own lines."""
_TITLE = 8
"""Pixels of a letter of a title."""
ERROR = "Mean squared error  (normalised pixels²)"
_DASHES: dict[str, list[float]] = {
    "every": [1, 0],
    "unbiased": [6, 3],
    "attack": [1, 0],
    "oracle": [6, 2, 1.5, 2],
    "blind": [1.5, 2.5],
}
_SHOWN = {
    "every": "bound for every estimator",
    "unbiased": "bound for unbiased estimators",
    "attack": "attack",
    "oracle": "oracle",
    "blind": "blind floor",
}


def attacks_chart(
    reconstructions: Sequence[Row], sandwich: Sequence[Row], *, width: int = WIDTH
) -> alt.LayerChart | alt.VConcatChart | None:
    """Draw every attack and bound of one curve against its level; None where none can be drawn.

    The first panel is about the error on the images, each other about the average of which a bound for every estimator
    speaks. Attacks have marks. Bounds are bold lines without, solid where they hold for every estimator and dashed
    where only for unbiased ones; an oracle is dash-dotted, the blind floor dotted.

    Args:
        reconstructions: Rows of the view of that name, of one curve of one sweep.
        sandwich: Rows of the view of that name, of the same curve.
        width: Of the first panel, in pixels; where it is wide the others share it.
    """
    panels = panels_of(reconstructions, sandwich)
    if not panels:
        return None
    colours = _colours([line for panel in panels for line in panel.lines])
    levels = [*reconstructions, *sandwich]
    share = width if width <= WIDTH else (width - _SPACING * (len(panels) - 2)) // max(1, len(panels) - 1)
    drawn = [
        _panel(panel, number, colours, levels, share if number else width)
        for number, panel in enumerate(panels)
    ]
    if len(drawn) == 1:
        return drawn[0]
    below = alt.hconcat(*drawn[1:], spacing=_SPACING).resolve_scale(**_OWN)
    joined: alt.VConcatChart = alt.vconcat(drawn[0], below, spacing=30).resolve_scale(**_OWN)
    return joined


def _panel(
    panel: Panel, number: int, colours: Mapping[str, str], levels: Sequence[Row], width: int
) -> alt.LayerChart:
    lines = panel.lines
    names = [line.name for line in lines]
    rows = [
        {
            "line": line.name,
            "kind": _SHOWN[line.kind],
            "level": level,
            "mse": value,
            "over": line.images,
            "is_bound": line.kind in ("every", "unbiased"),
        }
        for line in lines
        for level, value in line.points.items()
    ]
    legend = alt.Legend(
        title=None,
        orient="bottom",
        columns=1,
        labelLimit=0,
        symbolSize=90,
        symbolStrokeWidth=2,
        symbolOpacity=1,
    )
    shapes = {name: SHAPES[place % len(SHAPES)] for place, name in enumerate(colours)}
    low, high = span(lines)
    choice = chosen("line", f"attack_{number}")
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=level_axis(levels),
        y=alt.Y(
            "mse:Q",
            scale=alt.Scale(type="log", domain=[low, high], nice=False),
            axis=plain_axis(),
            title=ERROR,
        ),
        color=alt.Color(
            "line:N",
            scale=alt.Scale(domain=names, range=[colours[name] for name in names]),
            legend=legend,
            sort=None,
        ),
        opacity=faded(choice),
    )
    drawn = base.mark_line(clip=True).encode(
        strokeDash=alt.StrokeDash(
            "line:N",
            scale=alt.Scale(domain=names, range=[_DASHES[line.kind] for line in lines]),
            legend=legend,
            sort=None,
        ),
        strokeWidth=alt.condition("datum.is_bound", alt.value(3.2), alt.value(1.6)),
    )
    marks = base.mark_point(filled=True, clip=True).encode(
        shape=alt.Shape(
            "line:N",
            scale=alt.Scale(domain=names, range=[shapes[name] for name in names]),
            legend=legend,
            sort=None,
        ),
        size=alt.condition("datum.is_bound", alt.value(8), alt.value(55)),
        tooltip=[
            alt.Tooltip("line:N"),
            alt.Tooltip("kind:N"),
            alt.Tooltip("level:Q", format=".4~g"),
            alt.Tooltip("mse:Q", format=".4~g"),
            alt.Tooltip("over:Q", format=",", title="over images"),
        ],
    )
    return alt.LayerChart(
        layer=[drawn, marks.add_params(choice, zoom(f"attack_zoom_{number}"))],
        width=width,
        height=HEIGHT,
        title=textwrap.wrap(f"Error {panel.about}", width // _TITLE),
    )


def _colours(lines: Sequence[Line]) -> dict[str, str]:
    """Colour of every name; bounds and attacks each begin the palette anew, from its two ends."""
    count = {"bound": 0, "attack": 0}
    found = dict[str, str]()
    for line in lines:
        if line.name in found:
            continue
        if line.kind == "blind":
            found[line.name] = REFERENCE
            continue
        side = "bound" if line.kind in ("every", "unbiased") else "attack"
        palette = CHART_COLOURS[-2::-1] if side == "bound" else CHART_COLOURS
        found[line.name] = palette[count[side] % len(palette)]
        count[side] += 1
    return found
