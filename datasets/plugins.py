"""Code from elsewhere, spelled ``package.module:Name``: the one place that imports what a sweep file names."""

import importlib
import re
from typing import Any

_SPELLING = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")


def is_plug_in(name: str) -> bool:
    """Whether ``name`` is spelled ``package.module:Name``; nothing else is ever imported."""
    return _SPELLING.fullmatch(name) is not None


def import_plug_in(name: str) -> Any:
    """Import what ``name`` spells, which runs its module and the packages that hold it.

    Whether a sweep file may name it was decided before, where the file was read.

    Raises:
        ValueError: it is not spelled so.
        Exception: whatever other people's code raises while it is imported.
    """
    if not is_plug_in(name):
        raise ValueError(f"{name!r}: expected package.module:Name")
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
