"""docs/mechanisms.md names every mechanism that learns, with its places, level, server, keys and defaults."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from hushsweep.workers.learning import Learning
from hushsweep.workers.mechanisms import MECHANISMS
from hushsweep.workers.mechanisms.learned import LearnedMechanism

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "mechanisms.md").read_text()
LEARNED = {name: cls for name, cls in MECHANISMS.items() if issubclass(cls, LearnedMechanism)}
SHARED = {field.name for field in fields(Learning)} | {"weights"}


def row(name: str) -> list[str]:
    """Cells of the row that begins with ``name``."""
    (line,) = re.findall(rf"^\| `{name}` \|.*$", TEXT, flags=re.MULTILINE)
    return [cell.strip() for cell in line.split("|")[1:-1]]


@pytest.mark.parametrize("name", LEARNED)
def test_the_table_says_what_the_class_says(name: str) -> None:
    cls = LEARNED[name]
    _, places, level, server, own, _ = row(name)
    assert tuple(re.findall(r"`(\w+)`", places)) == cls.PLACES
    assert re.findall(r"`(\w+)`", level)[0] == cls.LEVELS[0]
    defaults = {field.name: field.default for field in fields(cls)}
    assert server == f"`{defaults['server']}`"
    keys = set(defaults) - SHARED - {"server", *cls.LEVELS}
    assert set(re.findall(r"`(\w+)` \(", own)) == keys
    for key in keys:
        written = re.search(rf"`{key}` \(([^ ,)]+)", own)
        assert written is not None
        expected = "none" if defaults[key] is None else defaults[key]
        expected = str(expected).lower() if isinstance(expected, bool) else expected
        assert (written[1] == expected) if isinstance(expected, str) else float(written[1]) == expected, key


def test_the_shared_keys_and_their_defaults() -> None:
    for field in fields(Learning):
        _, default, _ = row(field.name)
        if field.default is None:
            assert default in ("none", "the preset's")
        elif isinstance(field.default, str):
            assert default == field.default
        else:
            assert float(default) == field.default
    assert row("weights")[1] == "none"
