"""The package that docs/extending.md builds works as the page says."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hushsweep.dashboards import run_query

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCKS if found == language]


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package and the sweep file of the page, where its sweep has been run."""
    folder = tmp_path_factory.mktemp("laboratory")
    (folder / "mylab").mkdir()
    (folder / "mylab" / "plugins.py").write_text(blocks("python")[0])
    (folder / "bars.yaml").write_text(blocks("yaml")[0])
    line = blocks("bash")[0].splitlines()[0]
    found = call(folder, *shlex.split(line)[1:], "--local", "--no-mlflow")
    assert found.returncode == 0, found.stdout + found.stderr
    return folder


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hushsweep.sweeps", *arguments]
    path = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=path, capture_output=True, text=True)


def test_its_sweep_has_an_accuracy_and_a_bound_at_every_point(laboratory: Path) -> None:
    rows = run_query(laboratory / "results", "SELECT * FROM tradeoff").to_pylist()
    assert len(rows) == 6
    assert {row["mechanism"] for row in rows} == {"gaussian", "mylab.plugins:ClippedGaussian"}
    assert all(row["clean_top1"] > 0.8 and 0.6 < row["top1"] <= 1 for row in rows)
    bounds = run_query(laboratory / "results", "SELECT mechanism, mean_mse_bound FROM bounds").to_pylist()
    assert len(bounds) == 6
    assert all(row["mean_mse_bound"] > 0 for row in bounds)


def test_its_questions_are_answered(laboratory: Path) -> None:
    questions = [line for text in blocks("bash") for line in text.splitlines() if " query " in line]
    assert len(questions) == 3
    for line in questions:
        found = call(laboratory, *shlex.split(line)[1:])
        assert found.returncode == 0, found.stderr


def test_it_is_refused_where_nobody_allows_it(laboratory: Path) -> None:
    found = call(laboratory, "plan", "bars.yaml")
    assert found.returncode == 2
    assert "--allow-plugins mylab.plugins" in found.stderr


def test_its_mechanism_keeps_the_contract_and_its_bound_is_infinite_where_nothing_is_seen(
    laboratory: Path,
) -> None:
    found = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks("python")[1:])],
        env={**os.environ, "PYTHONPATH": str(laboratory)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    numbers = [
        float(number) for number in re.findall(r"[\d.]+(?:e[+-]\d+)?|inf", found.stdout.partition("]")[0])
    ]
    assert numbers[2] == float("inf")
    assert 0 < numbers[0] < 0.05
