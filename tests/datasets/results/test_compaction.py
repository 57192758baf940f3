"""Merging small files loses no row and doubles none, whoever reads or writes meanwhile, and wherever it is killed."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hushsweep.datasets.results import Store, StoreError, compact

POINTS = ("p0", "p1", "p2")


def write(store: Store, trial: str, *, shards: int = 2, complete: bool = True) -> None:
    """Two shards of four images each for three points, and their summary."""
    ids = {"measure_id": "m", "computed_by": trial}
    for shard in range(shards):
        images = range(4 * shard, 4 * shard + 4)
        rows = [
            {**ids, "point_id": f"{trial}-{point}", "image_index": i, "hits_top1": 1.0, "status": "complete"}
            for point in POINTS
            for i in images
        ]
        store.write("per_image/accuracy", f"{trial}.m.{shard}of{shards}", rows)
    if complete:
        summary = {**ids, "curve_id": "c", "measure": "accuracy", "statistic": "top1", "value": 0.25}
        points = [{**summary, "point_id": f"{trial}-{point}", "status": "complete"} for point in POINTS]
        store.write("measurements", f"{trial}.m", points)


def fail(store: Store, trial: str, reason: str) -> None:
    row = {"point_id": "f", "measure_id": "m", "curve_id": "c", "computed_by": trial, "measure": "accuracy"}
    store.write("measurements", f"{trial}.m.abc.0of1.failed", [{**row, "status": "failed", "reason": reason}])


def rows(store: Store, table: str = "per_image/accuracy") -> Counter[str]:
    columns = ["computed_by", "point_id"] + (["image_index"] if table != "measurements" else [])
    return Counter(map(str, store.read(table, columns=columns).to_pylist()))


def files(store: Store, table: str = "per_image/accuracy") -> list[str]:
    return sorted(path.name for path in store.listing(table).on_disk.values())


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A results folder on a disk, and one in S3."""
    return Store(request.getfixturevalue("bucket") if request.param == "bucket" else tmp_path / "results")


def test_rows_and_names_stay_and_files_become_few(store: Store) -> None:
    for number in range(5):
        write(store, f"t{number}")
    before = {
        table: (rows(store, table), store.names(table)) for table in ("per_image/accuracy", "measurements")
    }
    counts = {found.table: (found.before, found.after) for found in compact(store)}
    assert (counts["per_image/accuracy"], counts["measurements"]) == ((10, 1), (5, 1))
    assert {table: (rows(store, table), store.names(table)) for table in before} == before
    assert len(files(store)) == 1
    assert compact(store) != []
    assert {table: (rows(store, table), store.names(table)) for table in before} == before


def test_a_computation_is_read_from_the_merged_file_alone(store: Store) -> None:
    for number in range(3):
        write(store, f"t{number}")
    shards = ["t1.m.0of2", "t1.m.1of2"]
    before = store.read("per_image/accuracy", names=shards, points=["t1-p1"]).to_pylist()
    compact(store)
    after = store.read("per_image/accuracy", names=shards, points=["t1-p1"]).to_pylist()
    assert len(before) == 8
    assert sorted(before, key=str) == sorted(after, key=str)


def test_what_is_not_complete_stays_as_it_is(store: Store) -> None:
    write(store, "done")
    write(store, "done2")
    write(store, "open", complete=False)
    fail(store, "bad", "first")
    compact(store)
    assert [name for name in files(store) if not name.startswith("merged-")] == [
        "open.m.0of2.parquet",
        "open.m.1of2.parquet",
    ]
    fail(store, "bad", "second")
    reasons = store.read("measurements", columns=["reason"]).column("reason").drop_null().to_pylist()
    assert reasons == ["second"]


def test_what_was_merged_and_is_written_again_counts_once(store: Store) -> None:
    """A second delivery of the same trial, or a machine that comes back after all was merged."""
    for number in range(3):
        write(store, f"t{number}")
    before = rows(store)
    compact(store)
    write(store, "t1")
    assert rows(store) == before
    assert len(files(store)) == 3
    compact(store)
    assert rows(store) == before
    assert len(files(store)) == 1


def test_merged_files_are_merged_again_and_columns_of_old_files_are_null(folder: Store) -> None:
    write(folder, "t0")
    write(folder, "t1")
    compact(folder)
    old = folder.root / "measurements" / "t2.m.parquet"
    write(folder, "t2")
    table = pq.read_table(old)
    pq.write_table(table.drop_columns(["validation_top1"]), old)
    before, names = rows(folder, "measurements"), folder.names("measurements")
    compact(folder)
    assert len(files(folder, "measurements")) == 1
    assert (rows(folder, "measurements"), folder.names("measurements")) == (before, names)
    assert folder.read("measurements").column("validation_top1").null_count == 9


def test_a_damaged_file_stops_it_by_name_and_nothing_is_lost(folder: Store) -> None:
    for number in range(3):
        write(folder, f"t{number}")
    damaged = folder.root / "per_image/accuracy" / "t1.m.0of2.parquet"
    good = damaged.read_bytes()
    damaged.write_bytes(good[: len(good) // 2])
    with pytest.raises(StoreError, match=r"t1\.m\.0of2\.parquet: cannot be read"):
        compact(folder)
    damaged.write_bytes(good)
    assert sum(rows(folder).values()) == 3 * 24
    assert sum(rows(folder, "measurements").values()) == 9


def test_a_file_larger_than_half_a_merged_one_is_left_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        write(store, f"t{number}")
    before = rows(store)
    size = max(store.listing("per_image/accuracy").sizes().values())
    monkeypatch.setattr("hushsweep.datasets.results.compaction._LARGE", int(2.5 * size))
    compact(store)
    assert 1 < len(files(store)) < 12
    assert rows(store) == before
    monkeypatch.setattr("hushsweep.datasets.results.compaction._LARGE", size)
    left = files(store)
    compact(store)
    assert files(store) == left


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.sampled_from(["write", "again", "open", "fail", "compact"]), min_size=2, max_size=12)
)
def test_any_order_of_writing_and_merging_keeps_every_row_once(
    steps: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store, expected, written = Store(tmp_path_factory.mktemp("any")), Counter[str](), 0
    for step in steps:
        if step == "compact":
            compact(store)
        elif step == "fail":
            fail(store, "bad", f"{written}")
        elif step == "again" and written:
            write(store, f"t{written - 1}")
        else:
            write(store, f"t{written}", complete=step != "open")
            written += 1
    for number in range(written):
        expected.update(
            str({"computed_by": f"t{number}", "point_id": f"t{number}-{point}", "image_index": image})
            for point in POINTS
            for image in range(8)
        )
    assert rows(store) == expected


READER = """
    import sys
    from hushsweep.datasets.results import Store
    from hushsweep.dashboards import run_query

    results, expected = sys.argv[1], int(sys.argv[2])
    while True:
        for look in range(10):
            found = Store(results, create=False).read("per_image/accuracy", columns=["point_id"]).num_rows
            assert found == expected, f"AssertionError: {found} raw rows"
        found = run_query(results, "SELECT count(*) AS n FROM per_image_accuracy").column("n")[0].as_py()
        assert found == expected, f"AssertionError: {found} rows in the view"
        print("looked", flush=True)
"""


def test_readers_see_every_row_once_while_files_are_merged_and_the_merging_is_killed(folder: Store) -> None:
    """A process that reads without a pause beside compactions, most of them killed with SIGKILL somewhere inside."""
    for number in range(40):
        write(folder, f"t{number}")
    command = [sys.executable, "-c", textwrap.dedent(READER), str(folder.root), str(40 * 24)]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    looks = list[str]()
    assert reader.stdout is not None
    listener = threading.Thread(target=looks.extend, args=(reader.stdout,))
    listener.start()
    context = multiprocessing.get_context("fork")
    deadline = time.monotonic() + 60
    for kill in itertools.count():
        if len(looks) >= 10 or reader.poll() is not None or time.monotonic() > deadline:
            break
        process = context.Process(target=compact, args=(folder,))
        process.start()
        time.sleep(0.02 * (kill % 10))
        if process.is_alive() and kill % 10 < 9:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        for number in range(kill % 37, kill % 37 + 3):  # delivered again, so that there is something to merge
            write(folder, f"t{number}")
    reader.terminate()
    listener.join()
    told = reader.stderr.read() if reader.stderr else ""
    reader.wait()
    assert "Error" not in told, told
    assert len(looks) >= 10
    compact(folder)
    assert sum(rows(folder).values()) == 40 * 24
    assert len(files(folder)) == 1
