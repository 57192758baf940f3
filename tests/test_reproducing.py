"""docs/reproducing-hcr.md and docs/ani.md say what their rows say: every table has SQL, and is its answer."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hushsweep.dashboards import run_query
from hushsweep.datasets.results import Store

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TEXT = (DOCS / "reproducing-hcr.md").read_text()
ROWS = DOCS / "rows"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("refresh", DOCS / "refresh.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


refresh = _script()
BLOCKS = list(refresh.blocks(TEXT))
PAGES = refresh.pages(ROWS)
ALL_BLOCKS = [block for text in PAGES.values() for block in refresh.blocks(text)]


@pytest.mark.parametrize("block", ALL_BLOCKS, ids=lambda block: block.table.split("\n")[0])
def test_a_table_is_what_its_sql_gives(block: Any) -> None:
    assert block.table == refresh.answer(ROWS, block.sql), "run: python docs/refresh.py"


def test_no_table_is_without_sql() -> None:
    tables = re.findall(r"(?:^[ \t]*\|.*\n)+", TEXT, flags=re.MULTILINE)
    assert tables == [block.table for block in BLOCKS]
    assert TEXT.count("```sql") == len(BLOCKS) > 0


def test_a_changed_number_or_a_missing_table_is_noticed() -> None:
    assert refresh.refreshed(TEXT, ROWS) == TEXT
    digit = re.search(r"\d", BLOCKS[1].table)
    assert digit is not None
    place = BLOCKS[1].start + digit.start()
    typed = TEXT[:place] + str((int(digit[0]) + 1) % 10) + TEXT[place + 1 :]
    without = TEXT.replace(BLOCKS[1].table + "\n", "")
    assert len(without) < len(TEXT)
    assert refresh.refreshed(typed, ROWS) == refresh.refreshed(without, ROWS) == TEXT


def test_sql_that_nothing_answers_is_an_error() -> None:
    with pytest.raises(ValueError, match="no rows"):
        refresh.answer(ROWS, "FROM measurements WHERE sweep = 'none'")
    with pytest.raises(ValueError, match="nowhere"):
        refresh.answer(ROWS, "FROM nowhere")


def test_sql_can_be_pasted_between_double_quotes_of_a_shell() -> None:
    for block in [*BLOCKS, *refresh.blocks((DOCS / "ani.md").read_text())]:
        assert not set('"$`\\!') & set(block.sql), block.sql


def test_taking_sweeps_copies_what_the_tables_need(tmp_path: Path) -> None:
    sweeps = Store(ROWS, create=False).sweeps()
    for sweep in (*sweeps, sweeps[0]):  # one at a time, the first again
        refresh.take(ROWS, [sweep], tmp_path / "rows")
    assert refresh.refreshed(TEXT, tmp_path / "rows") == TEXT
    counted = "SELECT count(*) AS n FROM raw_measurements"
    assert run_query(tmp_path / "rows", counted) == run_query(ROWS, counted)
    for path in (tmp_path / "rows").rglob("*"):
        assert (ROWS / path.relative_to(tmp_path / "rows")).exists(), path


def test_an_unknown_or_unfinished_sweep_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no sweep 'other'; known: "):
        refresh.take(ROWS, ["other"], tmp_path / "rows")
    shutil.copytree(ROWS, tmp_path / "results")
    shutil.rmtree(tmp_path / "results" / "measurements")
    with pytest.raises(ValueError, match="missing or failed"):
        refresh.take(tmp_path / "results", Store(ROWS, create=False).sweeps(), tmp_path / "rows")
    assert not (tmp_path / "rows").exists()


def test_only_small_rows_of_public_data_that_name_no_machine_are_kept() -> None:
    found = run_query(
        ROWS, "SELECT DISTINCT dataset, status, node, worker, git_commit FROM raw_measurements"
    ).to_pylist()
    assert {row["dataset"] for row in found} <= set(refresh.NUMBERS)
    assert all(row["status"] != "failed" for row in found)
    assert all(row["node"] is row["worker"] is row["git_commit"] is None for row in found)
    files = {path.relative_to(ROWS).parts[0] for path in ROWS.rglob("*") if path.is_file()}
    assert files == {"hushsweep.json", "measurements", "sweeps"}
    assert sum(path.stat().st_size for path in ROWS.rglob("*") if path.is_file()) < 400_000


def test_figures_are_shown_few_and_small() -> None:
    texts = "".join((DOCS / name).read_text() for name in refresh.PAGES)
    shown = {f"{name}.png" for name in re.findall(r"\]\(figures/([\w-]+)\.png\)", texts)}
    stored = {path.name: path.stat().st_size for path in (DOCS / "figures").iterdir()}
    assert shown == set(stored)
    assert sum(stored.values()) < 1_000_000
    datasets = {re.sub(r"^(ani|attack)-", "", name).split("-")[0] for name in stored}
    assert datasets <= {"mnist", "cifar10", "fashion"}


def test_figures_of_other_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("# imagenet-bounds\n")
    text = "![x](figures/imagenet-bounds-curve-1-modes.png)"
    with pytest.raises(ValueError, match="only figures of mnist, cifar10, fashion_mnist are shown"):
        refresh.copy_figures(tmp_path, text, ROWS, tmp_path)
    with pytest.raises(ValueError, match=r"no report\.md"):
        refresh.copy_figures(tmp_path / "none", text, ROWS, tmp_path)


def test_the_script_has_help_and_says_that_nothing_changed() -> None:
    for option, words in (("--help", "--take RESULTS"), ("--check", "up to date")):
        done = subprocess.run(
            [sys.executable, DOCS / "refresh.py", option], capture_output=True, text=True, check=True
        )
        assert words in done.stdout


def test_a_figure_is_shown_where_it_has_a_place_once_it_is_there(tmp_path: Path) -> None:
    mark = "<!-- figure ani-mnist-frontier: Two words -->\n"
    text = f"before\n\n{mark}\nafter\n"
    assert refresh.figure_names(text) == ["ani-mnist-frontier"]
    assert refresh.refreshed(text, ROWS, tmp_path) == text
    (tmp_path / "ani-mnist-frontier.png").touch()
    shown = refresh.refreshed(text, ROWS, tmp_path)
    assert shown == text.replace(mark, f"{mark}![Two words](figures/ani-mnist-frontier.png)\n")
    assert refresh.refreshed(shown, ROWS, tmp_path) == shown


def test_a_page_without_its_rows_stays_as_it_is(tmp_path: Path) -> None:
    assert refresh.pages(tmp_path) == {}
    assert DOCS / "reproducing-hcr.md" in PAGES
