"""The error of a plug-in (model, cut, mechanism, measure) that was asked for something it cannot do."""

import difflib
from collections.abc import Iterable


class PlugInError(ValueError):
    """A user's mistake about a model, weights, cut, mechanism or measure: one sentence with its mend."""


def unknown_name(kind: str, name: str, known: Iterable[str], *, list_all: bool = True) -> PlugInError:
    """Say that a name is unknown, what was probably meant, and what exists.

    Args:
        kind: What is named, for example ``"model"``.
        name: What the user wrote.
        known: Every name that would have been right.
        list_all: Whether to print all known names; leave out where there are hundreds.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    listing = f" Known: {', '.join(names)}" if list_all else ""
    return PlugInError(f"unknown {kind} {name!r}{hint}{listing}")
