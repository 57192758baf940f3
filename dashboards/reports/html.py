"""Sections as one page that needs nothing else: no server, no network; tables without JavaScript, too."""

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import pyarrow as pa
import vl_convert
from matplotlib.figure import Figure as Picture

from hushsweep.dashboards.charts import look, spec
from hushsweep.dashboards.queries.output import cell_text, is_number
from hushsweep.dashboards.reports.markdown import words_to_html
from hushsweep.dashboards.reports.model import Figure, Part, Points, Section, Table, Text, Words

_LONG = 20
"""Rows of a table above which it scrolls on its own."""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
<script type="application/json" id="charts">{charts}</script>
{scripts}
</body>
</html>
"""


def write_html(sections: Sequence[Section]) -> bytes:
    """Write `sections` as one HTML page.

    Charts are drawn by Vega, which comes along once; its expressions are interpreted, so that the page's own policy
    allows the scripts of the page and no other, no evaluation of text, and no connection.
    """
    charts = list[dict[str, Any]]()
    body = "\n".join(_section(section, charts) for section in sections)
    vega = [_vega()] if charts else []
    scripts = [_script(text) for text in (*vega, _own("page.js"))]
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"
    drawn = {"charts": charts, "looks": {"light": look(), "dark": look(dark=True)}}
    page = _PAGE.format(
        policy=policy,
        title=words_to_html(sections[0].title) + " · hushsweep",
        style=_own("page.css"),
        body=body,
        charts=_json(drawn),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )
    return page.encode()


@cache
def _vega() -> str:
    return str(vl_convert.javascript_bundle())  # type: ignore[call-arg]  # what it is called by is optional


def _own(name: str) -> str:
    return files("hushsweep.dashboards.reports").joinpath(name).read_text(encoding="utf-8")


def _script(text: str) -> str:
    """`text` without what would end a script element, or hide its end; in strings a backslash changes nothing."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _section(section: Section, charts: list[dict[str, Any]]) -> str:
    parts = [_part(part, charts) for part in section.parts]
    heading = f"<h{section.level}>{words_to_html(section.title)}</h{section.level}>"
    return "\n".join(["<section>", heading, *filter(None, parts), "</section>"])


def _part(part: Part, charts: list[dict[str, Any]]) -> str:
    match part:
        case Words(text):
            return f"<p>{words_to_html(text)}</p>"
        case Points(texts):
            return "<ul>\n" + "\n".join(f"<li>{words_to_html(text)}</li>" for text in texts) + "\n</ul>"
        case Table(rows, sql):
            return _table(rows) + _sql(sql)
        case Text(text, _):
            return f'<pre class="text"><code>{escape(text.rstrip())}</code></pre>'
        case Figure():
            return _figure(part, charts)


def _figure(figure: Figure, charts: list[dict[str, Any]]) -> str:
    chart = figure.chart()
    said = (figure.chart_words if chart is not None else "") or figure.words
    words = words_to_html(said[:1].upper() + said[1:])
    if chart is not None:
        charts.append(spec(chart))
        shown = f'<div class="chart" data-chart="{len(charts) - 1}" data-name="{escape(figure.name)}"></div>'
        shown += (
            "<noscript><p>This figure is drawn by JavaScript; its numbers are in the tables.</p></noscript>"
        )
        return f"<figure>{shown}<figcaption>{words}</figcaption>{_sql(figure.sql)}</figure>"
    picture = figure.picture()
    if picture is None:
        return ""
    return f'<figure><img alt="{words}" src="{_data(picture)}"><figcaption>{words}</figcaption></figure>'


def _data(picture: Picture) -> str:
    stream = io.BytesIO()
    picture.savefig(stream, format="png", dpi=110, facecolor="white")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _sql(sql: str) -> str:
    if not sql:
        return ""
    button = '<button type="button" class="copy">Copy</button>'
    return f"<details><summary>SQL</summary>{button}<pre><code>{escape(sql)}</code></pre></details>"


def _table(rows: pa.Table) -> str:
    kinds = [' class="number"' if is_number(field.type) else "" for field in rows.schema]
    head = "".join(
        f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, rows.column_names, strict=True)
    )
    columns = [[escape(cell_text(value, 4)) for value in column.to_pylist()] for column in rows.columns]
    lines = [
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, line, strict=True)) + "</tr>"
        for line in zip(*columns, strict=True)
    ]
    size = " long" if len(lines) > _LONG else ""
    body = "\n".join(lines)
    return f'<div class="table{size}"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
