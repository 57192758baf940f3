"""What learned noise does to images: the weights that a client gives their pixels, and what leaves."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hushsweep.dashboards.figures.pictures import GAP, LABEL, TILE, label_tiles, show_tile, spread
from hushsweep.dashboards.figures.style import TOP, write_heading
from hushsweep.dashboards.queries.connection import ask
from hushsweep.dashboards.queries.run import require_sweep
from hushsweep.datasets.results import Store

# Pictures of several measures of a point are the same.
_ROWS = """
SELECT DISTINCT ON (setting, method, place, seed, level, image_index, kind)
    setting, method, place, level_name, level, seed, primary_top1, secondary_strongest,
    image_index, kind, channels, height, width, pixels
FROM pictures
JOIN privacy USING (point_id)
WHERE sweep = $sweep AND kind IN ('original', 'mask', 'transformed') AND method <> 'none'
ORDER BY setting, method, place, seed, level, image_index, kind, variant, pictures.measure_id
"""
_KINDS = {"mask": "weights", "transformed": "what leaves"}
_LINES, _IMAGES = 12, 3
"""At most so many rows of pictures, if that leaves one image, and so many images."""
_TOP, _HEAD = TOP - 0.25, 0.5
"""Inches for the heading, and for the levels above the pictures of a method."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Masked:
    """The pictures of one method: of every image the original, and by level the mask and what leaves.

    Attributes:
        setting: Id of data set and network in the views.
        method: Its name.
        titles: By level what stands above its column.
        originals: By image index.
        pixels: By image index, kind and level; ``(channels, height, width)`` in grey levels 0..255.
    """

    setting: str
    method: str
    titles: dict[float, str]
    originals: dict[int, NDArray[np.uint8]]
    pixels: dict[tuple[int, str, float], NDArray[np.uint8]]


def read_masks(results: Path | str, sweep: str) -> list[Masked]:
    """Read the masks of `sweep`, of every method those of its first seed.

    Raises:
        StoreError: there are no results, no such sweep in them, or a file is damaged.
    """
    require_sweep(Store(results, create=False), sweep)
    groups = defaultdict[tuple[str, ...], list[dict[str, Any]]](list)
    for row in ask(results, _ROWS, sweep=sweep).to_pylist():
        shape = tuple(row.pop(name) for name in ("channels", "height", "width"))
        pixels = np.frombuffer(row.pop("pixels"), np.uint8)
        if pixels.size == np.prod(shape) and shape[0] in (1, 3):
            row["pixels"] = pixels.reshape(shape)
            groups[row["setting"], row["method"], row["place"]].append(row)
    taken = [(setting, method) for setting, method, _ in groups]
    found = []
    for (setting, method, place), rows in groups.items():
        name = method if taken.count((setting, method)) == 1 else f"{method}, {place}"
        first = [row for row in rows if row["seed"] == min(row["seed"] for row in rows)]
        found.append(_masked(setting, name, first))
    return [one for one in found if one.pixels]


def masks_figure(masks: Sequence[Masked], *, title: str) -> Figure | None:
    """Draw up to three images under every method of `masks`, which share data set and network; None if none is there.

    Per method and image a row of weights, where the method has any, and one of what leaves; columns are levels.
    """
    if not masks:
        return None
    lines = {
        one.method: [kind for kind in _KINDS if any(kind == k for _, k, _ in one.pixels)] for one in masks
    }
    per_image = sum(map(len, lines.values()))
    shared = sorted({image for one in masks for image, _, _ in one.pixels})
    images = shared[: min(_IMAGES, max(1, _LINES // per_image))]
    columns = max(min(len(one.titles), 6) for one in masks)
    height = _TOP + len(masks) * _HEAD + per_image * len(images) * (TILE + GAP) + 0.1
    figure = Figure(figsize=(max(LABEL + (1 + columns) * (TILE + GAP) + 0.2, 7.0), height))
    top = _TOP
    for one in masks:
        top += _HEAD
        for number, image in enumerate(images):
            for line, kind in enumerate(lines[one.method]):
                is_first = number == line == 0
                if line == 0:
                    show_tile(figure, 0, top, one.originals.get(image), "original" if is_first else None)
                label_tiles(figure, top, one.method.replace(", ", ",\n") + f"\n{_KINDS[kind]}")
                for column, level in enumerate(spread(sorted(one.titles)), start=1):
                    shown = one.pixels.get((image, kind, level))
                    show_tile(figure, column, top, shown, one.titles[level] if is_first else None)
                top += TILE + GAP
    words = "above: level, then primary | secondary accuracy of the strongest attacker · weights: black 0, white 1"
    write_heading(figure, title, words, left=0.2)
    return figure


def _masked(setting: str, method: str, rows: Sequence[dict[str, Any]]) -> Masked:
    shown = [row for row in rows if row["kind"] in _KINDS and row["level"] is not None]
    return Masked(
        setting=setting,
        method=method,
        titles={row["level"]: _title(row) for row in shown},
        originals={row["image_index"]: row["pixels"] for row in rows if row["kind"] == "original"},
        pixels={(row["image_index"], row["kind"], row["level"]): row["pixels"] for row in shown},
    )


def _title(row: dict[str, Any]) -> str:
    level = f"{str(row['level_name'] or 'level').replace('_', ' ')} {row['level']:.3g}"
    found = (row["primary_top1"], row["secondary_strongest"])
    if None in found:
        return level
    return f"{level}\n{100 * found[0]:.1f} | {100 * found[1]:.1f} %"
