"""What the documents say is there: links resolve, lines work, nothing names a machine or a registry."""

import dataclasses
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_resolve(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_readme_has_two_lines_that_set_everything_up() -> None:
    lines = re.findall(r"^python3 -m venv.*$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert len(lines) == 2
    assert "run sweeps/examples/quickstart.yaml && " in lines[0]
    assert lines[0].endswith("run sweeps/examples/quickstart_tradeoff.yaml")
    assert "-m pytest" in lines[1]


def test_nothing_names_a_machine_or_a_registry() -> None:
    pattern = "(^|[^.[:alnum:]])/(work|farm|root)/|https?://(files|registry|deb)[.]|/simple/"
    found = subprocess.run(
        ["git", "grep", "-nIE", pattern, "--", ".", ":!tests/test_docs.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if found.returncode > 1:
        pytest.skip("not a git checkout")
    assert found.stdout == ""


def test_every_mechanism_measure_and_execution_key_is_documented() -> None:
    from hushsweep.sweeps.spec import ExecutionSpec
    from hushsweep.workers.measures import MEASURES
    from hushsweep.workers.mechanisms import MECHANISMS

    text = (ROOT / "docs" / "sweeps.md").read_text()
    for name in [*MECHANISMS, *MEASURES, *ExecutionSpec.model_fields]:
        assert f"`{name}`" in text, name
    for measure in MEASURES.values():
        for field in dataclasses.fields(measure):
            assert f"`{field.name}`" in text, field.name


def test_the_first_sweep_gives_what_its_page_shows(quickstart: Path) -> None:
    from hushsweep.dashboards import run_query
    from hushsweep.dashboards.queries.ready_made import statement

    page = (ROOT / "docs" / "first-sweep.md").read_text()
    shown = re.findall(r"^(quickstart\S*) +(\S+) +(\S+) +\S+ +([\d.]+) +([\d.]+) ", page, flags=re.MULTILINE)
    best = run_query(quickstart, statement("best"), loss=0.02).to_pylist()
    assert [(sweep, model, method, float(level)) for sweep, model, method, level, _ in shown] == [
        (row["sweep"], row["model"], row["method"], row["level"]) for row in best
    ]
    for (*_, accuracy), row in zip(shown, best, strict=True):
        assert float(accuracy) == pytest.approx(row["accuracy"], abs=0.02)
