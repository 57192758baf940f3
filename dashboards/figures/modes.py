"""Bounds per mode: maps over frequencies and histograms, at one noise level of a curve."""

import math
import textwrap
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from hushsweep.dashboards.curves import Curve
from hushsweep.dashboards.figures.bounds import line_style
from hushsweep.dashboards.figures.style import (
    LEFT,
    TOP,
    dress_axis,
    logarithmic,
    panels_in_a_row,
    write_heading,
    write_legend,
)
from hushsweep.dashboards.palette import GRID, INK, MUTED
from hushsweep.dashboards.queries.connection import ask
from hushsweep.dashboards.series import Series

_LEVELS = """
SELECT DISTINCT level, point_id FROM measurements JOIN modes USING (point_id, measure_id)
WHERE sweep = $sweep AND curve_id = $curve ORDER BY level NULLS FIRST, point_id
"""
_MODES = """
SELECT measure_id, bound, search, basis, channel, "row", "column", std_bound, std_estimate, non_identifiable, n
FROM modes WHERE point_id = $point AND coalesce(std_bound, std_estimate, non_identifiable) IS NOT NULL
"""
_LOW = 8
_TILE, _TILE_GAP, _BAR, _COLUMNS = 2.35, 0.6, 0.14, 4
"""Inches; and maps beside each other."""
_LINES = ("-", (0, (1, 1)), (0, (5, 2)), (0, (5, 2, 1, 2)))
_SPAN = 1e4
"""Largest to smallest bound that the colours tell apart."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ModeMap:
    """One bound of every mode.

    Attributes:
        series: The bound, its search and whom it holds for.
        basis: Basis of the modes, dct or pixel.
        level: Noise level of the point.
        images: Images in the mean.
        std: ``(channels, rows, columns)``, normalised pixels; NaN where a mode has no number.
        non_identifiable: The same for the share that the features do not depend on, or None where it is not known.
    """

    series: Series
    basis: str
    level: float | None
    images: int
    std: NDArray[np.float64]
    non_identifiable: NDArray[np.float64] | None


def read_maps(results: Path | str, sweep: str, curve: Curve, series: Sequence[Series]) -> list[ModeMap]:
    """Read the maps of `curve` at the middle one of its levels that have any, one per bound: its strongest search.

    Raises:
        StoreError: there are no results, or a file is damaged.
    """
    middle = _middle(results, sweep, curve)
    if middle is None:
        return []
    groups = defaultdict[tuple[str, ...], list[dict[str, object]]](list)
    for row in ask(results, _MODES, point=middle["point_id"]).to_pylist():
        groups[row["measure_id"], row["bound"], row["basis"], row["search"]].append(row)
    found = []
    for one in series:
        for (measure_id, bound, basis, search), rows in sorted(groups.items(), key=lambda item: item[0][2]):
            # The measure hcr names its search in its options, not in its modes.
            same = (measure_id, bound) == (one.measure_id, one.bound) and search in (None, one.search)
            if one.is_strongest and same:
                found.append(_fill(one, basis, middle["level"], rows))
    return found


def middle_point(results: Path | str, sweep: str, curve: Curve) -> str | None:
    """Point id of the level that maps show, or None where no point of `curve` has modes.

    Raises:
        StoreError: there are no results, or a file is damaged.
    """
    middle = _middle(results, sweep, curve)
    return None if middle is None else str(middle["point_id"])


def _middle(results: Path | str, sweep: str, curve: Curve) -> dict[str, Any] | None:
    points: list[dict[str, Any]] = ask(results, _LEVELS, sweep=sweep, curve=curve.curve_id).to_pylist()
    return points[len(points) // 2] if points else None


def map_figure(maps: Sequence[ModeMap], curve: Curve) -> Figure | None:
    """Draw every bound as a picture over the modes, mean over channels, with the non-identifiable share below it."""
    maps = [one for one in maps if np.nanmax(one.std, initial=0) > 0]
    if not maps:
        return None
    bands = [maps[start : start + _COLUMNS] for start in range(0, len(maps), _COLUMNS)]
    shares = [any(one.non_identifiable is not None for one in band) for band in bands]
    columns = min(len(maps), _COLUMNS)
    rows = len(bands) + sum(shares)
    left = LEFT
    width = max(left + columns * (_TILE + _TILE_GAP) + 1.0, 7.5)
    height = TOP + rows * (_TILE + 0.75) + 0.1
    figure = Figure(figsize=(width, height))
    top = max(float(np.nanmax(_mean(one.std))) for one in maps)
    low = min(float(found[found > 0].min()) for one in maps if (found := _mean(one.std))[found > 0].size)
    std_norm = LogNorm(max(low, top / _SPAN), top if top > low else 2 * top)
    above = 0
    for band, has_share in zip(bands, shares, strict=True):
        for kind in ["std", "share"] if has_share else ["std"]:
            bottom = height - TOP - above * (_TILE + 0.75) - _TILE - 0.15
            for number, one in enumerate(band):
                values = one.std if kind == "std" else one.non_identifiable
                if values is not None:
                    place = (left + number * (_TILE + _TILE_GAP), bottom, _TILE, _TILE)
                    axis = figure.add_axes(_relative(figure, place))
                    norm = std_norm if kind == "std" else Normalize(0, 1)
                    _draw_map(axis, _mean(values), norm, "viridis" if kind == "std" else "Greys", one, kind)
            last = max(n for n, one in enumerate(band) if kind == "std" or one.non_identifiable is not None)
            bar = (left + (last + 1) * (_TILE + _TILE_GAP) - 0.35, bottom, _BAR, _TILE)
            _draw_bar(figure, bar, std_norm if kind == "std" else Normalize(0, 1), kind)
            above += 1
    write_heading(
        figure, curve.name, _subtitle(maps, curve, "mean over images and channels; grey: zero or none")
    )
    return figure


def histogram_figure(maps: Sequence[ModeMap], curve: Curve) -> Figure | None:
    """Draw how the modes' bounds are distributed: all modes, and the block of the lowest frequencies."""
    maps = [one for one in maps if one.basis == "dct" and (one.std > 0).any()]
    if not maps:
        return None
    figure, axes = panels_in_a_row(2, legend_lines=math.ceil(len(maps) / 2))
    positive = np.concatenate([one.std[one.std > 0] for one in maps])
    low, high = positive.min() / 1.1, positive.max() * 1.1
    bins = np.geomspace(low, high, int(np.clip(np.sqrt(maps[0].std.size), 16, 60)) + 1).tolist()
    counts = {one.images for one in maps}
    for axis, side in zip(axes, (None, _LOW), strict=True):
        drawn = Counter[str]()
        for one in maps:
            values = one.std[:, :side, :side].ravel()
            values = values[np.isfinite(values)]
            style = {
                key: value for key, value in line_style(one.series).items() if key in ("color", "linestyle")
            }
            if drawn[style["color"]]:  # a second search of the same bound
                style["linestyle"] = _LINES[drawn[style["color"]] % len(_LINES)]
            drawn[style["color"]] += 1
            label = one.series.label + (f", {one.images} images" if len(counts) > 1 else "")
            axis.hist(
                values[values > 0],
                bins,
                weights=np.full((values > 0).sum(), 1 / max(1, values.size)),
                histtype="step",
                linewidth=1.7,
                label=label if side is None else "_nolegend_",
                **style,
            )
        rows, columns = maps[0].std.shape[1:]
        block = f"{min(_LOW, rows)} x {min(_LOW, columns)}"
        dress_axis(axis, "All modes" if side is None else f"Modes of the {block} lowest frequencies")
        axis.set_xlim(low, high)
        logarithmic(axis, "x")
        axis.set_xlabel("standard deviation  (normalised pixels)", fontsize=9.5, color=INK)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    write_heading(
        figure,
        curve.name,
        _subtitle(maps, curve, "share of the modes; a mode's bound is the mean over images"),
    )
    write_legend(figure, columns=2)
    return figure


def _fill(series: Series, basis: str, level: float | None, rows: Sequence[dict[str, object]]) -> ModeMap:
    at = tuple(np.array([row[name] for row in rows], np.int64) for name in ("channel", "row", "column"))
    shape = tuple(int(index.max()) + 1 for index in at)

    def filled(*names: str) -> NDArray[np.float64]:
        values = np.full(shape, np.nan)
        values[at] = [next((row[n] for n in names if row[n] is not None), np.nan) for row in rows]
        return values

    share = filled("non_identifiable")
    return ModeMap(
        series=series,
        basis=basis,
        level=level,
        images=max(int(str(row["n"])) for row in rows),
        std=filled("std_bound", "std_estimate"),
        non_identifiable=None if np.isnan(share).all() else share,
    )


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the channels that have a number."""
    count = np.isfinite(values).sum(axis=0)
    total = np.nansum(values, axis=0)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _draw_map(
    axis: Axes, values: NDArray[np.float64], norm: Normalize, colours: str, one: ModeMap, kind: str
) -> None:
    axis.set_facecolor(GRID)
    shown = np.ma.masked_where(~(values > 0), values) if kind == "std" else np.ma.masked_invalid(values)
    axis.imshow(shown, cmap=colours, norm=norm, interpolation="nearest", aspect="auto")
    title = textwrap.fill(one.series.label, 30) if kind == "std" else "non-identifiable share"
    axis.set_title(title, loc="left", fontsize=9.5, color=INK, pad=5, parse_math=False)
    axis.tick_params(colors=MUTED, labelsize=8, length=0)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_locator(MaxNLocator(5, integer=True))
    if one.basis == "dct":
        axis.set_xlabel("horizontal frequency", fontsize=8, color=MUTED, labelpad=2)
        axis.set_ylabel("vertical frequency", fontsize=8, color=MUTED, labelpad=2)
    axis.spines[:].set_visible(False)


def _draw_bar(figure: Figure, place: tuple[float, ...], norm: Normalize, kind: str) -> None:
    axis = figure.add_axes(_relative(figure, place))
    colours = "viridis" if kind == "std" else "Greys"
    bar = figure.colorbar(ScalarMappable(norm, colours), cax=axis)
    if kind == "std":
        logarithmic(axis, "y")
        axis.set_ylabel("standard deviation  (normalised pixels)", fontsize=8, color=MUTED)
    else:
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    bar.outline.set_visible(False)
    axis.tick_params(colors=MUTED, labelsize=8, length=0)


def _relative(figure: Figure, place: tuple[float, ...]) -> tuple[float, float, float, float]:
    width, height = figure.get_size_inches()
    left, bottom, own_width, own_height = place
    return left / width, bottom / height, own_width / width, own_height / height


def _subtitle(maps: Sequence[ModeMap], curve: Curve, rest: str) -> str:
    level = maps[0].level
    name = str(curve.fields.get("level_name") or "level").replace("_", " ")
    at = [] if level is None else [f"{name} {level:g}"]
    return " · ".join([*at, f"{max(one.images for one in maps):,} images", rest])
