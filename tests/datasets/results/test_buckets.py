"""Results in S3: whole or absent, seen by every machine, locked across them, and refused in a sentence."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from hushsweep.dashboards import run_query
from hushsweep.datasets.heartbeat import locked
from hushsweep.datasets.results import LockHeldError, Store, StoreError, compact, is_store, results_name
from hushsweep.datasets.results.buckets import bucket_address, bucket_of
from hushsweep.datasets.results.files import available, exclusive, holder, remove, write_atomically

HOLD = """
    import sys, time
    from hushsweep.datasets.results import Store
    with Store(sys.argv[1]).lock("mine"):
        print("held", flush=True)
        time.sleep(600)
"""


def python(code: str, *words: str, **environment: str) -> "subprocess.Popen[str]":
    """Run code in a process of its own, which may be another machine's."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def write(store: Store, name: str, count: int = 8) -> None:
    ids = {"measure_id": "m", "computed_by": name, "point_id": f"{name}-p"}
    rows = [{**ids, "image_index": i, "hits_top1": 1.0, "status": "complete"} for i in range(count)]
    store.write("per_image/accuracy", f"{name}.m.0of1", rows)
    summary = {**ids, "curve_id": "c", "measure": "accuracy", "statistic": "top1", "value": 0.25}
    store.write("measurements", f"{name}.m", [{**summary, "status": "complete"}])


def counted(results: str) -> int:
    found: int = run_query(results, "SELECT count(*) AS n FROM per_image_accuracy").column("n")[0].as_py()
    return found


@pytest.fixture
def elsewhere(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Store]:
    """Opens the results as another machine does, which has copies of nothing."""
    numbers = iter(range(100))

    def open_it() -> Store:
        monkeypatch.setenv("HUSHSWEEP_CACHE", str(tmp_path / f"machine-{next(numbers)}"))
        return Store(bucket, create=False)

    return open_it


def test_another_machine_sees_what_was_written_and_merged(
    bucket: str, elsewhere: Callable[[], Store]
) -> None:
    store = Store(bucket)
    store.write_sweep("mine", spec_text="name: mine", plan={"points": [], "sweep": "mine"})
    for number in range(5):
        write(store, f"t{number}")
    other = elsewhere()
    assert (other.name, other.store_id) == (bucket, store.store_id)
    assert other.root != store.root
    assert other.sweeps() == ["mine"]
    assert other.plan("mine") == {"points": [], "sweep": "mine"}
    assert other.completed() == {(f"t{number}-p", "m") for number in range(5)}
    assert counted(str(other.root)) == counted(bucket) == 40
    compact(store)
    assert counted(str(other.root)) == len(other.read("per_image/accuracy")) == 40
    copies = {path.name for path in (other.root / "per_image/accuracy").glob("*.parquet")}
    assert len(copies) == 1, "copies of deleted files stay"
    write(other, "t9")
    assert counted(bucket) == 48


def test_a_query_fetches_what_it_reads_and_once(
    bucket: str, elsewhere: Callable[[], Store], s3: dict[str, str]
) -> None:
    write(Store(bucket), "t0")
    other = elsewhere()
    assert run_query(str(other.root), "SELECT count(*) AS n FROM tradeoff").num_rows == 1
    assert not list((other.root / "per_image").rglob("*.parquet"))
    assert counted(str(other.root)) == 8
    (copy,) = (other.root / "per_image/accuracy").glob("*.parquet")
    first = copy.stat().st_ino
    assert counted(str(other.root)) == 8
    assert copy.stat().st_ino == first
    write(Store(bucket), "t0", count=9)  # a second delivery
    assert counted(str(other.root)) == 9


def test_changed_files_are_fetched_again_and_deleted_ones_are_gone(
    bucket: str, elsewhere: Callable[[], Store]
) -> None:
    store = Store(bucket)
    other = elsewhere()
    mine, theirs = store.root / "models/a.bin", other.root / "models/a.bin"
    for content in (b"first", b"2"):
        write_atomically(mine, lambda stream, content=content: stream.write(content))
        assert available(theirs)
        assert theirs.read_bytes() == content
    remove(theirs)
    assert not available(mine)
    assert not mine.exists()


@pytest.mark.parametrize("name", ["cache/images/a", "cache/features/b/0.f32", ".mlflow.lock"])
def test_what_can_be_made_again_stays_on_its_machine(
    name: str, bucket: str, elsewhere: Callable[[], Store]
) -> None:
    store = Store(bucket)
    write_atomically(store.root / name, lambda stream: stream.write(b"large"))
    assert (store.root / name).read_bytes() == b"large"
    assert not available(elsewhere().root / name)


def test_a_file_that_is_being_put_when_its_writer_is_killed_is_absent_or_whole(bucket: str) -> None:
    store = Store(bucket)
    code = """
        import sys
        from hushsweep.datasets.results import Store
        from hushsweep.datasets.results.files import write_atomically
        path = Store(sys.argv[1]).root / "models" / f"{sys.argv[2]}.bin"
        print("begins", flush=True)
        write_atomically(path, lambda stream: stream.write(b"x" * 60_000_000))
        print("ended", flush=True)
    """
    for number in range(5):
        process = python(code, bucket, str(number))
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        time.sleep(0.1 * number)
        process.kill()
        ended = "ended" in process.communicate()[0]
        path = store.root / f"models/{number}.bin"
        assert available(path) or not ended
        assert not path.exists() or path.stat().st_size == 60_000_000


def test_a_lock_is_held_on_all_machines_and_dies_with_its_process(
    bucket: str, elsewhere: Callable[[], Store]
) -> None:
    store = Store(bucket)
    process = python(HOLD, bucket)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    other = elsewhere()
    assert f"process {process.pid} on " in str(other.running("mine"))
    with pytest.raises(LockHeldError, match=f"sweep 'mine' is in use by process {process.pid} on .*s3://"):
        other.lock("mine").__enter__()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert store.running("mine") is None
    with other.lock("mine"), pytest.raises(LockHeldError), store.lock("mine"):
        pass
    assert store.running("mine") is None


def test_a_dead_machines_lock_is_taken_over_after_a_while_and_its_holder_told(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hushsweep.datasets.results.leases.STALE_S", 2.5)
    monkeypatch.setattr("hushsweep.datasets.results.leases.RENEW_S", 600.0)
    path = Store(bucket).root / ".compact.lock"
    mine = ExitStack()
    mine.enter_context(exclusive(path, "mine"))
    _say_it_is_of_another_machine(path)
    with pytest.raises(LockHeldError, match="in use by process 1 on elsewhere"), exclusive(path, "theirs"):
        pass
    with exclusive(path, "theirs", wait_s=30):
        assert "process" in str(holder(path))
    with pytest.raises(LockHeldError, match="another process took over"):
        mine.close()


def _say_it_is_of_another_machine(path: Path) -> None:
    bucket = bucket_of(path)
    assert bucket is not None
    found = bucket.read_small(path)
    assert found is not None
    said = {**json.loads(found[0]), "host": "elsewhere", "holder": "process 1 on elsewhere"}
    assert bucket.write_small(path, json.dumps(said).encode(), over=found[1].tag)


def test_a_renewed_lock_stays(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hushsweep.datasets.results.leases.STALE_S", 2.5)
    monkeypatch.setattr("hushsweep.datasets.results.leases.RENEW_S", 0.3)
    path = Store(bucket).root / ".compact.lock"
    with exclusive(path, "mine"):
        time.sleep(4)
        with pytest.raises(LockHeldError), exclusive(path, "theirs"):
            pass
    with exclusive(path, "theirs"):
        pass


def test_what_is_computed_once_is_computed_once_on_all_machines(bucket: str) -> None:
    code = """
        import sys, time
        from hushsweep.datasets.heartbeat import locked
        from hushsweep.datasets.results import Store
        from hushsweep.datasets.results.files import kept, write_atomically
        path = Store(sys.argv[1]).root / "models/net.bin"
        with locked(path.with_suffix(".lock")):
            if not kept(path):
                print("trains")
                time.sleep(1)
                write_atomically(path, lambda stream: stream.write(sys.argv[2].encode()))
        print(path.read_text())
    """
    caches = [f"{os.environ['HUSHSWEEP_CACHE']}-{number}" for number in range(4)]
    Store(bucket)
    processes = [python(code, bucket, f"by {cache[-1]}", HUSHSWEEP_CACHE=cache) for cache in caches]
    said = [process.communicate(timeout=120) for process in processes]
    assert [error for _, error in said if error] == []
    assert sum("trains" in output for output, _ in said) == 1
    assert len({output.split("\n")[-2] for output, _ in said}) == 1


def test_readers_see_every_row_once_beside_merging_that_is_killed(bucket: str) -> None:
    store = Store(bucket)
    for number in range(12):
        write(store, f"t{number}")
    merge = """
        import sys
        from hushsweep.datasets.results import Store, compact
        store = Store(sys.argv[1], create=False)
        print("begins", flush=True)
        compact(store)
    """
    looks, ended = list[int](), threading.Event()

    def look() -> None:
        while not ended.is_set():
            looks.extend([counted(bucket), len(store.read("per_image/accuracy", columns=["point_id"]))])

    pool = ThreadPoolExecutor(1)
    reader = pool.submit(look)
    try:
        for kill in range(6):
            process = python(merge, bucket)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.05 * kill)
            process.kill()
            process.communicate()
            for number in range(kill, kill + 3):
                write(store, f"t{number}")
    finally:
        ended.set()
        reader.result()
    assert set(looks) == {96}
    assert len(looks) > 4
    compact(store)
    assert counted(bucket) == 96


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ("gs://bucket/x", "or to s3://BUCKET/PREFIX"),
        ("http://host/x", "or to s3://BUCKET/PREFIX"),
        ("s3://key:secret@bucket/x", "credentials do not belong into an address"),
        ("s3://there-is-no-such-bucket/x", "there is no such bucket"),
    ],
)
def test_what_is_no_place_is_refused_in_a_sentence(results: str, message: str, bucket: str) -> None:
    with pytest.raises(StoreError, match=message) as raised:
        Store(results)
    assert "secret" not in str(raised.value)


def test_a_server_that_does_not_answer_is_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("hushsweep.datasets.results.buckets._RETRIES", {"max_retries": 1})
    with pytest.raises(StoreError, match=r"hushsweep\.json: could not be read .*AWS_ENDPOINT_URL"):
        Store(bucket, create=False)


def test_where_obstore_is_missing_the_line_that_installs_it_is_named(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(StoreError, match=r"pip install 'hushsweep\[s3\]'"):
        Store(bucket)


def test_addresses_survive_being_paths(bucket: str) -> None:
    assert bucket_address(Path(bucket)) == bucket_address(f"{bucket}/") == bucket
    assert not is_store(bucket)
    store = Store(Path(bucket))
    assert is_store(bucket)
    assert results_name(store.root) == bucket
    assert Store(store.root, create=False).store_id == store.store_id
    assert bucket_address("results") is None
    assert results_name("results") == "results"


def test_a_lock_that_nobody_waits_for_is_refused_at_once(bucket: str) -> None:
    from filelock import Timeout

    path = Store(bucket).root / "models/.a.lock"
    process = python(
        """
        import sys, time
        from hushsweep.datasets.heartbeat import locked
        from hushsweep.datasets.results import Store
        with locked(Store(sys.argv[1]).root / "models/.a.lock"):
            print("held", flush=True)
            time.sleep(600)
        """,
        bucket,
        HUSHSWEEP_CACHE=f"{os.environ['HUSHSWEEP_CACHE']}-elsewhere",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        with pytest.raises(Timeout), locked(path, wait=False):
            pass
    finally:
        process.kill()
        process.communicate()
    with locked(path, wait=False):
        pass
