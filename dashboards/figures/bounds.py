"""Every bound against noise, with the accuracy that the noise costs beside it."""

import math
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hushsweep.dashboards.curves import Curve
from hushsweep.dashboards.figures.style import (
    COLOURS,
    GAP,
    INK,
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
from hushsweep.dashboards.promises import ORDER, is_bound, place, promise
from hushsweep.dashboards.queries import bounds

_SPAN = 1e4
"""Largest to smallest error that is drawn: a search of a few modes has a median next to nothing."""
_ERROR = "Reconstruction error, std  (normalised pixels)"
_SUCCESS = "Chance of the right guess, at most"
_LEGEND_WIDTH = 12
"""Characters of legend per inch."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Series:
    """One bound from one search along a curve.

    Attributes:
        measure_id: The measure it belongs to.
        bound: Name of the bound.
        search: Search whose shifts it rests on, or None.
        holds_for: Which attackers it holds for; None or "no bound: ..." for an estimate.
        errors: Level to the error it allows, as a standard deviation in normalised pixels.
        chances: Level to the largest chance of success, where the bound is one on that.
        images: Most images behind one of its numbers.
        is_strongest: Whether no other search of the same measure gives a larger bound.
    """

    measure_id: str
    bound: str
    search: str | None
    holds_for: str | None
    errors: dict[float, float]
    chances: dict[float, float]
    images: int
    is_strongest: bool = False

    @property
    def label(self) -> str:
        """Name and search."""
        return promise(self.bound).title + (
            f" ({self.search})" if self.search not in (None, self.bound) else ""
        )

    @property
    def picture(self) -> str:
        """How pictures name it."""
        return self.bound if self.search in (None, self.bound) else f"{self.bound}_{self.search}"

    @property
    def style(self) -> dict[str, Any]:
        """Colour, marker and line of the bound: solid for unbiased estimators, dashed beyond, dotted for none."""
        number = place(self.bound)[0]
        number = ORDER.index("cramer_rao") if self.bound == "cramer_rao_estimate" else number
        if not is_bound(self.holds_for):
            line: dict[str, Any] = {"linestyle": (0, (1, 1.6)), "markerfacecolor": "white"}
        else:
            line = {"linestyle": "-" if str(self.holds_for).startswith("unbiased") else (0, (4, 2))}
        colours = (*COLOURS, INK)
        return {"color": colours[number % len(colours)], "marker": MARKERS[number % len(MARKERS)], **line}


def read_series(results: Path | str, sweep: str) -> dict[str, list[Series]]:
    """Read the bounds of `sweep` from the view bounds: curve id to its series, in the order of reports.

    The number of a bound per mode is the median over modes, then over images; of a bound on the mean squared
    error it is the root of the mean over images. A series without any number is left out.

    Raises:
        StoreError: there are no results, or a file is damaged.
    """
    groups = defaultdict[tuple[str, ...], list[dict[str, Any]]](list)
    for row in bounds(results, sweep).to_pylist():
        groups[row["curve_id"], row["measure_id"], row["bound"], row["search"]].append(row)
    found = defaultdict[str, list[Series]](list)
    for (curve_id, measure_id, bound, search), rows in groups.items():
        errors = {row["level"]: value for row in rows if (value := _error(row)) is not None}
        chances = {row["level"]: value for row in rows if (value := row["success_bound"]) is not None}
        if errors or chances:
            holds_for = next((row["holds_for"] for row in rows if row["holds_for"]), None)
            images = max(row["images"] for row in rows)
            found[curve_id].append(
                Series(
                    measure_id=measure_id,
                    bound=bound,
                    search=search,
                    holds_for=holds_for,
                    errors=errors,
                    chances=chances,
                    images=images,
                )
            )
    return {curve_id: _mark_strongest(series) for curve_id, series in found.items()}


def bounds_figure(
    series: Sequence[Series], curve: Curve, tradeoff_rows: Sequence[dict[str, Any]]
) -> Figure | None:
    """Draw accuracy and every bound of one curve against its level; None when no bound can be drawn.

    The strongest search of a bound is drawn bold, its others thin. Levels and bounds that are not positive, which
    a logarithmic axis cannot show, are left out; the subtitle names bounds of which nothing is left.
    """
    accuracy = [r for r in tradeoff_rows if r["curve_id"] == curve.curve_id and (r["level"] or 0) > 0]
    kinds = [kind for kind in ("errors", "chances") if any(_points(one, kind) for one in series)]
    if not kinds:
        return None
    has_accuracy = any(is_drawn(ACCURACY, row) for row in accuracy)
    panels = len(kinds) + has_accuracy
    labelled = [one for one in series if one.is_strongest and any(_points(one, kind) for kind in kinds)]
    columns = int(_LEGEND_WIDTH * (panels * PANEL[0] + (panels - 1) * GAP))
    labels = {one: textwrap.fill(_describe(one, series), columns) for one in labelled}
    lines = sum(1 + label.count("\n") * 0.85 for label in labels.values())
    figure, axes = panels_in_a_row(panels, legend_lines=lines)
    if has_accuracy:
        draw_curve(axes[0], ACCURACY, accuracy, 6, 0.5, "_nolegend_")
        finish_panel(axes[0], ACCURACY, accuracy)
    level_names = [curve.fields.get("level_name")]
    for axis, kind in zip(axes[has_accuracy:], kinds, strict=True):
        drawn = {one: points for one in series if (points := _points(one, kind))}
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


def _error(row: dict[str, Any]) -> float | None:
    for column in ("median_std_bound_median", "median_std_estimate_median"):
        if row[column] is not None:
            return float(row[column])
    for column in ("mean_mse_bound", "mean_mse_estimate"):
        if row[column] is not None:
            return math.sqrt(row[column])
    return None


def _mark_strongest(series: list[Series]) -> list[Series]:
    best = dict[tuple[str, str], Series]()
    for one in series:
        key = one.measure_id, one.bound
        if key not in best or _strength(one) > _strength(best[key]):
            best[key] = one
    marked = [replace(one, is_strongest=best[one.measure_id, one.bound] is one) for one in series]
    return sorted(marked, key=lambda one: (place(one.bound), one.measure_id, not one.is_strongest))


def _strength(series: Series) -> tuple[int, float]:
    """Number of levels that can be drawn, then the size of the bound there."""
    points = _points(series, "errors")
    return len(points), sum(map(math.log, points.values()))


def _points(series: Series, kind: str) -> dict[float, float]:
    points: dict[float | None, float] = getattr(series, kind)
    return {level: value for level, value in points.items() if level is not None and level > 0 and value > 0}


def _draw(axis: Axes, series: Series, points: dict[float, float], label: str) -> None:
    levels = sorted(points)
    axis.plot(
        levels,
        [points[level] for level in levels],
        label=label,
        linewidth=2.0 if series.is_strongest else 0.8,
        markersize=5.0 if series.is_strongest else 2.5,
        **series.style,
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
    empty = sorted({one.label for one in series if not any(_points(one, kind) for kind in kinds)})
    if empty:
        parts.append(f"zero and so not drawn: {', '.join(empty)}")
    return " · ".join(parts)
