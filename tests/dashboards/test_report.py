"""The report holds the tables of the SQL that it shows, and shows no text of a user as markup."""

import re
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from hushsweep.dashboards import run_query, write_report
from hushsweep.dashboards.promises import ORDER, promise
from hushsweep.dashboards.queries.output import markdown_table
from hushsweep.datasets.results import Store, StoreError
from hushsweep.sweeps.cli import app
from tests.dashboards.bound_rows import BOUNDS, entry_of, fill_bounds, statistics, write_bounds
from tests.dashboards.conftest import ACCURACY, failed, fill_folder, plan_of, points, write_trial

runner = CliRunner()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return fill_bounds(tmp_path_factory.mktemp("strong"))


def test_the_tables_are_the_answers_to_the_sql_below_them(store: Store, tmp_path: Path) -> None:
    found = runner.invoke(app, ["report", "strong", "-o", str(tmp_path), "--results", str(store.root)])
    assert found.exit_code == 0, found.output
    assert "9 pictures" in found.output
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    tables = re.findall(r"((?:^\|[^\n]*\|\n)+)\n```sql\n(.*?)\n```", page, re.DOTALL | re.MULTILINE)
    assert len(tables) == page.count("```sql") == 10  # accuracy, eight bounds, provenance
    for table, sql in tables:
        assert table == markdown_table(run_query(store.root, sql))
    linked = set(re.findall(r"!\[[^]]*\]\((.*?)\)", page))
    assert linked == {path.name for path in tmp_path.glob("*.png")}
    assert len(linked) == 9
    for name in linked:
        with Image.open(tmp_path / name) as image:
            assert image.format == "PNG"


def test_every_bound_says_what_it_promises_and_for_whom(store: Store, tmp_path: Path) -> None:
    page = write_report(store.root, "strong", tmp_path).page.read_text(encoding="utf-8")
    for bound in ("cramer_rao", "barankin", "hcr", "dfil", "van_trees", "two_point", "mmse", "rero"):
        section = page.partition(f"### {promise(bound).title}\n")[2].partition("###")[0]
        assert promise(bound).sentence in section
        assert ("**Holds for " in section) == (bound != "mmse")
    assert "**No bound: the least error" in page
    caveats = page.partition("## Caveats")[2]
    for words in ("memorised, not validation", "prior knowledge", "is an average", "square root of k"):
        assert words in caveats
    assert "proved for Gaussian noise only" in page
    assert all(promise(bound).title != bound for bound in ORDER)


def test_a_sweep_of_accuracy_alone_has_a_report_without_bounds(tmp_path: Path) -> None:
    store = fill_folder(tmp_path / "results")
    report = write_report(store.root, "small", tmp_path / "report")
    assert [path.name for path in report.figures] == ["tradeoff.png"]
    page = report.page.read_text(encoding="utf-8")
    assert "## Accuracy" in page
    assert "## Bounds" not in page
    assert "unbiased" not in page


def test_failures_are_told(tmp_path: Path) -> None:
    store, entry = Store(tmp_path / "results"), points()[0]
    store.write_sweep("s", spec_text="", plan=plan_of("s", [entry]))
    write_trial(store, "t", [entry], ACCURACY)
    store.write("measurements", "t.failed", failed(entry, entry["measures"][1], "t", "out of <memory>"))
    page = write_report(store.root, "s", tmp_path / "report").page.read_text(encoding="utf-8")
    assert "0 of 1 points complete; 1 failed, 0 missing." in page
    assert r"- failed: out of \<memory\>" in page


def test_text_of_users_stays_text(tmp_path: Path) -> None:
    odd = "a|b <img src=x onerror=alert(1)> ![p](http://e.org/p.png) *x* `y`\n# z"
    store, entry = Store(tmp_path / "results"), entry_of(1.0)
    store.write_sweep("it.s", spec_text="", plan=plan_of("it.s", [entry]))
    write_bounds(store, "t", [entry])
    changes = {"model": odd, "mechanism": "it's", "caveat": odd}
    store.write("measurements", f"t.{BOUNDS}", [{**row, **changes} for row in statistics(entry, "t")])
    page = write_report(store.root, "it.s", tmp_path / "report").page.read_text(encoding="utf-8")
    outside = re.sub(r"```sql\n.*?\n```", "", page, flags=re.DOTALL)
    assert r"\<img src=x onerror=alert(1)\>" in outside
    assert re.search(r"(?<!\\)<", outside) is None
    assert re.search(r"(?<!\\)!\[p|\n# z", outside) is None
    assert r"a\|b" in outside


@pytest.mark.parametrize(
    ("sweep", "said"), [("other", "no sweep 'other'; known: strong"), ("../x", "no sweep '../x'")]
)
def test_an_unknown_sweep_is_one_sentence_and_exit_code_2(
    store: Store, tmp_path: Path, sweep: str, said: str
) -> None:
    found = runner.invoke(app, ["report", sweep, "-o", str(tmp_path / "r"), "--results", str(store.root)])
    assert found.exit_code == 2
    assert said in found.output
    assert found.output.count("error: ") == 1
    assert not (tmp_path / "r").exists()


def test_nothing_computed_and_a_folder_that_is_a_file_are_said(store: Store, tmp_path: Path) -> None:
    empty = Store(tmp_path / "results")
    empty.write_sweep("s", spec_text="", plan=plan_of("s", points()))
    with pytest.raises(StoreError, match="sweep 's': nothing is computed yet"):
        write_report(empty.root, "s", tmp_path / "r")
    (tmp_path / "file").write_text("mine")
    found = runner.invoke(
        app, ["report", "strong", "-o", str(tmp_path / "file"), "--results", str(store.root)]
    )
    assert found.exit_code == 2
    assert "could not be written" in found.output
    assert (tmp_path / "file").read_text() == "mine"


def test_query_prints_markdown(store: Store) -> None:
    sql = "SELECT level, max(mean_rank) AS rank, max(mean_radius - NULL) AS none FROM bounds GROUP BY level"
    found = runner.invoke(app, ["query", sql, "--format", "markdown", "--results", str(store.root)])
    assert found.exit_code == 0, found.output
    assert found.output.splitlines()[:2] == ["| level | rank | none |", "| ---: | ---: | ---: |"]
    assert "| 0.25 | 42 |  |" in found.output.splitlines()
