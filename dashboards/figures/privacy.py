"""The pictures of a sweep that measures what a server still learns: its trade-offs and its masks."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from hushsweep.dashboards.figures.frontier import frontier_figure, read_settings
from hushsweep.dashboards.figures.masks import masks_figure, read_masks
from hushsweep.dashboards.figures.style import save_figure


class Named(NamedTuple):
    """A picture, what its file is called, and what it shows."""

    name: str
    words: str
    figure: Figure


def privacy_figures(results: Path | str, sweep: str) -> Iterator[Named]:
    """Draw, per data set and network, the trade-off and what learned noise does to images.

    The files are called frontier and masks, with a number where there are several. A sweep without secondary
    accuracies has none.

    Raises:
        StoreError: there are no results, no such sweep in them, or a file is damaged.
    """
    settings = read_settings(results, sweep)
    masks = read_masks(results, sweep) if settings else []
    for number, setting in enumerate(settings, start=1):
        end = f"-{number}" if len(settings) > 1 else ""
        title = " · ".join(filter(None, (sweep, setting.name)))
        words = "primary accuracy against secondary accuracy and information"
        yield Named(f"frontier{end}", words, frontier_figure(setting, title=title))
        own = masks_figure([one for one in masks if one.setting == setting.setting], title=title)
        if own is not None:
            yield Named(f"masks{end}", "what learned noise does to images", own)


def draw_privacy(results: Path | str, sweep: str, folder: Path | str) -> list[Path]:
    """Write :func:`privacy_figures` into `folder` as PNG; files of that name are replaced.

    Raises:
        StoreError: there are no results, no such sweep in them, or a file cannot be written.
    """
    paths = list[Path]()
    for name, _, figure in privacy_figures(results, sweep):
        paths.append(Path(folder) / f"{name}.png")
        save_figure(figure, paths[-1])
    return paths
