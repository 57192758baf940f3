"""Pieces of HTML for the page, with every name escaped."""

import base64
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from hushsweep.dashboards.promises import promise
from hushsweep.dashboards.status import SweepStatus

_KINDS = {
    "original": "original",
    "bound": "moved by the bound",
    "moved": "moved as far as the noise hides",
    "mask": "mask (black 0, white 1)",
    "transformed": "what leaves",
    "reconstruction": "what attacks make of what leaves",
}
_SIDE = 96


def sentence_html(text: str, kind: str = "note") -> str:
    """A paragraph of plain text."""
    return f'<p class="hush-{kind}">{escape(text)}</p>'


def list_html(lines: Sequence[str], *, most: int = 8) -> str:
    """A list of plain sentences, those beyond `most` counted."""
    shown = "".join(f"<li>{escape(line)}</li>" for line in lines[:most])
    more = f"<li>... and {len(lines) - most} more: choose fewer sweeps or models</li>" if lines[most:] else ""
    return f'<ul class="hush-answer">{shown}{more}</ul>'


def sql_html(sql: str) -> str:
    """The SQL of a picture; one click selects all of it."""
    return (
        "<details class='hush-sql'><summary>SQL</summary>"
        "<p>One click selects it; it runs as it stands in <code>hushsweep query</code> and in notebooks.</p>"
        f"<pre>{escape(sql)}</pre></details>"
    )


def table_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """A small table; numbers in four digits."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(str(name))}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(value))}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return f'<table class="hush-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def promises_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """What each bound of rows of the view bounds promises, and to whom."""
    found = {row["bound"]: row["holds_for"] or "no bound" for row in rows}
    lines = "".join(
        f"<li><b>{escape(promise(bound).title)}</b> ({escape(holds_for)}): {escape(promise(bound).sentence)}</li>"
        for bound, holds_for in found.items()
    )
    return f"<ul class='hush-promises'>{lines}</ul>"


def gallery_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Pictures by image, then by what they show; empty where there is none."""
    groups = defaultdict[tuple[int, str], list[str]](list)
    for row in rows:
        if (tile := _tile(row)) is not None:
            groups[row["image_index"], row["kind"]].append(tile)
    order = list(_KINDS)
    keys = sorted(
        groups, key=lambda key: (key[0], order.index(key[1]) if key[1] in order else len(order), key[1])
    )
    parts = [
        f"<div class='hush-part'>Image {image}: {escape(_KINDS.get(kind, kind.replace('_', ' ')))}</div>"
        f"<div class='hush-gallery'>{''.join(groups[image, kind])}</div>"
        for image, kind in keys
    ]
    return "".join(parts)


def status_html(states: Sequence[SweepStatus]) -> str:
    """Progress, failures and nodes of sweeps."""
    return "".join(map(_state, states)) or sentence_html("No sweep has been run into this folder yet.")


def _state(state: SweepStatus) -> str:
    doing = f"running: {state.running}" if state.running else "not running"
    left = f", about {state.seconds_left:.0f} s left" if state.running and state.seconds_left else ""
    words = f"{state.done} of {state.points} points done, {state.failed} failed, {state.missing} missing"
    failures = [
        {"point": one.label, "measure": one.measure, "reason": one.reason} for one in state.failures[:10]
    ]
    more = (
        sentence_html(f"... and {len(state.failures) - 10} more: hushsweep status {state.sweep}")
        if state.failures[10:]
        else ""
    )
    nodes = [
        {
            "node": use.node,
            "done": use.done,
            "failed": use.failed,
            "workers": use.workers,
            "images/s": use.images_per_second,
            "last row": "-" if use.last_row_at is None else f"{use.last_row_at:%Y-%m-%d %H:%M:%S} UTC",
        }
        for use in state.nodes
    ]
    return (
        f"<div class='hush-part'>{escape(state.sweep)}</div>"
        f"<progress max='{max(1, state.points)}' value='{state.done}'></progress>"
        f"{sentence_html(f'{words}; {doing}{left}')}{table_html(failures)}{more}{table_html(nodes)}"
    )


def _tile(row: Mapping[str, Any]) -> str | None:
    pixels = np.frombuffer(row["pixels"], np.uint8)
    shape = (row["channels"], row["height"], row["width"])
    if shape[0] not in (1, 3) or pixels.size != np.prod(shape):
        return None
    image = pixels.reshape(shape)
    stream = io.BytesIO()
    Image.fromarray(image[0] if shape[0] == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))).save(
        stream, "png"
    )
    source = base64.b64encode(stream.getvalue()).decode()
    words = _caption(row)
    return (
        f"<figure><img alt='{escape(words)}' width='{_SIDE}' src='data:image/png;base64,{source}'>"
        f"<figcaption>{escape(words)}</figcaption></figure>"
    )


def _caption(row: Mapping[str, Any]) -> str:
    if row["kind"] == "original":
        return f"{row['model']}"
    level = "" if row["level"] is None else f"{row['level']:.3g}"
    return " · ".join(filter(None, (row["bound"], row["method"], row["variant"], level)))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
