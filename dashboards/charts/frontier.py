"""What accuracy is left against what is hidden, over all mechanisms, with the levels that no other beats."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import altair as alt
import pandas as pd

from hushsweep.dashboards.charts.style import (
    HEIGHT,
    REFERENCE,
    WIDTH,
    Row,
    chosen,
    colour,
    faded,
    shape,
    zoom,
)


class Hides(NamedTuple):
    """One way to say how much a point hides.

    Attributes:
        title: Of the axis.
        more: Whether a larger number hides more.
        columns: Where it stands: in the view frontier, else in the view overview.
        number_format: Of axis and tooltip.
        is_logarithmic: Whether the axis is.
    """

    title: str
    more: bool
    columns: tuple[str, ...]
    number_format: str
    is_logarithmic: bool


HIDES = {
    "secondary": Hides(
        "Secondary accuracy of the strongest attacker",
        False,
        ("secondary_strongest", "secondary"),
        ".1%",
        False,
    ),
    "mi_upper": Hides("Information about the image, at most  (bits)", False, ("mi_upper",), ".4~g", True),
    "hcr_std": Hides("HCR bound, std  (normalised pixels)", True, ("hcr_std",), ".4~g", True),
    "epsilon": Hides("Epsilon of the training", False, ("epsilon",), ".4~g", True),
}
"""What may stand on the axis, by the name of its column in the view overview."""


def frontier_chart(
    rows: Sequence[Row], hides: str = "secondary", *, width: int = 2 * WIDTH, name: str | None = None
) -> alt.LayerChart | None:
    """Draw accuracy against what a point hides, a colour per method; None where no row has both numbers.

    The grey line joins the points that no other point of the same setting beats in both. Numbers that are not
    positive are left out of logarithmic axes; the dotted line is the blind guess of the secondary label.

    Args:
        rows: Rows of the view frontier (means over seeds) or overview (one per point).
        hides: One of :data:`HIDES`.
        width: Of the plot, in pixels.
        name: Of its parameters, instead of `hides`: for a page that puts one chart in the place of another.

    Raises:
        KeyError: another `hides`.
    """
    what = HIDES[hides]
    numbers = [one for row in rows if (one := _numbers(row, what)) is not None]
    if not numbers:
        return None
    frame = pd.DataFrame(_mark_best(numbers, what))
    methods = sorted({str(one["method"]) for one in numbers})
    names = f"{name or hides}_method", f"{name or hides}_zoom"
    axis = alt.Axis(format="~%" if "%" in what.number_format else "~g", labelOverlap=True)
    scale = alt.Scale(type="log", padding=12) if what.is_logarithmic else alt.Scale(zero=False, padding=12)
    x = alt.X("hidden:Q", scale=scale, axis=axis, title=what.title)
    y = alt.Y(
        "accuracy:Q", scale=alt.Scale(zero=False, padding=12), title="Accuracy", axis=alt.Axis(format="~%")
    )
    choice = chosen("method", names[0])
    base = alt.Chart(frame).encode(x=x, y=y)
    line = (
        base.mark_line(
            color=REFERENCE, strokeWidth=1.5, interpolate="step-after" if not what.more else "step-before"
        )
        .encode(detail="setting:N", order="hidden:Q")
        .transform_filter("datum.is_best")
    )
    points = base.mark_point(filled=True).encode(
        color=colour("method", methods),
        shape=shape("method", methods),
        size=alt.condition("datum.is_best", alt.value(110), alt.value(45)),
        opacity=faded(choice),
        tooltip=_tooltip(what),
    )
    layers: list[Any] = [line, points.add_params(choice, zoom(names[1]))]
    floors = (
        sorted({one["floor"] for one in numbers if one["floor"] is not None}) if hides == "secondary" else []
    )
    if floors:
        floor = alt.Chart(pd.DataFrame({"floor": floors}))
        layers.insert(0, floor.mark_rule(color=REFERENCE, strokeDash=[1.5, 2.5]).encode(x="floor:Q"))
    return alt.LayerChart(layer=layers, width=width, height=HEIGHT)


def _numbers(row: Row, what: Hides) -> dict[str, Any] | None:
    accuracy = row.get("primary_top1", row.get("accuracy"))
    hidden = next((row[name] for name in what.columns if row.get(name) is not None), None)
    if accuracy is None or hidden is None or (what.is_logarithmic and hidden <= 0):
        return None
    place, seeds = row["place"], row.get("n_seeds")
    return {
        "sweep": row["sweep"],
        "point": row.get("point_id") or "",
        "setting": f"{row['sweep']} {row['setting']}",
        "data": row["dataset"],
        "model": row["model"],
        "method": row["method"] + (f", {place}" if place and place != "cut" else ""),
        "variant": row["variant"] or "",
        "level": row["level"],
        "level_name": (row["level_name"] or "").replace("_", " "),
        "seed": f"{seeds} seeds" if seeds else str(row.get("seed", "")),
        "accuracy": accuracy,
        "hidden": hidden,
        "attacker": row.get("strongest") or "",
        "floor": row.get("floor"),
    }


def _mark_best(numbers: Sequence[dict[str, Any]], what: Hides) -> list[dict[str, Any]]:
    """Say of every row whether another of its setting is at least as good in both and better in one."""
    sign = -1 if what.more else 1
    settings = {str(one["setting"]) for one in numbers}
    found = []
    for setting in sorted(settings):
        own = [one for one in numbers if one["setting"] == setting]
        own.sort(key=lambda one: (sign * one["hidden"], -one["accuracy"]))
        before = [-1.0, *accumulate((one["accuracy"] for one in own), max)]
        best = set[tuple[float, float]]()
        for one, reached in zip(own, before, strict=False):
            key = one["hidden"], one["accuracy"]
            if one["accuracy"] > reached:
                best.add(key)
            found.append({**one, "is_best": key in best})
    return found


def _tooltip(what: Hides) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("method:N"),
        alt.Tooltip("variant:N"),
        alt.Tooltip("level_name:N", title="level is"),
        alt.Tooltip("level:Q", format=".4~g"),
        alt.Tooltip("accuracy:Q", format=".2%"),
        alt.Tooltip("hidden:Q", format=what.number_format, title=what.title.partition("  ")[0]),
        alt.Tooltip("attacker:N"),
        alt.Tooltip("model:N"),
        alt.Tooltip("data:N"),
        alt.Tooltip("seed:N"),
        alt.Tooltip("sweep:N"),
        alt.Tooltip("point:N"),
    ]
