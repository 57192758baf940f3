"""Errors of attacks against noise, with bounds below and the blind floor above."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from hushsweep.dashboards.attacks import Line, lines_of, span
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
) -> alt.LayerChart | None:
    """Draw every attack and bound of one curve against its level; None where none can be drawn.

    Attacks have marks. Bounds are bold lines without, solid where they hold for every estimator and dashed where
    only for unbiased ones; an oracle is dash-dotted, the blind floor dotted.

    Args:
        reconstructions: Rows of the view of that name, of one curve of one sweep.
        sandwich: Rows of the view of that name, of the same curve.
        width: Of the plot, in pixels.
    """
    lines = lines_of(reconstructions, sandwich)
    if not lines:
        return None
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
    low, high = span(lines)
    choice = chosen("line", "attack")
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=level_axis([*reconstructions, *sandwich]),
        y=alt.Y(
            "mse:Q",
            scale=alt.Scale(type="log", domain=[low, high], nice=False),
            axis=plain_axis(),
            title=ERROR,
        ),
        color=alt.Color(
            "line:N", scale=alt.Scale(domain=names, range=_colours(lines)), legend=legend, sort=None
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
            "line:N", scale=alt.Scale(domain=names, range=_shapes(lines)), legend=legend, sort=None
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
        layer=[drawn, marks.add_params(choice, zoom("attack_zoom"))], width=width, height=HEIGHT
    )


def _colours(lines: Sequence[Line]) -> list[str]:
    """Bounds and attacks each begin the palette anew, from its two ends."""
    count = {"bound": 0, "attack": 0}
    found = list[str]()
    for line in lines:
        if line.kind == "blind":
            found.append(REFERENCE)
            continue
        side = "bound" if line.kind in ("every", "unbiased") else "attack"
        palette = CHART_COLOURS[-2::-1] if side == "bound" else CHART_COLOURS
        found.append(palette[count[side] % len(palette)])
        count[side] += 1
    return found


def _shapes(lines: Sequence[Line]) -> list[str]:
    return [SHAPES[number % len(SHAPES)] for number in range(len(lines))]
