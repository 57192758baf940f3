"""Sections as Markdown, and their words as HTML."""

import re
from collections.abc import Iterator, Sequence
from html import escape

from hushsweep.dashboards.queries.output import markdown_table
from hushsweep.dashboards.reports.model import Figure, Part, Points, Section, Table, Text, Words

_TOKEN = re.compile(r"\\(?P<plain>.)|`(?P<code>[^`]*)`|\*\*(?P<bold>.*?)(?<!\\)\*\*", re.DOTALL)


def write_markdown(sections: Sequence[Section], figures: dict[str, str]) -> str:
    """Write `sections` as one Markdown text; `figures` are the files of those that were drawn, by name."""
    return "\n".join(line for section in sections for line in _section(section, figures))


def words_to_html(text: str) -> str:
    """Turn the words of a report into HTML; what is no code, no bold text and no backslash stays as it is."""
    found, end = list[str](), 0
    for token in _TOKEN.finditer(text):
        found.append(escape(text[end : token.start()]))
        if token["plain"] is not None:
            found.append(escape(token["plain"]))
        elif token["code"] is not None:
            found.append(f"<code>{escape(token['code'])}</code>")
        else:
            found.append(f"<strong>{words_to_html(token['bold'])}</strong>")
        end = token.end()
    return "".join([*found, escape(text[end:])])


def _section(section: Section, figures: dict[str, str]) -> Iterator[str]:
    yield f"{'#' * section.level} {section.title}\n"
    for part in section.parts:
        yield from _part(part, figures)


def _part(part: Part, figures: dict[str, str]) -> Iterator[str]:
    match part:
        case Words(text):
            yield f"{text}\n"
        case Points(texts):
            yield "".join(f"- {text}\n" for text in texts)
        case Table(rows, sql):
            yield markdown_table(rows)
            yield f"```sql\n{sql}\n```\n"
        case Text(text, language):
            ticks = max(map(len, re.findall("`+", text)), default=0)
            fence = "`" * max(3, ticks + 1)
            yield f"{fence}{language}\n{text.rstrip()}\n{fence}\n"
        case Figure(name=name, words=words):
            if name in figures:
                yield f"![{words}]({figures[name]})\n"
