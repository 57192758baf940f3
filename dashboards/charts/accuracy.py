"""Accuracy against noise, with the error of every point."""

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from hushsweep.dashboards.charts.style import (
    HEIGHT,
    WIDTH,
    Row,
    chosen,
    colour,
    faded,
    level_axis,
    series_names,
    shape,
    zoom,
)

_Z = 1.959963984540054
"""Standard errors on either side that hold 95 % of a normal distribution."""


def accuracy_chart(
    rows: Sequence[Row], names: Mapping[str, str] | None = None, *, width: int = 2 * WIDTH
) -> alt.LayerChart | None:
    """Draw accuracy against the level, a line per curve, in bands of 95 %; None where there is none to draw.

    Levels that are not positive, which a logarithmic axis cannot show, are left out; accuracy without noise is
    dashed. A click on the legend leaves the others pale.

    Args:
        rows: Rows of the view tradeoff, of one or more sweeps.
        names: Curve id to its name in the legend; without, curves are named by what tells them apart.
        width: Of the plot, in pixels.
    """
    drawn = [row for row in rows if row["top1"] is not None and (row["level"] or 0) > 0]
    if not drawn:
        return None
    named = series_names(drawn, names)
    order = list(dict.fromkeys(named.values()))
    frame = pd.DataFrame([_numbers(row, named[row["curve_id"]]) for row in drawn])
    choice = chosen("curve", "accuracy_curve")
    base = alt.Chart(frame).encode(x=level_axis(drawn), color=colour("curve", order), detail="line:N")
    y = alt.Y(
        "accuracy:Q",
        scale=alt.Scale(zero=False),
        title="Top-1 accuracy",
        axis=alt.Axis(format="~%", labelOverlap=True),
    )
    band = base.mark_area(interpolate="linear").encode(
        y=alt.Y("low:Q", title="Top-1 accuracy"), y2="high:Q", opacity=faded(choice, 0.2)
    )
    line = base.mark_line(strokeWidth=2).encode(y=y, opacity=faded(choice))
    points = base.mark_point(filled=True, size=60).encode(
        y=y, shape=shape("curve", order), opacity=faded(choice), tooltip=_tooltip()
    )
    clean = (
        base.mark_line(strokeDash=[4, 3], strokeWidth=1.2)
        .encode(y="clean:Q", opacity=faded(choice, 0.75))
        .transform_filter("isValid(datum.clean)")
    )
    layers = [band, line, clean, points.add_params(choice, zoom("accuracy_zoom"))]
    return alt.LayerChart(layer=layers, width=width, height=HEIGHT)


def _numbers(row: Row, name: str) -> dict[str, object]:
    error = row["top1_stderr"] or 0.0
    return {
        "curve": name,
        "line": f"{row['sweep']} {row['curve_id']} {row['accuracy_measure_id']}",
        "sweep": row["sweep"],
        "point": row["point_id"],
        "model": row["model"],
        "mechanism": row["mechanism"],
        "seed": row["seed"],
        "level": row["level"],
        "accuracy": row["top1"],
        "error": row["top1_stderr"],
        "low": max(0.0, row["top1"] - _Z * error),
        "high": min(1.0, row["top1"] + _Z * error),
        "clean": row["clean_top1"],
        "images": row["accuracy_images"],
    }


def _tooltip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("curve:N"),
        alt.Tooltip("level:Q", format=".4~g"),
        alt.Tooltip("accuracy:Q", format=".2%"),
        alt.Tooltip("error:Q", format=".2%", title="standard error"),
        alt.Tooltip("clean:Q", format=".2%", title="without noise"),
        alt.Tooltip("images:Q", format=",", title="over images"),
        alt.Tooltip("point:N"),
    ]
