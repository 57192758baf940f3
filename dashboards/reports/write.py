"""Write a report as a page or as a folder, and its figures as files for papers."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hushsweep.dashboards.charts import FORMATS, save_chart
from hushsweep.dashboards.figures import save_figure
from hushsweep.dashboards.queries import one_moment
from hushsweep.dashboards.reports.html import write_html
from hushsweep.dashboards.reports.markdown import write_markdown
from hushsweep.dashboards.reports.model import Figure, Section
from hushsweep.dashboards.reports.sections import read_sections
from hushsweep.datasets.results import StoreError
from hushsweep.datasets.results.files import write_atomically

_DETAILED = 3
"""Curves of a page that have maps, histograms and pictures: these take most of its time and size."""


class Report(NamedTuple):
    """What was written: the page or report.md, and the figures that are files of their own."""

    page: Path
    figures: tuple[Path, ...]


def write_report(
    results: Path | str,
    sweep: str,
    output: Path | str,
    *,
    figures: Path | str | None = None,
    formats: Sequence[str] = FORMATS,
) -> Report:
    """Write a report of `sweep`; files of an earlier one are replaced.

    Args:
        results: The results folder.
        sweep: The sweep.
        output: A file that ends in .html, which needs nothing else; or a folder for report.md and pictures.
        figures: A folder for the figures of all curves as files for papers.
        formats: Of these: png, svg, pdf.

    Raises:
        StoreError: no results, no such sweep, nothing computed and nothing failed yet, an unknown format, or a file
            cannot be written.
    """
    output = Path(output)
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise StoreError(f"unknown format {unknown[0]!r} of figures; known: {', '.join(FORMATS)}")
    is_page = output.suffix.lower() in (".html", ".htm")
    with one_moment(results):
        sections = read_sections(results, sweep, detailed=_DETAILED if is_page else None)
        if is_page:
            page = write_html(sections)
            write_atomically(output, lambda stream: stream.write(page))
            written = Report(output, ())
        else:
            written = _write_folder(sections, output)
        if figures is None:
            return written
        everything = read_sections(results, sweep) if is_page else sections
        return Report(written.page, (*written.figures, *_write_figures(everything, Path(figures), formats)))


def _write_folder(sections: Sequence[Section], folder: Path) -> Report:
    drawn = dict[str, str]()
    for figure in _figures(sections):
        picture = figure.picture()
        if picture is not None:
            drawn[figure.name] = f"{figure.name}.png"
            save_figure(picture, folder / drawn[figure.name])
    text = write_markdown(sections, drawn)
    write_atomically(folder / "report.md", lambda stream: stream.write(text.encode()))
    return Report(folder / "report.md", tuple(folder / name for name in drawn.values()))


def _write_figures(sections: Sequence[Section], folder: Path, formats: Sequence[str]) -> Iterator[Path]:
    for figure in _figures(sections):
        chart = figure.chart()
        picture = figure.picture() if chart is None else None
        for ending in formats:
            path = folder / f"{figure.name}.{ending}"
            if chart is not None:
                save_chart(chart, path)
            elif picture is not None:
                write = partial(picture.savefig, format=ending, dpi=160, facecolor="white")
                write_atomically(path, write)
            else:
                continue
            yield path


def _figures(sections: Sequence[Section]) -> Iterator[Figure]:
    for section in sections:
        yield from (part for part in section.parts if isinstance(part, Figure))
