"""Files that nobody should have put there, from outside: a sentence that names them, and what to do."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from hushsweep.datasets.results import Store
from hushsweep.sweeps.cli import app

Fill = Callable[[Path], Store]


def ask(results: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--results", str(results)], catch_exceptions=False)


def half_written(file: Path) -> None:
    whole = next(path for path in file.parent.iterdir() if path.suffix == ".parquet")
    file.write_bytes(whole.read_bytes()[:1000])


def foreign(file: Path) -> None:
    pq.write_table(pa.table({"point_id": [1, 2], "value": ["a", "b"]}), file)


@pytest.mark.parametrize("spoil", [half_written, foreign, lambda file: file.write_text("hello")])
@pytest.mark.parametrize("command", [("query", "overview"), ("query", "tradeoff"), ("query", "best")])
def test_a_file_that_is_none_of_ours_is_named(
    tmp_path: Path, fill: Fill, spoil: Callable[[Path], None], command: tuple[str, ...]
) -> None:
    fill(tmp_path)
    spoil(tmp_path / "measurements" / "stranger.parquet")
    found = ask(tmp_path, *command)
    assert (found.exit_code, found.stdout) == (2, "")
    assert "stranger.parquet" in found.stderr
    assert found.stderr.count("\n") == 1


def test_rows_of_an_older_schema_are_read_with_null(tmp_path: Path, fill: Fill) -> None:
    fill(tmp_path)
    for file in (tmp_path / "measurements").glob("*.parquet"):
        pq.write_table(pq.read_table(file).drop_columns(["task", "penalty", "class_counts"]), file)
    rows = json.loads(ask(tmp_path, "query", "overview", "--sweep", "both", "--format", "json").stdout)
    assert len(rows) == 20
    assert all(row["accuracy"] is not None for row in rows)
    assert ask(
        tmp_path, "query", "SELECT DISTINCT task FROM measurements", "--format", "json"
    ).stdout.split() == [
        "[",
        '{"task":',
        "null}",
        "]",
    ]


def test_an_empty_store_answers_with_no_rows_and_compares_with_a_sentence(tmp_path: Path) -> None:
    Store(tmp_path)
    for name in ("overview", "best", "frontier", "missing", "slowest", "failures", "tradeoff"):
        assert json.loads(ask(tmp_path, "query", name, "--format", "json").stdout) == []
    refused = ask(tmp_path, "query", "compare", "aaaa", "bbbb")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "no point has any row yet" in refused.stderr
