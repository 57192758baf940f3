"""Errors of attacks, and bounds on them, along a curve: the lines of its picture."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hushsweep.dashboards.promises import place, promise

KINDS = ("every", "unbiased", "attack", "oracle", "blind")
"""Bounds for every estimator, those for unbiased ones, attacks, oracles that are none, and the blind floor."""
_ABOVE, _BELOW = 1e3, 1e4
"""Largest and smallest error that is drawn, as factors of the largest of the attacks."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Line:
    """One bound or attack along a curve.

    Attributes:
        name: As in a legend; no other line of the picture has it.
        kind: One of :data:`KINDS`.
        points: Positive level to mean squared error, normalised pixels squared.
        images: Most images behind one of its numbers.
    """

    name: str
    kind: str
    points: dict[float, float]
    images: int


def lines_of(attacks: Sequence[Mapping[str, Any]], bounds: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Lines of one curve, bounds before attacks; what a logarithmic axis cannot show is left out.

    Args:
        attacks: Rows of the view reconstructions, of one curve of one sweep.
        bounds: Rows of the view sandwich, of the same.
    """
    groups = defaultdict[tuple[Any, ...], list[Mapping[str, Any]]](list)
    for row in bounds:
        groups[tuple(row[name] for name in ("bound", "queries", "distance", "prior_std", "images"))].append(
            row
        )
    count = Counter(_bound_name(own[0]) for own in groups.values())
    found = list[Line]()
    for key in sorted(groups, key=lambda key: (place(key[0]), str(key))):
        own = groups[key]
        name = _bound_name(own[0])
        if count[name] > 1:
            name += f" ({_options(own[0])})"
        kind = "unbiased" if own[0]["holds_for"].startswith("unbiased") else "every"
        found.append(_line(name, kind, own, "mse_bound", "images"))
    named = defaultdict[str, list[Mapping[str, Any]]](list)
    for row in attacks:
        named[row["attack"]].append(row)
    own_lines = [
        _line(f"{name}{_WORDS[kind]}", kind, own, "mse", "n")
        for name, own in named.items()
        for kind in [_kind(own[0])]
    ]
    found += sorted(own_lines, key=lambda line: (KINDS.index(line.kind), line.name))
    return [line for line in found if line.points]


def span(lines: Sequence[Line]) -> tuple[float, float]:
    """Smallest and largest error to draw: a bound far above every attack would flatten all else."""
    values = [value for line in lines for value in line.points.values()]
    top = max(
        (value for line in lines if line.kind not in ("every", "unbiased") for value in line.points.values()),
        default=max(values),
    )
    return max(min(values), top / _BELOW) / 1.3, min(max(values), top * _ABOVE) * 1.3


_WORDS = {"attack": "", "oracle": ": an oracle, no attack", "blind": ": the mean training image"}


def _kind(row: Mapping[str, Any]) -> str:
    if row["is_oracle"]:
        return "oracle"
    return "blind" if row["attack"].partition(",")[0] == "blind" else "attack"


def _bound_name(row: Mapping[str, Any]) -> str:
    queries = f", {row['queries']} queries" if row["queries"] > 1 else ""
    return f"{promise(row['bound']).title}{queries}: for {row['holds_for']}"


def _options(row: Mapping[str, Any]) -> str:
    words = [f"{name.replace('_', ' ')} {row[name]:g}" for name in ("distance", "prior_std") if row[name]]
    return ", ".join([*words, f"{row['images']} images"])


def _line(name: str, kind: str, rows: Sequence[Mapping[str, Any]], column: str, images: str) -> Line:
    points = {row["level"]: row[column] for row in rows if (row["level"] or 0) > 0 and (row[column] or 0) > 0}
    return Line(
        name=name,
        kind=kind,
        points=dict(sorted(points.items())),
        images=max((row[images] or 0 for row in rows), default=0),
    )
