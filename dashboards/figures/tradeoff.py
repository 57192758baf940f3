"""The trade-off as a picture: accuracy and HCR bound against noise."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hushsweep.dashboards.curves import Curve, read_curves
from hushsweep.dashboards.figures.style import (
    MARKERS,
    dress_axis,
    level_axis,
    logarithmic,
    panels_in_a_row,
    save_figure,
    write_heading,
    write_legend,
)
from hushsweep.dashboards.palette import COLOURS
from hushsweep.dashboards.queries import tradeoff
from hushsweep.datasets.results import StoreError


class Panel(NamedTuple):
    """What one panel draws of the rows of the view tradeoff: columns and title."""

    measure_id: str
    value: str
    stderr: str | None
    title: str


ACCURACY = Panel("accuracy_measure_id", "top1", "top1_stderr", "Top-1 accuracy  (dashed: without noise)")
_BOUND = Panel(
    "hcr_measure_id",
    "std_bound_median",
    None,
    "Median HCR bound, standard deviation  (normalised pixels)",
)


def draw_tradeoff(results: Path | str, sweep: str, path: Path | str) -> Path:
    """Draw accuracy (left) and median HCR bound (right) of every curve of `sweep` against its level, as PNG.

    Error bars are one standard error of the accuracy; clean accuracy is dashed. A panel without numbers is left
    out, and so are levels and bounds that are not positive, which a logarithmic axis cannot show.

    Returns:
        `path`, an existing file replaced.

    Raises:
        StoreError: no such sweep, no accuracy or HCR rows to draw yet, or the file cannot be written.
    """
    curves = read_curves(results, sweep)
    figure = tradeoff_figure(tradeoff(results, sweep).to_pylist(), curves, title=sweep)
    if figure is None:
        raise StoreError(f"sweep {sweep!r}: no accuracy or HCR bound at a positive noise level to draw yet")
    save_figure(figure, Path(path))
    return Path(path)


def tradeoff_figure(rows: Sequence[dict[str, Any]], curves: Sequence[Curve], *, title: str) -> Figure | None:
    """Draw `curves` from the rows of :func:`tradeoff` of their sweep; None when there is nothing to draw.

    The colours follow the order of `curves`.
    """
    order = {curve.curve_id: number for number, curve in enumerate(curves)}
    rows = [row for row in rows if row["curve_id"] in order and (row["level"] or 0) > 0]
    panels = [panel for panel in (ACCURACY, _BOUND) if any(is_drawn(panel, row) for row in rows)]
    if not panels:
        return None
    figure, axes = panels_in_a_row(len(panels), legend_lines=math.ceil(len(curves) / len(panels)))
    for axis, panel in zip(axes, panels, strict=True):
        for number, curve in enumerate(curves):
            own = [row for row in rows if row["curve_id"] == curve.curve_id]
            place = (number + 1) / len(curves)
            draw_curve(axis, panel, own, number, place, curve.name if axis is axes[0] else "_nolegend_")
        finish_panel(axis, panel, rows)
    write_heading(figure, title, describe_data(rows))
    write_legend(figure, columns=len(panels))
    return figure


def is_drawn(panel: Panel, row: dict[str, Any]) -> bool:
    """Whether the row has a number that the panel's axis can show: the bound's is logarithmic."""
    value = row[panel.value]
    return value is not None and (panel is not _BOUND or value > 0)


def draw_curve(
    axis: Axes, panel: Panel, rows: Sequence[dict[str, Any]], number: int, place: float, label: str
) -> None:
    """Draw one curve's rows in the colour `number`; `place`, up to 1, thins the later curves."""
    colour = COLOURS[number % len(COLOURS)]
    marker = MARKERS[number // len(COLOURS) % len(MARKERS)]
    rows_drawn = [row for row in rows if is_drawn(panel, row)]
    for measure_id in sorted({row[panel.measure_id] for row in rows_drawn}):
        own = {row["level"]: row for row in rows_drawn if row[panel.measure_id] == measure_id}
        levels = sorted(own)
        axis.errorbar(
            levels,
            [own[level][panel.value] for level in levels],
            yerr=[own[level][panel.stderr] or math.nan for level in levels] if panel.stderr else None,
            color=colour,
            marker=marker,
            markersize=7 - 3 * place,  # a curve that lies on an earlier one leaves its rim to be seen
            linewidth=2.7 - 1.2 * place,
            elinewidth=1,
            capsize=3.5,
            label=label,
        )
        label = "_nolegend_"
    if panel is ACCURACY:
        for clean in sorted({row["clean_top1"] for row in rows if row["clean_top1"] is not None}):
            axis.axhline(clean, color=colour, linewidth=1.1, linestyle=(0, (4, 3)), alpha=0.75, zorder=1)


def finish_panel(axis: Axes, panel: Panel, rows: Sequence[dict[str, Any]]) -> None:
    """Title, scales, ticks and grid."""
    dress_axis(axis, panel.title)
    level_axis(axis, [row["level_name"] for row in rows], [row["level"] for row in rows])
    if panel is _BOUND:
        logarithmic(axis, "y")
    else:
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        values = [row[key] for row in rows for key in ("top1", "clean_top1") if row[key] is not None]
        if min(values) < 0.5:
            axis.set_ylim(0, 1.02)


def describe_data(rows: Sequence[dict[str, Any]]) -> str:
    """Data, numbers of images and what the numbers must not be read as."""
    data = sorted({"/".join(filter(None, (row["dataset"], row["split"]))) for row in rows})
    parts = [", ".join(data)]
    for key, text in (("accuracy_images", "{} images"), ("hcr_images", "bounds on {} images")):
        counts = sorted({row[key] for row in rows if row[key] is not None})
        if counts:
            spread = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
            parts.append(text.format(spread))
    parts += sorted({row["caveat"] for row in rows if row["caveat"]})
    return " · ".join(parts)
