"""Code that a sweep file names, and whether the user has allowed it: decided before any of it is imported."""

import re
from collections.abc import Collection, Iterator
from typing import Any

from hushsweep.datasets.plugins import is_plug_in
from hushsweep.sweeps.errors import Problem, RunError
from hushsweep.workers.measures import MEASURES

Place = tuple[str | int, ...]

_TEXTS = {
    "name": (),
    "description": (),
    "dataset": ("root", "split", "label_column", "image_column", "secondary_column"),
}
"""Where text that looks like a plug-in is no name of one: a whole key of the file, or keys of its sections."""
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def check_allowed(allowed: Collection[str]) -> None:
    """Check what a user allows.

    Raises:
        RunError: it is no collection of names of packages or modules.
    """
    if isinstance(allowed, str):
        raise RunError(f"allow_plugins: expected a list of packages, got the text {allowed!r}")
    for name in allowed:
        if not _MODULE.fullmatch(name):
            raise RunError(
                f"--allow-plugins {name!r}: expected a package or module that may be imported, such as mylab.noise"
            )


def refused_plug_ins(data: dict[str, Any], allowed: Collection[str]) -> list[Problem]:
    """Find the plug-ins that a sweep file names and the user has not allowed, or nobody can; nothing is imported.

    Args:
        data: the file, as read.
        allowed: packages or modules, each with all that it holds; compared by whole dotted components.
    """
    problems = []
    for key, value in data.items():
        for place, text in _texts(value, (key,)):
            module = text.partition(":")[0]
            if is_plug_in(text) and key == "measures" and place[-1] == "name":
                problems.append(Problem(place, _no_measure(text)))
            elif is_plug_in(text) and not any(f"{module}.".startswith(f"{name}.") for name in allowed):
                problems.append(Problem(place, _refusal(text, module)))
    return problems


def _refusal(name: str, module: str) -> str:
    return (
        f"{name!r} is code from outside hushsweep, which a sweep file may run only if you allow it; "
        f"add --allow-plugins {module} after reading it"
    )


def _no_measure(name: str) -> str:
    return (
        f"{name!r} is code from outside hushsweep, and a measure cannot be: the store has no table for its rows per "
        f"image; name one of {', '.join(sorted(MEASURES))}, or add yours to hushsweep (docs/extending.md)"
    )


def _texts(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    """Yield every text below ``value`` but those that are never names; what YAML repeats by an alias once."""
    seen, pending = set[int](), [(place, value)]
    while pending:
        where, found = pending.pop()
        if isinstance(found, str) and not _is_plain_text(where):
            yield where, found
        elif isinstance(found, dict | list) and id(found) not in seen:
            seen.add(id(found))
            inner = found.items() if isinstance(found, dict) else enumerate(found)
            pending += [((*where, key), one) for key, one in inner]


def _is_plain_text(place: Place) -> bool:
    section, last = place[0], next((step for step in reversed(place) if isinstance(step, str)), None)
    if section not in _TEXTS:
        return False
    return section == last if not _TEXTS[str(section)] else last in _TEXTS[str(section)]
