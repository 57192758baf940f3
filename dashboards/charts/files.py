"""Charts as files for papers: PNG, SVG and PDF."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from hushsweep.dashboards.charts.style import spec
from hushsweep.datasets.results.files import write_atomically

_WRITERS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "png": lambda drawn: vl_convert.vegalite_to_png(drawn, scale=2, ppi=144),
    "svg": lambda drawn: vl_convert.vegalite_to_svg(drawn).encode(),
    "pdf": vl_convert.vegalite_to_pdf,
}
FORMATS = tuple(_WRITERS)
"""What :func:`save_chart` can write."""


def save_chart(chart: alt.TopLevelMixin, path: Path) -> None:
    """Write `chart`, light on white, in the format that the name ends in: one of :data:`FORMATS`.

    Raises:
        KeyError: another ending.
        StoreError: the file cannot be written.
    """
    drawn = _WRITERS[path.suffix.removeprefix(".")](spec(chart, dark=False, background="white"))
    write_atomically(path, lambda stream: stream.write(drawn))
