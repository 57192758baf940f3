"""What bounds and attacks look like: the image, plus the bound, the farthest one alike, what is reconstructed."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hushsweep.dashboards.curves import Curve
from hushsweep.dashboards.figures.style import TOP, write_heading
from hushsweep.dashboards.palette import GRID, INK, MUTED
from hushsweep.dashboards.queries.connection import ask
from hushsweep.dashboards.series import Series

_ROWS = """
SELECT DISTINCT
    curve_id, level, data_fingerprint, image_index, kind,
    if(kind = 'reconstruction', coalesce(label, bound), bound) AS bound, channels, height, width, pixels
FROM pictures
JOIN (SELECT DISTINCT curve_id, point_id, measure_id, level, data_fingerprint FROM measurements WHERE sweep = $sweep)
USING (point_id, measure_id)
LEFT JOIN (SELECT measure_id, label FROM attack_names WHERE sweep = $sweep) USING (measure_id)
ORDER BY image_index, kind, bound, level NULLS FIRST
"""
TILE, GAP, LABEL = 1.35, 0.12, 1.55
"""Inches: a picture, the room between two, the words to the left of them."""
_IMAGES, _LEVELS, _TALL = 3, 6, 12
"""At most so many images and, evenly chosen, levels; and so many rows of tiles, if there is more than one image."""
_OTHERS = ("original", "mask", "transformed")
"""Kinds that show no bound."""
_KINDS = {
    "bound": "plus or minus\nthe bound",
    "moved": "moved as far as the\nnoise hides",
    "reconstruction": "reconstruction",
}
_WORDS = {
    "bound": "bound: image plus the bound with random signs",
    "moved": "moved: the farthest image found whose features the noise hides",
    "reconstruction": "reconstruction: what the attack makes of what leaves",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Picture:
    """One stored picture; `pixels` is ``(channels, height, width)`` in grey levels 0..255."""

    curve_id: str
    level: float | None
    data_fingerprint: str | None
    image_index: int
    kind: str
    bound: str | None
    pixels: NDArray[np.uint8]


def read_pictures(results: Path | str, sweep: str) -> list[Picture]:
    """Read all pictures of the points of `sweep`; one whose bytes do not fit its shape is left out.

    Raises:
        StoreError: there are no results, or a file is damaged.
    """
    found = []
    for row in ask(results, _ROWS, sweep=sweep).to_pylist():
        shape = tuple(row.pop(name) for name in ("channels", "height", "width"))
        pixels = np.frombuffer(row.pop("pixels"), np.uint8)
        if pixels.size == np.prod(shape) and shape[0] in (1, 3):
            found.append(Picture(**row, pixels=pixels.reshape(shape)))
    return found


def pictures_figure(pictures: Sequence[Picture], curve: Curve, series: Sequence[Series]) -> Figure | None:
    """Draw one to three images: the original, and by level one row per bound or attack; None when there is none.

    A bound is drawn with its strongest search, and a point without a level in a column of its own.
    """
    labels = {one.picture: one.label for one in series if one.is_strongest}
    weaker = {one.picture for one in series} - labels.keys()
    own = [
        one
        for one in pictures
        if one.curve_id == curve.curve_id and one.kind not in _OTHERS and one.bound not in weaker
    ]
    if not own:
        return None
    count = Counter(one.image_index for one in own)  # those that most measures have drawn
    at_most = max(1, min(_IMAGES, _TALL // len({(one.kind, one.bound) for one in own})))
    images = sorted(sorted(count, key=lambda index: (-count[index], index))[:at_most])
    levels: list[float | None] = [*spread(sorted({one.level for one in own if one.level is not None}))]
    levels = [*([None] if any(one.level is None for one in own) else []), *levels]
    order = list(labels)
    kinds = sorted({(one.kind, one.bound or "") for one in own})
    kinds.sort(key=lambda kind: (kind[0], order.index(kind[1]) if kind[1] in labels else len(order)))
    lines = len(kinds) * (TILE + GAP) + 0.15
    size = (max(LABEL + (1 + len(levels)) * (TILE + GAP) + 0.2, 7.0), TOP + 0.25 + len(images) * lines)
    figure = Figure(figsize=size)
    found = {(one.image_index, one.kind, one.bound or "", one.level): one.pixels for one in own}
    for number, image_index in enumerate(images):
        for line, (kind, bound) in enumerate(kinds):
            top = TOP + 0.25 + number * lines + line * (TILE + GAP)
            is_first = number == line == 0
            if line == 0:
                show_tile(
                    figure, 0, top, _original(pictures, own, image_index), "original" if is_first else None
                )
            name = textwrap.fill(labels.get(bound, bound), 19)
            label_tiles(figure, top, f"{name}\n{_KINDS.get(kind, kind)}")
            for column, level in enumerate(levels, start=1):
                shown = found.get((image_index, kind, bound, level))
                show_tile(figure, column, top, shown, _title(level) if is_first else None)
    name = str(curve.fields.get("level_name") or "level").replace("_", " ")
    write_heading(
        figure,
        curve.name,
        " · ".join(
            (f"columns: {name}", *(_WORDS[kind] for kind in sorted({k for k, _ in kinds}) if kind in _WORDS))
        ),
        left=0.2,
    )
    return figure


def _title(level: float | None) -> str:
    return "no level" if level is None else f"{level:g}"


def spread(levels: list[float]) -> list[float]:
    """At most six of `levels`, evenly chosen."""
    count = min(len(levels), _LEVELS)
    return [levels[int(index)] for index in np.linspace(0, len(levels) - 1, count).round()]


def _original(
    pictures: Sequence[Picture], own: Sequence[Picture], image_index: int
) -> NDArray[np.uint8] | None:
    """The original of that image: points that saw the same data share one."""
    like = next(one for one in own if one.image_index == image_index)
    key = (like.data_fingerprint, like.image_index, like.pixels.shape)
    same = (p for p in pictures if (p.data_fingerprint, p.image_index, p.pixels.shape) == key)
    return next((one.pixels for one in same if one.kind == "original"), None)


def show_tile(
    figure: Figure, column: int, top: float, pixels: NDArray[np.uint8] | None, title: str | None
) -> None:
    """Draw one picture, `top` inches from the upper edge; None says that there is none."""
    axis = _tile(figure, LABEL + column * (TILE + GAP), top)
    if title is not None:
        axis.set_title(title, fontsize=9.5, color=INK, pad=5)
    if pixels is None:
        axis.text(
            0.5, 0.5, "none", ha="center", va="center", fontsize=8, color=MUTED, transform=axis.transAxes
        )
        return
    shown = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    axis.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def label_tiles(figure: Figure, top: float, text: str) -> None:
    """Write to the left of the pictures that are `top` inches from the upper edge."""
    width, height = figure.get_size_inches()
    y = 1 - (top + TILE / 2) / height
    figure.text(0.2 / width, y, text, va="center", fontsize=9, color=INK, parse_math=False)


def _tile(figure: Figure, left: float, top: float) -> Axes:
    width, height = figure.get_size_inches()
    axis = figure.add_axes((left / width, 1 - (top + TILE) / height, TILE / width, TILE / height))
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_facecolor("white")
    axis.spines[:].set_color(GRID)
    return axis
