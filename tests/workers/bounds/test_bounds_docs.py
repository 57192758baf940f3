"""The Python of docs/bounds.md runs and prints what it says; every name in its tables exists."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from hushsweep.workers import bounds

TEXT = (Path(__file__).parents[3] / "docs" / "bounds.md").read_text(encoding="utf-8")
NUMBER = r"\d+\.?\d*(?:e-?\d+)?"


def test_the_examples_print_what_they_say() -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    told = re.findall(r"^print.*  # (.*)$", code, flags=re.MULTILINE)
    lines = re.sub(r"dtype=torch.float64|tensor", "", printed.getvalue()).splitlines()
    assert len(told) == len(lines) > 10
    for line, expected in zip(lines, told, strict=True):
        # told with two digits
        numbers = [float(number) for number in re.findall(NUMBER, line)]
        assert numbers == pytest.approx([float(word) for word in expected.split()], rel=0.06), line


def test_every_function_that_it_names_exists() -> None:
    calls = set(re.findall(r"`(\w+)\(", TEXT)) | set(re.findall(r"`(\w+_(?:bound|estimate)\w*)`", TEXT))
    assert len(calls) > 8
    assert calls <= set(bounds.__all__)
