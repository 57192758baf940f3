"""The trade-off as a picture: accuracy and HCR bound against noise."""

import math
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator, PercentFormatter

from hushsweep.dashboards.curves import Curve, read_curves
from hushsweep.dashboards.queries import tradeoff
from hushsweep.datasets.results import StoreError
from hushsweep.datasets.results.files import write_atomically

# Okabe and Ito's colours, told apart with any colour vision; further curves repeat them with other markers.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
_MARKERS = ("o", "s", "^", "D", "v")
_INK, _MUTED, _GRID = "#1F2328", "#57606A", "#E4E7EB"
_LEVELS = {
    "noise_scale": "noise scale  (standard deviation / RMS of the features)",
    "noise_std": "noise standard deviation  (feature units)",
}
# Inches.
_PANEL, _LEFT, _GAP, _RIGHT, _TOP, _BOTTOM, _LEGEND_LINE = (4.3, 2.9), 0.75, 0.85, 0.25, 1.1, 0.75, 0.225


class _Panel(NamedTuple):
    measure_id: str
    value: str
    stderr: str | None
    title: str


_ACCURACY = _Panel("accuracy_measure_id", "top1", "top1_stderr", "Top-1 accuracy  (dashed: without noise)")
_BOUND = _Panel(
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


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` as a PNG that is whole or absent."""
    write_atomically(path, lambda stream: figure.savefig(stream, format="png", dpi=160, facecolor="white"))


def tradeoff_figure(rows: Sequence[dict[str, Any]], curves: Sequence[Curve], *, title: str) -> Figure | None:
    """Draw `curves` from the rows of :func:`tradeoff` of their sweep; None when there is nothing to draw.

    The colours follow the order of `curves`.
    """
    order = {curve.curve_id: number for number, curve in enumerate(curves)}
    rows = [row for row in rows if row["curve_id"] in order and (row["level"] or 0) > 0]
    panels = [panel for panel in (_ACCURACY, _BOUND) if any(_is_drawn(panel, row) for row in rows)]
    if not panels:
        return None
    figure, axes = _layout(len(panels), legend_lines=math.ceil(len(curves) / len(panels)))
    for axis, panel in zip(axes, panels, strict=True):
        for number, curve in enumerate(curves):
            own = [row for row in rows if row["curve_id"] == curve.curve_id]
            place = (number + 1) / len(curves)
            _draw_curve(axis, panel, own, number, place, curve.name if axis is axes[0] else "_nolegend_")
        _dress(axis, panel, rows)
    width, height = figure.get_size_inches()
    left = _LEFT / width
    figure.text(
        left, 1 - 0.18 / height, title, va="top", fontsize=14, weight="bold", color=_INK, parse_math=False
    )
    subtitle = textwrap.fill(_subtitle(rows), int(12 * (width - _LEFT)))
    figure.text(left, 1 - 0.47 / height, subtitle, va="top", fontsize=9.5, color=_MUTED, parse_math=False)
    legend = figure.legend(
        loc="lower left",
        bbox_to_anchor=(left - 0.1 / width, 0.08 / height),
        borderaxespad=0,
        ncols=len(panels),
        frameon=False,
        fontsize=9.5,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _layout(panels: int, *, legend_lines: int) -> tuple[Figure, list[Axes]]:
    bottom = _BOTTOM + _LEGEND_LINE * legend_lines
    width = _LEFT + panels * _PANEL[0] + (panels - 1) * _GAP + _RIGHT
    height = _TOP + _PANEL[1] + bottom
    figure = Figure(figsize=(width, height))
    axes = [
        figure.add_axes(
            (
                (_LEFT + number * (_PANEL[0] + _GAP)) / width,
                bottom / height,
                _PANEL[0] / width,
                _PANEL[1] / height,
            )
        )
        for number in range(panels)
    ]
    return figure, axes


def _is_drawn(panel: _Panel, row: dict[str, Any]) -> bool:
    """Whether the row has a number that the panel's axis can show: the bound's is logarithmic."""
    value = row[panel.value]
    return value is not None and (panel is not _BOUND or value > 0)


def _draw_curve(
    axis: Axes, panel: _Panel, rows: Sequence[dict[str, Any]], number: int, place: float, label: str
) -> None:
    colour = _COLOURS[number % len(_COLOURS)]
    marker = _MARKERS[number // len(_COLOURS) % len(_MARKERS)]
    rows_drawn = [row for row in rows if _is_drawn(panel, row)]
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
    if panel is _ACCURACY:
        for clean in sorted({row["clean_top1"] for row in rows if row["clean_top1"] is not None}):
            axis.axhline(clean, color=colour, linewidth=1.1, linestyle=(0, (4, 3)), alpha=0.75, zorder=1)


def _dress(axis: Axes, panel: _Panel, rows: Sequence[dict[str, Any]]) -> None:
    """Title, scales, ticks and grid."""
    axis.set_title(panel.title, loc="left", fontsize=10.5, color=_INK, pad=8)
    names = {row["level_name"] for row in rows}
    name = names.pop() if len(names) == 1 else "noise level"
    axis.set_xlabel(_LEVELS.get(str(name), str(name).replace("_", " ")), fontsize=9.5, color=_INK)
    _logarithmic(axis, "x", sorted({row["level"] for row in rows}))
    if panel is _BOUND:
        _logarithmic(axis, "y")
    else:
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        values = [row[key] for row in rows for key in ("top1", "clean_top1") if row[key] is not None]
        if min(values) < 0.5:
            axis.set_ylim(0, 1.02)
    axis.grid(color=_GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(colors=_MUTED, labelsize=9, length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(_MUTED)


def _logarithmic(axis: Axes, which: str, values: Sequence[float] = ()) -> None:
    """Logarithmic scale in plain numbers: at `values` if these leave room, else at 1, 2, 5 or at decades."""
    (axis.set_xscale if which == "x" else axis.set_yscale)("log")
    low, high = axis.get_xlim() if which == "x" else axis.get_ylim()
    steps = (1.0,) if high / low > 3000 else (1.0, 2.0, 5.0)
    gaps = [after / before for before, after in pairwise(values)]
    roomy = 0 < len(values) < 9 and all(gap > (high / low) ** 0.06 for gap in gaps)
    scale = axis.xaxis if which == "x" else axis.yaxis
    scale.set_major_locator(FixedLocator(list(values)) if roomy else LogLocator(subs=steps))
    scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    scale.set_minor_locator(NullLocator())


def _subtitle(rows: Sequence[dict[str, Any]]) -> str:
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
