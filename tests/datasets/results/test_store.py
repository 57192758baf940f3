"""The store keeps what it is given, refuses what it must not hold, and stays readable without hushsweep."""

import hashlib
import json
import subprocess
import sys
import textwrap
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hushsweep.datasets.results import (
    PROVENANCE_COLUMNS,
    SCHEMA_VERSION,
    TABLES,
    Store,
    StoreError,
    arrow_schema,
)
from hushsweep.datasets.results.schema import markdown

DOCS = Path(__file__).parents[3] / "docs" / "results.md"


def row(**changes: Any) -> dict[str, Any]:
    values = {
        "point_id": "p",
        "measure_id": "m",
        "curve_id": "c",
        "computed_by": "trial",
        "measure": "accuracy",
        "statistic": "top1",
        "value": 0.5,
        "unit": "fraction",
        "n": 100,
        "status": "complete",
        "computed_at": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    }
    return {**values, **changes}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def test_rows_come_back_as_they_went_in(store: Store) -> None:
    path = store.write("measurements", "trial.m", [row(value=1 / 3, level=None)])
    (found,) = store.read("measurements").to_pylist()
    assert path == store.root / "measurements" / "trial.m.parquet"
    assert found == dict.fromkeys(found) | row(
        value=1 / 3, schema_version=SCHEMA_VERSION, hushsweep_version=found["hushsweep_version"]
    )
    assert found["hushsweep_version"]
    footer = pq.read_metadata(path).metadata
    assert footer[b"hushsweep.schema_version"] == str(SCHEMA_VERSION).encode()
    assert footer[b"hushsweep.version"].decode() == found["hushsweep_version"]
    assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"


def test_arrow_tables_and_numpy_values_are_taken_too(store: Store) -> None:
    lists = [np.array([0.5, 1.5]), np.array([2.5])]
    ids = {"point_id": "p", "measure_id": "m", "computed_by": "t", "status": "complete"}
    rows = [
        {**ids, "image_index": np.int64(n), "chi_square": lists[n], "std_bound_mean": np.float32(0.5)}
        for n in (0, 1)
    ]
    store.write("per_image/hcr", "t.m.0of1", rows)
    assert store.read("per_image/hcr", columns=["chi_square"]).column(0).to_pylist() == [[0.5, 1.5], [2.5]]
    table = pa.table({key: [value] for key, value in row().items()})
    store.write("measurements", "t.m", table.set_column(8, "n", pa.array([100], pa.int32())))
    assert store.read("measurements").schema.equals(arrow_schema("measurements"))
    assert store.completed() == {("p", "m")}


def test_shifts_are_stored_from_a_tensor_sized_array(store: Store) -> None:
    shifts = np.random.default_rng(0).standard_normal((4, 784)).astype(np.float32)
    table = pa.table(
        {
            "measure_id": ["m"] * 4,
            "computed_by": ["t"] * 4,
            "seed": [0] * 4,
            "image_index": range(4),
            "restart": [0] * 4,
            "reference_noise_std": [0.7] * 4,
            "input_shift": pa.FixedSizeListArray.from_arrays(shifts.ravel(), 784),
        }
    )
    store.write("shifts", "t.m", table)
    found = store.read("shifts").column("input_shift").combine_chunks()
    np.testing.assert_array_equal(found.flatten().to_numpy().reshape(4, 784), shifts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": 1}, "unknown column"),
        ({"value": float("nan")}, r"measurements\.value: nan"),
        ({"stderr": float("inf")}, r"measurements\.stderr: inf"),
        ({"level": float("-inf")}, r"measurements\.level: -inf"),
        ({"value": None}, "expected a number in complete rows"),
        ({"status": "failed", "reason": "x"}, "null in all others"),
        ({"status": "failed", "value": None}, "say why"),
        ({"status": "done"}, "expected one of complete, failed, not_applicable, stopped, got 'done'"),
        ({"status": None}, "every row needs a value"),
        ({"point_id": None}, r"measurements\.point_id: null"),
        ({"n": "many"}, r"measurements\.n: expected int64"),
        ({"n": 1.5}, r"measurements\.n: expected int64"),
        ({"n": 2**70}, r"measurements\.n: expected int64"),
    ],
)
def test_rows_that_break_the_schema_are_refused(store: Store, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        store.write("measurements", "t", [row(), row(**changes)])
    assert store.names("measurements") == set()


def test_infinity_is_refused_in_lists_except_in_chi_square(store: Store) -> None:
    ids = {"point_id": "p", "measure_id": "m", "computed_by": "t", "image_index": 0, "status": "complete"}
    store.write("per_image/hcr", "t", [{**ids, "chi_square": [1.0, float("inf")]}])
    for column, value in (("shift_norm", float("inf")), ("chi_square", float("nan"))):
        with pytest.raises(StoreError, match=column):
            store.write("per_image/hcr", "t", [{**ids, column: [1.0, value]}])


def test_the_same_name_replaces(store: Store) -> None:
    store.write("measurements", "t", [row(value=0.1), row(value=0.2)])
    store.write("measurements", "t", [row(value=0.3)])
    assert store.read("measurements").column("value").to_pylist() == [0.3]


def test_completed_leaves_out_failures_only(store: Store) -> None:
    store.write("measurements", "a.m", [row(point_id="done"), row(point_id="done", statistic="top5")])
    missing = {"value": None, "statistic": None, "reason": "because"}
    store.write("measurements", "a.n", [row(point_id="none", status="not_applicable", **missing)])
    failures = [row(point_id=name, status="failed", **missing) for name in ("broken", "done")]
    store.write("measurements", "a.m.failed", failures)
    assert store.completed() == {("done", "m"), ("none", "m")}


def test_columns_that_an_older_file_lacks_read_as_null(store: Store) -> None:
    path = store.write("measurements", "old", [row()])
    pq.write_table(pq.read_table(path).drop_columns(["git_commit", "n"]), path)
    store.write("measurements", "new", [row(git_commit="abc")])
    assert store.read("measurements").select(["n", "git_commit"]).to_pylist() == [
        {"n": 100, "git_commit": "abc"},
        {"n": None, "git_commit": None},
    ]


def test_a_damaged_file_is_named(store: Store) -> None:
    path = store.write("measurements", "t", [row()])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StoreError, match=r"t\.parquet: cannot be read.*move it away and run the sweep again"):
        store.completed()
    with pytest.raises(StoreError, match=r"gone\.parquet: cannot be read"):
        store.read("measurements", names=["gone"])


def test_a_newer_results_folder_is_refused(store: Store) -> None:
    marker = store.root / "hushsweep.json"
    marker.write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1, "store_id": "x"}))
    for create in (True, False):
        with pytest.raises(StoreError) as caught:
            Store(store.root, create=create)
        assert str(store.root) in str(caught.value)
        assert f"schema version {SCHEMA_VERSION + 1}, this hushsweep reads up to {SCHEMA_VERSION}" in str(
            caught.value
        )
        assert "upgrade hushsweep" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": "x"}', "{}"])
def test_a_damaged_marker_is_refused(store: Store, text: str) -> None:
    (store.root / "hushsweep.json").write_text(text)
    with pytest.raises(StoreError, match=r"hushsweep\.json"):
        Store(store.root)


def test_reading_where_nothing_is_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match="no results here; run a sweep first or name its folder with --results"
    ):
        Store(tmp_path / "nowhere", create=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        Store(tmp_path / "file")


def test_unknown_table_lists_the_known_ones(store: Store) -> None:
    with pytest.raises(StoreError, match="unknown table 'rows'; known: measurements, per_image/accuracy"):
        store.write("rows", "t", [])


def test_earlier_sweep_files_are_kept_once(store: Store) -> None:
    for text in ("one", "one", "two", "one", "three"):
        store.write_sweep("mnist", spec_text=text, plan={"points": [], "text": text})
    folder = store.root / "sweeps" / "mnist"
    assert {path.name: path.read_text() for path in folder.glob("spec*")} == {
        "spec.yaml": "three",
        "spec.1.yaml": "one",
        "spec.2.yaml": "two",
    }
    assert store.plan("mnist") == {"points": [], "text": "three"}
    assert store.plan("other") is None
    assert store.sweeps() == ["mnist"]


def test_every_table_has_unique_documented_columns_and_readable_types() -> None:
    for table, columns in TABLES.items():
        names = [column.name for column in columns]
        assert len(set(names)) == len(names), table
        assert all(column.meaning.endswith(".") for column in columns), table
    assert set(PROVENANCE_COLUMNS) < set(arrow_schema("measurements").names)


@pytest.mark.parametrize("table", TABLES)
def test_the_documentation_lists_exactly_the_columns(table: str) -> None:
    _, _, section = DOCS.read_text(encoding="utf-8").partition(f"\n### {table}\n")
    documented = [line for line in section.partition("\n#")[0].splitlines() if line.startswith("|")]
    assert documented == markdown(table).splitlines()


floats = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.lists(
        st.fixed_dictionaries({"value": floats, "level": st.none() | floats, "model": st.none() | names})
    )
)
def test_storing_twice_reads_once_and_the_same(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any]
) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "property")
    for _ in range(2):
        store.write("measurements", "t", [row(**changes) for changes in values])
    assert store.read("measurements", columns=["value", "level", "model"]).to_pylist() == values


@pytest.mark.parametrize(
    "program",
    [
        "import pandas; rows = pandas.read_parquet(folder).to_dict('records')",
        "import duckdb; rows = duckdb.sql(f\"FROM '{folder}/*.parquet'\").df().to_dict('records')",
        "import pyarrow.dataset; rows = pyarrow.dataset.dataset(folder).to_table().to_pylist()",
    ],
    ids=["pandas", "duckdb", "pyarrow"],
)
def test_others_read_the_folder_without_hushsweep(store: Store, program: str) -> None:
    store.write("measurements", "a", [row(point_id="a", level=0.5), row(point_id="b", value=0.25)])
    store.write("measurements", "b", [row(point_id="c", value=0.125)])
    (store.root / "measurements" / ".c.parquet.1-00.tmp").write_bytes(b"half")
    script = f"""
        import sys
        folder = {str(store.root / "measurements")!r}
        {program}
        assert not any(name.partition(".")[0] == "hushsweep" for name in sys.modules)
        rows = sorted(rows, key=lambda row: row["point_id"])
        print([(row["point_id"], row["value"]) for row in rows], rows[0]["level"])
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(script)], capture_output=True, text=True, cwd="/"
    )
    assert done.stdout.strip() == "[('a', 0.5), ('b', 0.25), ('c', 0.125)] 0.5", done.stderr


def test_the_store_needs_nothing_but_pyarrow(store: Store) -> None:
    script = f"""
        import sys
        from hushsweep.datasets.results import Store
        Store({str(store.root)!r}).completed()
        heavy = {{"torch", "duckdb", "mlflow", "ray", "pydantic", "matplotlib", "filelock"}}
        print(heavy & set(sys.modules))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, cwd="/"
    )
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(
    "root", ["gs://bucket/results", "file:///tmp/results", "hdfs://node:9000/r", Path("az://b")]
)
def test_an_address_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str | Path, create: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        StoreError, match=r"results go to a local or mounted folder, or to s3://BUCKET/PREFIX"
    ):
        Store(root, create=create)
    assert list(tmp_path.iterdir()) == []


def test_rows_in_parts_are_written_one_part_at_a_time_and_read_back_by_point(tmp_path: Path) -> None:
    """One row group per part: memory holds a single part, and a point's rows are read without the others."""
    alive, most = 0, 0

    def part(point: str) -> pa.Table:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        rows = [
            {
                "point_id": point,
                "measure_id": "m",
                "computed_by": "a",
                "image_index": index,
                "status": "complete",
            }
            for index in range(3)
        ]
        table = pa.Table.from_pylist(rows)

        def collected() -> None:
            nonlocal alive
            alive -= 1

        weakref.finalize(table, collected)
        return table

    store = Store(tmp_path)
    path = store.write_parts("per_image/accuracy", "a.m.0of1", (part(f"p{n}") for n in range(20)))
    assert most <= 2
    assert pq.ParquetFile(path).num_row_groups == 20
    assert store.read("per_image/accuracy", points=["p7"])["point_id"].to_pylist() == ["p7"] * 3
    assert store.read("per_image/accuracy", points=["missing"]).num_rows == 0
    assert store.read("per_image/accuracy").num_rows == 60
    wanted = ["p7", "missing", "p19", "p0"]
    found = store.read_by_point("per_image/accuracy", ["a.m.0of1"], wanted)
    assert [(point, rows["point_id"].to_pylist()) for point, rows in found] == [
        (point, [] if point == "missing" else [point] * 3) for point in wanted
    ]


@pytest.mark.parametrize("rows_at_once", [1, 7, 100])
def test_points_are_read_some_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr("hushsweep.datasets.results.store._ROWS", rows_at_once)
    points = [f"p{number}" for number in range(9)]
    for shard in range(2):
        ids = {"measure_id": "m", "computed_by": "a", "status": "complete"}
        parts = ([{**ids, "point_id": p, "image_index": 2 * i + shard} for i in range(3)] for p in points)
        store.write_parts("per_image/accuracy", f"a.m.{shard}of2", map(pa.Table.from_pylist, parts))
    found = store.read_by_point("per_image/accuracy", ["a.m.0of2", "a.m.1of2"], points)
    assert [(point, sorted(rows["image_index"].to_pylist())) for point, rows in found] == [
        (point, list(range(6))) for point in points
    ]


def test_a_part_that_breaks_the_schema_leaves_no_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    good = pa.table(
        {
            "point_id": ["p"],
            "measure_id": ["m"],
            "computed_by": ["a"],
            "image_index": [0],
            "status": ["complete"],
        }
    )
    with pytest.raises(StoreError, match="unknown column"):
        store.write_parts("per_image/accuracy", "a.m.0of1", iter([good, pa.table({"colour": ["red"]})]))
    assert store.names("per_image/accuracy") == set()


def test_an_older_folder_is_marked_before_newer_rows_go_in(tmp_path: Path) -> None:
    """An older hushsweep, which would misread the new columns, is then told that it is too old."""
    store = Store(tmp_path)
    marker = tmp_path / "hushsweep.json"
    marker.write_text(json.dumps({"schema_version": SCHEMA_VERSION - 1, "store_id": store.store_id}))
    assert Store(tmp_path, create=False).store_id == store.store_id
    assert json.loads(marker.read_text())["schema_version"] == SCHEMA_VERSION - 1, "reading changes nothing"
    newer = Store(tmp_path)
    assert (newer.store_id, newer.one_schema, store.one_schema) == (store.store_id, False, True)
    assert json.loads(marker.read_text())["schema_version"] == SCHEMA_VERSION


def test_columns_change_only_with_the_schema_version() -> None:
    """Readers of a folder that no older hushsweep wrote to rely on it."""
    columns = {name: [(one.name, str(one.type)) for one in table] for name, table in TABLES.items()}
    digest = hashlib.sha256(json.dumps(columns, sort_keys=True).encode()).hexdigest()[:12]
    assert (SCHEMA_VERSION, digest) == (6, "5e9c26a0af5f"), (
        "raise SCHEMA_VERSION where a column came or changed"
    )
