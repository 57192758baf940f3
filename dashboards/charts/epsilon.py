"""Accuracy against the epsilon of the training."""

from collections.abc import Sequence

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


def epsilon_chart(rows: Sequence[Row], *, width: int = 2 * WIDTH) -> alt.LayerChart | None:
    """Draw accuracy against epsilon (PLD), a point per training; None where no accuracy has a finite positive one.

    The dashed line is the accuracy without privacy, its mean over seeds.

    Args:
        rows: Rows of the view dp.
        width: Of the plot, in pixels.
    """
    drawn = [row for row in rows if row["top1"] is not None and 0 < (row["epsilon"] or 0) < float("inf")]
    if not drawn:
        return None
    frame = pd.DataFrame([_numbers(row) for row in drawn])
    names = sorted(set(frame["method"]))
    choice = chosen("method", "epsilon_training_method")
    y = alt.Y("accuracy:Q", scale=alt.Scale(zero=False), title="Top-1 accuracy", axis=alt.Axis(format="~%"))
    base = alt.Chart(frame).encode(
        x=alt.X(
            "epsilon:Q",
            scale=alt.Scale(type="log", padding=12),
            axis=alt.Axis(format="~g", labelOverlap=True),
            title="epsilon of the training (PLD)",
        ),
        color=colour("method", names),
    )
    line = base.mark_line(strokeWidth=1.6).encode(
        y=alt.Y("mean(accuracy):Q", title="Top-1 accuracy"), detail="line:N", opacity=faded(choice)
    )
    points = base.mark_point(filled=True, size=60).encode(
        y=y, shape=shape("method", names), opacity=faded(choice), tooltip=_tooltip()
    )
    layers = [line, points.add_params(choice, zoom("epsilon_training_zoom"))]
    private = pd.DataFrame(
        [
            {"accuracy": row["top1"], "data": f"{row['dataset']} {row['model']}"}
            for row in rows
            if row["top1"] is not None and (row["method"] == "none" or row["noise_multiplier"] == 0)
        ]
    )
    if len(private):
        rule = alt.Chart(private).mark_rule(color=REFERENCE, strokeDash=[4, 3])
        layers.insert(0, rule.encode(y="mean(accuracy):Q", detail="data:N"))
    return alt.LayerChart(layer=layers, width=width, height=HEIGHT)


def _numbers(row: Row) -> dict[str, object]:
    method = " · ".join(filter(None, (row["method"], row["variant"])))
    return {
        "method": method,
        "line": " ".join(
            str(row[name]) for name in ("sweep", "dataset", "model", "train_limit", "class_counts")
        ),
        "data": row["dataset"],
        "model": row["model"],
        "level": row["level"],
        "seed": row["seed"],
        "accuracy": row["top1"],
        "epsilon": row["epsilon"],
        "delta": row["delta"],
        "person": row["epsilon_person"],
        "point": row["point_id"],
    }


def _tooltip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("method:N"),
        alt.Tooltip("accuracy:Q", format=".2%"),
        alt.Tooltip("epsilon:Q", format=".4~g"),
        alt.Tooltip("delta:Q", format=".3~g"),
        alt.Tooltip("person:Q", format=".4~g", title="epsilon of a person"),
        alt.Tooltip("data:N"),
        alt.Tooltip("model:N"),
        alt.Tooltip("seed:Q"),
        alt.Tooltip("point:N"),
    ]
