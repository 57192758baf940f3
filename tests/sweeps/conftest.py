"""The sweep that a file of tests runs in other ways, and its rows from one process."""

import re
from pathlib import Path

import pytest

from hushsweep.sweeps import run


@pytest.fixture(scope="module")
def sweep(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the module's SWEEP, called as the sweep is."""
    text: str = request.module.SWEEP
    name = re.findall(r"^name: (\S+)", text, re.MULTILINE)[0]
    path = tmp_path_factory.mktemp("sweep") / f"{name}.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def reference(sweep: Path) -> Path:
    """Results of the sweep, run in this process."""
    results = sweep.parent / "reference"
    assert run(sweep, results=results, local=True, mirror=False).exit_code == 0
    return results
