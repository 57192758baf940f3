"""Look-up in the tables of plug-ins, with an error that helps."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from hushsweep.datasets.plugins import import_plug_in, is_plug_in
from hushsweep.workers.errors import PlugInError


def find_plugin(kind: str, name: str, table: Mapping[str, Any], *, needs: Iterable[str]) -> Any:
    """Return the class called ``name`` in ``table``, or import it from ``package.module:Name``.

    Args:
        kind: what the table holds, for messages.
        name: as the sweep file spells it.
        table: the names that come with hushsweep.
        needs: attributes that a class from elsewhere must have.

    Raises:
        PlugInError: unknown name, failed import, or an attribute is missing.
    """
    if name in table:
        return table[name]
    if is_plug_in(name):
        return _import_plugin(kind, name, needs)
    near = difflib.get_close_matches(name, table, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise PlugInError(
        f"unknown {kind} {name!r}{hint} Known: {', '.join(sorted(table))}, or package.module:Name"
    )


def _import_plugin(kind: str, name: str, needs: Iterable[str]) -> Any:
    try:
        found = import_plug_in(name)
    except Exception as error:  # whatever a foreign module raises while it is imported
        raise PlugInError(f"cannot import the {kind} {name!r}: {type(error).__name__}: {error}") from error
    missing = [need for need in needs if not hasattr(found, need)]
    if missing or not isinstance(found, type):
        raise PlugInError(f"{name!r} is no {kind}: it lacks {', '.join(missing) or 'being a class'}")
    return found
