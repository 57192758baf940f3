"""Answers as text and files."""

import csv
import io
import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hushsweep.dashboards import QueryError, write_result

TABLE = pa.table(
    {
        "model": ["resnet18", "naïve, \x1b[31m\nred", None],
        "value": [1 / 3, math.nan, None],
        "n": [1000, 7, None],
        "norms": [[0.5, None], [], None],
        "at": [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), None, None],
        "total": pa.array([Decimal(3), Decimal(4), None], pa.decimal128(38, 0)),
    }
)


def test_table_is_aligned_and_free_of_control_characters(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write_result(TABLE, "table")
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert lines[0].split() == ["model", "value", "n", "norms", "at", "total"]
    assert lines[2].split()[:3] == ["resnet18", "0.333333", "1000"]
    assert lines[2].index("0.333333") + 8 == lines[0].index("value") + 5
    assert len(lines) == 5
    assert "\x1b" not in "".join(lines)


def test_table_says_what_it_leaves_out(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write_result(pa.table({"n": range(1005)}), "table")
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert lines[-2:] == ["999", "... 5 more rows; --format csv shows all"]


def test_json_is_json_with_null_for_nan(tmp_path: Path) -> None:
    write_result(TABLE, "json", tmp_path / "out.json")
    first, second, third = json.loads((tmp_path / "out.json").read_bytes())
    assert first == {
        "model": "resnet18",
        "value": 1 / 3,
        "n": 1000,
        "norms": [0.5, None],
        "at": "2026-01-02T03:04:05+00:00",
        "total": 3,
    }
    assert second["value"] is None
    assert second["model"] == "naïve, \x1b[31m\nred"
    assert set(third.values()) == {None}
    write_result(TABLE.slice(0, 0), "json", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_bytes()) == []


def test_markdown_is_one_line_per_row_with_4_digits_and_no_markup(tmp_path: Path) -> None:
    odd = TABLE.append_column(
        "text", [["a|b\\ <b>", "*x* _y_ std_bound ~~z~~", "[l](http://x) $1$ `c` &amp;"]]
    )
    write_result(odd, "markdown", tmp_path / "out.md")
    lines = (tmp_path / "out.md").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == [
        "| model | value | n | norms | at | total | text |",
        "| --- | ---: | ---: | --- | --- | ---: | --- |",
    ]
    assert lines[2].startswith(
        r"| resnet18 | 0.3333 | 1000 | \[0.5, null\] | 2026-01-02 03:04:05+00:00 | 3 |"
    )
    assert lines[2].endswith(r"| a\|b\\ \<b\> |")
    assert lines[3].endswith(r"| \*x\* \_y\_ std_bound \~\~z\~\~ |")
    assert lines[4] == r"|  |  |  |  |  |  | \[l\](http://x) \$1\$ \`c\` \&amp; |"
    assert len(lines) == 5
    write_result(odd.slice(0, 0), "markdown", tmp_path / "out.md")
    assert len((tmp_path / "out.md").read_text(encoding="utf-8").splitlines()) == 2


def test_bytes_are_counted_in_tables_and_base64_in_files(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    table = pa.table({"pixels": [b'\x00\xff,"\n', None]})
    write_result(table, "table")
    assert capfdbinary.readouterr().out.decode().splitlines()[2] == "5 bytes"
    write_result(table, "csv", tmp_path / "out.csv")
    assert list(csv.reader((tmp_path / "out.csv").open()))[1] == ["AP8sIgo="]
    write_result(table, "json", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_bytes()) == [{"pixels": "AP8sIgo="}, {"pixels": None}]


def test_csv_keeps_all_digits(tmp_path: Path) -> None:
    write_result(TABLE, "csv", tmp_path / "out.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8"))))
    assert float(rows[0]["value"]) == 1 / 3
    assert json.loads(rows[0]["norms"]) == [0.5, None]
    assert rows[1]["model"] == "naïve, \x1b[31m\nred"
    assert rows[2]["n"] == ""


def test_parquet_is_the_table(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write_result(TABLE.drop_columns(["value"]), "parquet", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").equals(TABLE.drop_columns(["value"]))
    write_result(TABLE, "parquet")
    assert capfdbinary.readouterr().out[:4] == b"PAR1"


def test_unknown_format_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="unknown format 'xml'; known: table, markdown, csv, json, parquet"):
        write_result(TABLE, "xml", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_explain_prints_its_plan(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write_result(pa.table({"explain_key": ["physical_plan"], "explain_value": ["a\nb"]}), "table")
    assert capfdbinary.readouterr().out.decode().splitlines() == ["a", "b"]


def narrow(
    table: pa.Table, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> str:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    write_result(table, "table")
    return capfdbinary.readouterr().out.decode()


def test_a_narrow_terminal_is_told_once_what_is_the_same_and_the_rest_goes_on_below(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    table = pa.table(
        {
            "dataset": ["mnist", "mnist"],
            "level": [0.25, 0.5],
            "epsilon": pa.array([None, None], pa.float64()),
            "a_long_name_of_a_column": [1, 2],
            "another_long_name": ["x", "y"],
        }
    )
    text = narrow(table, monkeypatch, capfdbinary)
    assert text.splitlines() == [
        "the same in all rows: dataset mnist",
        "",
        "without a value: epsilon",
        "",
        "level  a_long_name_of_a_column",
        "-----  -----------------------",
        " 0.25                        1",
        "  0.5                        2",
        "",
        "another_long_name",
        "-----------------",
        "x",
        "y",
    ]
    assert narrow(table.slice(0, 0), monkeypatch, capfdbinary).count("dataset") == 1
    short = table.select(["dataset", "epsilon"])
    assert narrow(short, monkeypatch, capfdbinary).splitlines()[0] == "dataset  epsilon"
    assert max(map(len, narrow(table, monkeypatch, capfdbinary).splitlines())) <= 40


def test_what_is_piped_has_every_column_in_every_row(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    wide = pa.table({f"column_{n:03}": ["same"] * 2 for n in range(50)})
    write_result(wide, "table")
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert len(lines) == 4
    assert lines[2].split() == ["same"] * 50
