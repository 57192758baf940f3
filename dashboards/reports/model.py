"""What a report consists of, whatever writes it.

Words are Markdown of a small kind: code between backticks, bold between two asterisks, and a backslash before what
means itself. Text of users goes through :func:`~hushsweep.dashboards.queries.output.escape_markdown`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import altair as alt
import pyarrow as pa
from matplotlib.figure import Figure as Picture


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """The answer of a query, and the query."""

    rows: pa.Table
    sql: str


@dataclass(frozen=True)
class Text:
    """Somebody's text as it is; `language` is what Markdown calls it."""

    text: str
    language: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure, drawn when it is asked for.

    Attributes:
        name: Of its file, without ending; safe as one.
        words: What it shows.
        chart_words: What its chart shows, if that is something else, and how to read it.
        picture: Draws it for folders, or gives None where nothing can be drawn.
        chart: The same for pages; without it pages show the picture.
        sql: What the chart draws the answer of, or "".
    """

    name: str
    words: str
    picture: Callable[[], Picture | None] = field(default=lambda: None)
    chart: Callable[[], alt.TopLevelMixin | None] = field(default=lambda: None)
    chart_words: str = ""
    sql: str = ""


Part = Words | Points | Table | Text | Figure


@dataclass(frozen=True)
class Section:
    """A heading and what is below it; `level` is 1 for the report's own."""

    title: str
    parts: list[Part]
    level: int = 2
