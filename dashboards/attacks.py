"""Errors of attacks, and bounds on them, along a curve: the panels of its picture, each about one quantity."""

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


@dataclass(frozen=True, eq=False, kw_only=True)
class Panel:
    """Lines of one quantity: like beside like.

    Attributes:
        about: What the squared error is that of, or averaged over.
        lines: Bounds before attacks; never empty.
    """

    about: str
    lines: list[Line]


def panels_of(attacks: Sequence[Mapping[str, Any]], bounds: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """Panels of one curve: the error on images, then the average that each bound for every estimator is about.

    What a logarithmic axis cannot show is left out, and so is a panel of which nothing is left. A name means the same
    attack in all panels.

    Args:
        attacks: Rows of the view reconstructions, of one curve of one sweep.
        bounds: Rows of the view sandwich, of the same.
    """
    unbiased = [row for row in bounds if _kind_of_bound(row) == "unbiased"]
    found = [Panel(about="on the images", lines=[*_bounds(_by_options(unbiased)), *_attacks(attacks)])]
    every = defaultdict[tuple[str, str], list[Mapping[str, Any]]](list)
    for row in bounds:
        if _kind_of_bound(row) == "every":
            every[row["bound"], row["averages_over"]].append(row)
    for key in sorted(every, key=lambda key: (place(key[0]), key)):
        groups = _by_options(every[key])
        about = "averaged" + key[1].removeprefix("average")
        found.append(Panel(about=about, lines=[*_bounds(groups), *_strongest(groups)]))
    return [panel for panel in found if panel.lines]


def _bounds(groups: Sequence[Sequence[Mapping[str, Any]]]) -> list[Line]:
    count = Counter(_bound_name(own[0]) for own in groups)
    found = list[Line]()
    for own in groups:
        name = _bound_name(own[0])
        if count[name] > 1:
            name += f" ({_options(own[0])})"
        found.append(_line(name, _kind_of_bound(own[0]), own, "mse_bound", "images"))
    return [line for line in found if line.points]


def _attacks(rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    named = defaultdict[str, list[Mapping[str, Any]]](list)
    for row in rows:
        named[row["attack"]].append(row)
    found = [
        _line(f"{name}{_WORDS[kind]}", kind, own, "mse", "n")
        for name, own in named.items()
        for kind in [_kind(own[0])]
    ]
    found.sort(key=lambda line: (KINDS.index(line.kind), line.name))
    return [line for line in found if line.points]


def _strongest(groups: Sequence[Sequence[Mapping[str, Any]]]) -> list[Line]:
    """The attack with the least error at each level, and the floor, on what the bounds of one kind are about."""
    found = list[Line]()
    for own in groups:
        names = sorted({row["attack"] for row in own})
        name = names[0] if len(names) == 1 else f"best of {', '.join(names)}"
        if len(groups) > 1:
            queries = f", {own[0]['queries']} queries" if own[0]["queries"] > 1 else ""
            name += f"{queries} ({_options(own[0])})"
        found.append(_line(name, "attack", own, "attack_mse", "images"))
    floor = _line(f"blind{_WORDS['blind']}", "blind", groups[0], "mse_blind", "images")
    return [line for line in [*found, floor] if line.points]


def _by_options(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Rows of each bound by its options, weakest promise first."""
    groups = defaultdict[tuple[Any, ...], list[Mapping[str, Any]]](list)
    for row in rows:
        groups[tuple(row[name] for name in ("bound", "queries", "distance", "prior_std", "images"))].append(
            row
        )
    return [groups[key] for key in sorted(groups, key=lambda key: (place(key[0]), str(key)))]


def span(lines: Sequence[Line]) -> tuple[float, float]:
    """Smallest and largest error to draw: a bound far above every attack would flatten all else."""
    values = [value for line in lines for value in line.points.values()]
    top = max(
        (value for line in lines if line.kind not in ("every", "unbiased") for value in line.points.values()),
        default=max(values),
    )
    return max(min(values), top / _BELOW) / 1.3, min(max(values), top * _ABOVE) * 1.3


_WORDS = {"attack": "", "oracle": ": an oracle, no attack", "blind": ": the mean training image"}


def _kind_of_bound(row: Mapping[str, Any]) -> str:
    return "unbiased" if row["holds_for"].startswith("unbiased") else "every"


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
