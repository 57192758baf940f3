"""Views count what counts, and nothing but reading gets through."""

import json
import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hushsweep.dashboards import QueryError, mirror, run_query, sweep_status, tradeoff
from hushsweep.dashboards.queries import connect
from hushsweep.datasets.results import TABLES, Store, StoreError, arrow_schema
from tests.dashboards.conftest import ACCURACY, HCR, START, failed, measurements, plan_of, points, write_trial

Fill = Callable[[Path], Store]
DOCS = Path(__file__).parents[2] / "docs" / "results.md"
VIEWS = {table: table.replace("/", "_") for table in TABLES}


def count(store: Store, sql: str) -> int:
    return run_query(store.root, f"SELECT count(*) AS n FROM ({sql})").column("n")[0].as_py()


def image_row(point_id: str, trial: str, index: int, measure_id: str = ACCURACY) -> dict[str, object]:
    ids = {"point_id": point_id, "measure_id": measure_id, "computed_by": trial}
    return {**ids, "image_index": index, "draws": 25, "hits_top1": 20, "status": "complete"}


def test_an_empty_store_has_every_view_with_its_types(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for table, view in VIEWS.items():
        found = run_query(store.root, f"FROM {view}")
        names = [name for name in found.column_names if name != "sweep"]
        assert found.select(names).cast(arrow_schema(table)).schema.equals(arrow_schema(table))
        assert len(found) == 0
    for view in ("sweeps", "tradeoff"):
        assert len(run_query(store.root, f"FROM {view}")) == 0


@pytest.mark.parametrize("folder", ["plain", "it's [a] *strange?* folder", "ünïcode 50%"])
def test_measurements_carry_the_sweep_once_per_sweep(tmp_path: Path, fill: Fill, folder: str) -> None:
    store = fill(tmp_path / folder)
    found = run_query(
        store.root,
        "SELECT sweep, count(*) AS n, count(DISTINCT point_id) AS p FROM measurements GROUP BY ALL",
    )
    assert {row["sweep"]: (row["n"], row["p"]) for row in found.to_pylist()} == {
        "both": (180, 20),
        "small": (45, 5),
    }
    rows = run_query(store.root, "FROM measurements WHERE sweep = 'both'").select(
        arrow_schema("measurements").names
    )
    stored = store.read("measurements")
    key = [("point_id", "ascending"), ("statistic", "ascending")]
    assert rows.cast(stored.schema).sort_by(key).equals(stored.sort_by(key))


def test_rows_that_no_sweep_names_have_no_sweep(tmp_path: Path, fill: Fill) -> None:
    store = fill(tmp_path)
    for name in store.sweeps():
        store.write_sweep(name, spec_text="", plan=plan_of(name, []))
    assert count(store, "FROM measurements") == 180
    assert count(store, "FROM measurements WHERE sweep IS NOT NULL") == 0
    assert count(store, "FROM tradeoff") == 0


def test_one_trial_counts_when_several_computed_the_same(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = points()[0]
    store.write_sweep("s", spec_text="", plan=plan_of("s", [entry]))
    for trial in ("b", "a", "c"):
        write_trial(store, trial, [entry])
        images = [image_row(entry["point_id"], trial, index) for index in range(3)]
        store.write("per_image/accuracy", f"{trial}.{ACCURACY}.0of1", images)
    assert run_query(store.root, "SELECT DISTINCT computed_by FROM measurements").to_pylist() == [
        {"computed_by": "a"}
    ]
    assert (
        run_query(store.root, "SELECT computed_by FROM per_image_accuracy").column(0).to_pylist() == ["a"] * 3
    )
    assert count(store, "FROM measurements") == 5
    assert count(store, "FROM raw_measurements") == 15


def test_failures_hide_once_the_same_is_complete(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = points()[0]
    accuracy, hcr = entry["measures"]
    store.write_sweep("s", spec_text="", plan=plan_of("s", [entry]))
    store.write("measurements", "z.failed", failed(entry, accuracy, "z", "out of memory"))
    later = [
        {**row, "computed_at": START + timedelta(days=1)} for row in failed(entry, accuracy, "a", "disk full")
    ]
    store.write("measurements", "a.failed", later)
    rows = run_query(store.root, "SELECT status, reason, value FROM measurements").to_pylist()
    assert rows == [{"status": "failed", "reason": "disk full", "value": None}]  # the latest
    write_trial(store, "z", [entry])  # the same trial, tried again
    assert set(run_query(store.root, "SELECT status FROM measurements").column(0).to_pylist()) == {"complete"}
    assert count(store, "FROM measurements") == 5
    store.write("measurements", "z.hcr.failed", failed(entry, hcr, "z", "no memory"))
    assert count(store, "FROM measurements WHERE status = 'failed'") == 1


def test_images_count_only_with_their_complete_measurement(tmp_path: Path) -> None:
    store = Store(tmp_path)
    done, running, broken = points()[:3]
    write_trial(store, "t", [done])
    store.write("measurements", "t.failed", failed(broken, broken["measures"][0], "t", "because"))
    for entry in (done, running, broken):
        ids = {"point_id": entry["point_id"], "measure_id": ACCURACY, "computed_by": "t"}
        undecodable = {**ids, "image_index": 9, "image": "x.JPEG", "status": "failed", "reason": "truncated"}
        images = [image_row(entry["point_id"], "t", 0), undecodable]
        store.write("per_image/accuracy", f"{entry['point_id']}.0of1", images)
        mode = {
            **ids,
            "bound": "hcr",
            "basis": "dct",
            "channel": 0,
            "row": 0,
            "column": 0,
            "std_bound": 0.5,
            "n": 1,
        }
        store.write("modes", entry["point_id"], [mode])
        store.write("per_image/hcr", entry["point_id"], [{**ids, "image_index": 0, "status": "complete"}])
    for trial, measure in (("t", ACCURACY), ("t", HCR), ("u", ACCURACY)):
        ids = {"measure_id": measure, "computed_by": trial, "image_index": 0, "seed": 0, "restart": 0}
        store.write(
            "shifts", f"{trial}.{measure}", [{**ids, "reference_noise_std": 1.0, "input_shift": [0.5]}]
        )
    for view in ("per_image_accuracy", "per_image_hcr", "modes"):
        assert set(run_query(store.root, f"SELECT point_id FROM {view}").column(0).to_pylist()) == {
            done["point_id"]
        }
    assert count(store, "FROM per_image_accuracy") == 2  # the undecodable image is shown
    assert run_query(store.root, "SELECT measure_id, computed_by FROM shifts").to_pylist() == [
        {"measure_id": ACCURACY, "computed_by": "t"}
    ]


def test_a_mode_is_the_mean_over_the_images_of_all_shards(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = points()[0]
    write_trial(store, "t", [entry], HCR)
    ids = {
        "point_id": entry["point_id"],
        "measure_id": HCR,
        "computed_by": "t",
        "bound": "hcr",
        "basis": "dct",
    }
    shards = [{(0, 0): 0.5, (0, 1): 1.0, (2, 1): 0.25}, {(0, 0): 1.0, (0, 1): 0.0, (2, 1): 0.25}]
    for number, (images, bounds) in enumerate(zip((6, 2), shards, strict=True)):
        rows = [
            {**ids, "channel": 0, "row": row, "column": column, "std_bound": bound, "n": images}
            for (row, column), bound in bounds.items()
        ]
        store.write("modes", f"t.{HCR}.{number}of2", rows)
    found = run_query(store.root, 'FROM modes ORDER BY "row", "column"')
    assert found.schema.equals(arrow_schema("modes").remove_metadata(), check_metadata=False)
    assert [(r["row"], r["column"], r["std_bound"], r["n"]) for r in found.to_pylist()] == [
        (0, 0, 0.625, 8),
        (0, 1, 0.75, 8),
        (2, 1, 0.25, 8),
    ]
    assert count(store, "FROM raw_modes") == 6


@pytest.mark.parametrize("program", [0, 1], ids=["pandas", "duckdb"])
def test_the_documented_filters_without_hushsweep_leave_what_the_views_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: int
) -> None:
    store = Store(tmp_path / "results")
    first, second, third = points()[:3]
    store.write_sweep("s", spec_text="", plan=plan_of("s", [first, second, third]))
    for days, trials in ((0, "xy"), (1, "cba"), (None, "0")):
        for trial in trials:
            when = None if days is None else START + timedelta(days=days)
            rows = [
                row for entry in (first, second) for row in measurements(entry, entry["measures"][0], trial)
            ]
            store.write("measurements", trial, [{**row, "computed_at": when} for row in rows])
    for entry in (second, third):
        late = failed(entry, entry["measures"][0], "late", "disk full")
        late = [{**row, "computed_at": START + timedelta(days=2)} for row in late]
        store.write("measurements", f"late.{entry['point_id']}", late)
    snippets = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (snippet,) = (text for text in snippets if "read_parquet" in text)
    code = "import duckdb, pandas\n" + snippet.split("\n\n")[program]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    left = names["rows"] if program == 0 else names["rows"].df()
    shown = run_query(store.root, "FROM measurements WHERE status <> 'failed'").to_pylist()
    key = ("point_id", "computed_by", "statistic")
    assert sorted(map(tuple, left[list(key)].to_numpy())) == sorted(tuple(r[k] for k in key) for r in shown)
    assert {r["computed_by"] for r in shown} == {"a"}


def test_files_of_an_older_schema_are_read_with_nulls(tmp_path: Path, fill: Fill) -> None:
    store = fill(tmp_path)
    path = sorted((store.root / "measurements").glob("*.parquet"))[0]  # the file that DuckDB looks at first
    pq.write_table(pq.read_table(path).drop_columns(["caveat", "git_commit"]), path)
    assert count(store, "FROM measurements WHERE sweep = 'both'") == 180
    assert 0 < count(store, "FROM measurements WHERE git_commit IS NULL") < 180


def test_thousands_of_files_are_read_as_a_few_are(tmp_path: Path, fill: Fill) -> None:
    """Where no older hushsweep wrote, columns are not compared file by file: seconds per view and thousand files."""
    store = fill(tmp_path)
    expected = run_query(store.root, "FROM measurements ORDER BY ALL")
    for path in (store.root / "measurements").glob("*.parquet"):
        rows = pq.read_table(path)
        for place in range(len(rows)):
            store.write("measurements", f"{path.stem}-{place}", rows.slice(place, 1))
        path.unlink()
    assert len(store.names("measurements")) > 64
    assert run_query(store.root, "FROM measurements ORDER BY ALL").equals(expected)
    marker = store.root / "hushsweep.json"
    found = json.loads(marker.read_text())
    marker.write_text(json.dumps({**found, "first_schema_version": found["first_schema_version"] - 1}))
    one = min((store.root / "measurements").glob("*.parquet"))
    pq.write_table(pq.read_table(one).drop_columns(["git_commit"]), one)
    assert run_query(store.root, "SELECT count(*) AS n FROM measurements").equals(
        pa.table({"n": [len(expected)]})
    )


def test_tradeoff_puts_accuracy_and_bound_side_by_side(tmp_path: Path, fill: Fill) -> None:
    store = fill(tmp_path)
    rows = tradeoff(store.root, "small").to_pylist()
    assert [row["level"] for row in rows] == [0.25, 0.5, 1.0, 2.0, 4.0]
    stored = {(r["point_id"], r["statistic"]): r for r in store.read("measurements").to_pylist()}
    for row in rows:
        top1, bound = stored[row["point_id"], "top1"], stored[row["point_id"], "std_bound_median"]
        assert (row["top1"], row["top1_stderr"], row["accuracy_images"]) == (
            top1["value"],
            top1["stderr"],
            1000,
        )
        assert row["std_bound_median"] == bound["value"]
        assert (row["clean_top1"], row["hcr_images"], row["caveat"]) == (
            0.97,
            16,
            "memorised, not validation",
        )
    assert len(tradeoff(store.root, "both")) == 20
    with pytest.raises(StoreError, match="no sweep 'other'; known: both, small"):
        tradeoff(store.root, "other")


def test_tradeoff_without_bounds_and_with_two_accuracies(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = points()[0]
    entry["measures"] = [
        entry["measures"][0],
        {"measure_id": "more", "name": "accuracy", "options": {"draws": 5}},
    ]
    store.write_sweep("s", spec_text="", plan=plan_of("s", [entry]))
    store.write("measurements", "t", [r for m in entry["measures"] for r in measurements(entry, m, "t")])
    rows = tradeoff(store.root, "s").to_pylist()
    assert [(row["accuracy_measure_id"], row["std_bound_median"]) for row in rows] == [
        (ACCURACY, None),
        ("more", None),
    ]


READING = [
    "SELECT 1",
    "FROM measurements LIMIT 1",
    "VALUES (1)",
    "DESCRIBE measurements",
    "SUMMARIZE measurements",
    "SHOW TABLES",
    "WITH a AS (SELECT 1) SELECT * FROM a;",
    "EXPLAIN SELECT 1",
    "explain analyze from measurements",
    "/* why */ EXPLAIN -- so\n SELECT 1",
    "SELECT ';' AS semicolon",
]
REFUSED = [
    ("", "0 statements"),
    ("-- nothing", "0 statements"),
    ("SELECT 1; SELECT 2", "2 statements"),
    ("COPY measurements TO '{root}/out.csv'", "COPY"),
    ("COPY (SELECT 1) TO '{root}/measurements/x.parquet'", "COPY"),
    ("EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/out.csv'", "EXPLAIN"),
    ("explain/**/analyze/**/copy (select 1) to '{root}/out.csv'", "EXPLAIN"),
    ("EXPLAIN (FORMAT json) COPY (SELECT 1) TO '{root}/out.csv'", "SELECT|EXPLAIN|syntax"),
    ("EXPLAIN ANALYZE SELECT 1; COPY (SELECT 1) TO '{root}/out.csv'", "2 statements"),
    ("EXPORT DATABASE '{root}/out'", "EXPORT"),
    ("ATTACH '{root}/other.db'", "ATTACH"),
    ("INSTALL httpfs", "LOAD"),
    ("LOAD httpfs", "LOAD"),
    ("PRAGMA database_list", "PRAGMA"),
    ("SET threads = 1", "SET"),
    ("SET lock_configuration = false", "SET"),
    ("RESET threads", "SET"),
    ("USE memory", "SET"),
    ("CALL pragma_version()", "CALL"),
    ("CREATE TABLE t (i INT)", "CREATE"),
    ("DROP VIEW measurements", "DROP"),
    ("DELETE FROM counted", "DELETE"),
    ("PREPARE p AS SELECT 1", "PREPARE"),
    ("SELECT * FROM read_csv('/etc/passwd')", "/etc/passwd"),
    ("SELECT * FROM '/etc/passwd'", "/etc/passwd"),
    ("SELECT * FROM read_text('{root}/../secret')", "secret"),
    ("SELECT * FROM read_parquet('https://example.org/x.parquet')", "disabled|Permission|extension"),
    ("SELECT * FROM glob('/etc/*')", "/etc"),
    ("SELECT * FROM enable_logging(storage = 'file', storage_path = '{root}/log')", "locked"),
    ("SELECT * FROM read_blob('/etc/passwd')", "/etc/passwd"),
    ("SELECT * FROM read_json('/etc/passwd')", "/etc/passwd"),
    ("SELECT * FROM read_duckdb('/etc/passwd')", "/etc/passwd|does not exist"),
    ("SELECT * FROM parquet_metadata('/etc/passwd')", "/etc/passwd"),
    ("FROM sniff_csv('/etc/passwd')", "/etc/passwd"),
    ("FROM read_text('file:///etc/passwd')", "/etc/passwd"),
    ("FROM read_text(['{root}/hushsweep.json', '/etc/passwd'])", "/etc/passwd"),
    ("FROM read_text('{root}/hushsweep.json/../../secret')", "secret"),
    ("FROM query('COPY (SELECT 1) TO ''{root}/out.csv''')", "SELECT"),
    ("SELECT getenv('HOME')", "getenv"),
    ("FROM duckdb_secrets()", "secrets"),
    ("SELECT nam FROM measurements", "nam"),
    ("SELEC 1", "syntax error"),
]


@pytest.mark.parametrize("sql", READING)
def test_reading_is_allowed(tmp_path: Path, fill: Fill, sql: str) -> None:
    assert len(run_query(fill(tmp_path).root, sql)) > 0


@pytest.mark.parametrize(("sql", "mentions"), REFUSED)
def test_everything_else_is_refused_with_one_sentence(tmp_path: Path, sql: str, mentions: str) -> None:
    root = tmp_path / "results"
    (tmp_path / "secret").write_text("secret")
    Store(root)
    before = sorted(os.walk(root))
    with pytest.raises(QueryError, match=mentions) as caught:
        run_query(root, sql.format(root=root))
    assert "\n" not in str(caught.value)
    assert sorted(os.walk(root)) == before


def test_a_link_does_not_lead_out_of_the_results(tmp_path: Path, fill: Fill) -> None:
    root = fill(tmp_path / "results").root
    (tmp_path / "secret.txt").write_text("secret")
    pq.write_table(arrow_schema("modes").empty_table(), tmp_path / "secret.parquet")
    for folder in (root, root / "modes"):
        folder.mkdir(exist_ok=True)
        (folder / "file.txt").symlink_to(tmp_path / "secret.txt")
        (folder / "linked.parquet").symlink_to(tmp_path / "secret.parquet")
        (folder / "folder").symlink_to(tmp_path)
        for sql in (
            f"FROM read_text('{folder}/file.txt')",
            f"FROM read_text('{folder}/folder/secret.txt')",
            f"FROM read_parquet('{folder}/linked.parquet')",
            f"FROM glob('{folder}/folder/*')",
            f"FROM read_csv('{folder}/*/*.txt')",
        ):
            with pytest.raises(
                QueryError, match=r"disabled by configuration|No files found|linked\.parquet"
            ) as caught:
                run_query(root, sql)
            assert "\n" not in str(caught.value)


def test_python_variables_cannot_be_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    secret = arrow_schema("modes").empty_table()
    assert len(secret) == 0
    with pytest.raises(QueryError, match="secret does not exist"):
        run_query(store.root, "FROM secret")


def test_a_damaged_file_is_named(tmp_path: Path, fill: Fill) -> None:
    store = fill(tmp_path)
    path = sorted((store.root / "measurements").glob("*.parquet"))[0]
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(QueryError, match=path.name):
        run_query(store.root, "FROM measurements")
    for command in (sweep_status, mirror, lambda root: tradeoff(root, "both")):
        with pytest.raises(StoreError, match=path.name):
            command(store.root)


def test_no_results_is_said_and_nothing_created(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no results here"):
        connect(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
