"""docs/information.md lists the options and statistics as they are, and its Python prints what it says."""

import contextlib
import io
import re
from dataclasses import fields
from pathlib import Path

import pytest

from hushsweep.workers.measures import Information
from hushsweep.workers.measures.information import HOLDS_FOR

TEXT = (Path(__file__).parents[3] / "docs" / "information.md").read_text(encoding="utf-8")


def test_every_option_is_told_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\w.]+) \|", TEXT, flags=re.MULTILINE))
    assert rows.keys() == {field.name for field in fields(Information)}
    for field in fields(Information):
        told = rows[field.name]
        assert told == str(field.default).lower() or float(told) == field.default, field.name


def test_every_bound_is_explained() -> None:
    for name in HOLDS_FOR:
        assert f"\n| `{name}` |" in TEXT


def test_the_example_prints_what_it_says() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    told = re.findall(r"^print.*  # (.*)$", code, flags=re.MULTILINE)
    lines = re.sub(r", dtype=torch.float64|tensor|[()]", "", printed.getvalue()).splitlines()
    assert len(told) == len(lines) == 2
    for line, expected in zip(lines, told, strict=True):
        numbers = [float(number) for number in line.split()]
        assert numbers == pytest.approx([float(word) for word in expected.split()], abs=0.1), line
