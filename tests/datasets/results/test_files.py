"""Atomic writing, safe names and locks, with real processes, real limits and a really full disk."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hushsweep.datasets.results import LockHeldError, Store, StoreError
from hushsweep.datasets.results.files import check_name, exclusive, holder, write_atomically

ROWS = [
    {
        "point_id": f"point{number}",
        "measure_id": "m",
        "curve_id": "c",
        "computed_by": "trial",
        "measure": "accuracy",
        "statistic": "top1",
        "value": number / 7919,
        "status": "complete",
    }
    for number in range(20_000)
]


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a\0b", "x" * 201, "-rf", "a b", "é"])
def test_unsafe_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="sweep name"):
        check_name(name, "sweep name")
    with pytest.raises(StoreError):
        Store(tmp_path).write("measurements", name, [])


def test_a_write_that_breaks_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, lambda stream: stream.write(b"old"))

    def half(stream: object) -> None:
        stream.write(b"ne")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, half)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_limit_on_file_sizes_gives_one_sentence_and_no_half_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("measurements", "t", ROWS[:1])
    before = store.read("measurements")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(
            StoreError, match=r"t\.parquet: could not be written \(File too large\).*ulimit -f"
        ):
            store.write("measurements", "t", ROWS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old_handler)
    assert store.read("measurements").equals(before)
    assert [path.name for path in (tmp_path / "measurements").iterdir()] == ["t.parquet"]


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs Linux's unshare")
def test_a_full_disk_gives_one_sentence_and_no_half_file(tmp_path: Path) -> None:
    script = f"""
        set -e
        mount -t tmpfs -o size=160k tmpfs {tmp_path}
        exec {sys.executable} -c '
        import pathlib, sys
        sys.argv = ["", "{tmp_path}"]
        from hushsweep.datasets.results import Store, StoreError
        row = dict(point_id="p", measure_id="m", curve_id="c", computed_by="t", measure="accuracy", statistic="top1")
        store = Store(sys.argv[1])
        store.write("measurements", "small", [dict(row, value=0.5, status="complete")])
        import random
        rows = [dict(row, point_id=str(n), value=random.random(), status="complete") for n in range(60000)]
        try:
            store.write("measurements", "big", rows)
        except StoreError as error:
            print(error)
        print(sorted(path.name for path in (store.root / "measurements").iterdir()), len(store.completed()))
        '
    """
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", textwrap.dedent(script)], capture_output=True, text=True, cwd="/"
    )
    if (done.returncode and "unshare" in done.stderr) or "mount:" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    message, state = done.stdout.splitlines()
    assert message.startswith(
        f"{tmp_path}/measurements/big.parquet: could not be written (No space left on device)"
    )
    assert "free space there or choose another --results" in message
    assert state == "['small.parquet'] 1"


def test_kill_9_in_the_middle_of_writing_leaves_nothing_that_counts(tmp_path: Path) -> None:
    Store(tmp_path)
    script = f"""
        import os, signal
        from hushsweep.datasets.results.files import write_atomically
        from pathlib import Path
        def half(stream):
            stream.write(b"PAR1 half")
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        write_atomically(Path({str(tmp_path)!r}) / "measurements" / "t.parquet", half)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd="/")
    assert done.returncode == -signal.SIGKILL
    store = Store(tmp_path)
    left = list((tmp_path / "measurements").iterdir())
    assert len(left) == 1
    assert left[0].name.startswith(".t.parquet.")
    assert store.names("measurements") == set()
    assert store.completed() == set()
    store.write("measurements", "t", ROWS[:3])
    assert store.names("measurements") == {"t"}
    assert len(store.completed()) == 3


def test_two_processes_writing_the_same_names_leave_whole_files(tmp_path: Path) -> None:
    script = f"""
        import sys
        from hushsweep.datasets.results import Store
        store = Store({str(tmp_path)!r})
        for number in range(60):
            row = dict(point_id=f"p{{number % 5}}", measure_id="m", curve_id="c", computed_by=sys.argv[1])
            row |= dict(measure="accuracy", statistic="top1", value=0.5, status="complete")
            store.write("measurements", f"shared{{number % 5}}", [row] * 50)
            store.write("measurements", f"{{sys.argv[1]}}-{{number}}", [row])
    """
    writers = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), name], cwd="/")
        for name in ("one", "two")
    ]
    while any(writer.poll() is None for writer in writers):
        if (tmp_path / "hushsweep.json").exists():
            Store(tmp_path).read("measurements")  # whole at any moment
    assert [writer.returncode for writer in writers] == [0, 0]
    store = Store(tmp_path)
    assert len(store.names("measurements")) == 5 + 2 * 60
    assert len(store.read("measurements")) == 5 * 50 + 2 * 60
    assert {path.suffix for path in (tmp_path / "measurements").iterdir()} == {".parquet"}
    assert json.loads((tmp_path / "hushsweep.json").read_text())["store_id"] == store.store_id


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    script = f"""
        import time
        from hushsweep.datasets.results import Store
        with Store({str(tmp_path)!r}).lock("mnist"):
            print("locked", flush=True)
            time.sleep(60)
    """
    store = Store(tmp_path)
    assert store.running("mnist") is None
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, cwd="/"
    )
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "locked\n"
        assert f"process {other.pid} on " in str(store.running("mnist"))
        expected = (
            rf"sweep 'mnist' is in use by process {other.pid} on \S+ since 20.*wait for it or choose another"
        )
        with pytest.raises(LockHeldError, match=expected), store.lock("mnist"):
            pass
        with store.lock("other"):
            pass
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert store.running("mnist") is None
    with store.lock("mnist"):
        assert f"process {os.getpid()} on " in str(store.running("mnist"))
        with pytest.raises(LockHeldError), store.lock("mnist"):
            pass


def test_looking_at_a_lock_does_not_take_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive(path, "it"):
        pass
    assert holder(path) is None
    with exclusive(path, "it", wait_s=0):
        assert holder(path) is not None


@pytest.mark.parametrize("call", ["open", "ftruncate", "pwrite"])
def test_a_lock_on_a_full_disk_gives_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    verb = "created" if call == "open" else "written"
    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        expected = rf"\.lock: could not be {verb} \(No space left on device\); free space there"
        with pytest.raises(StoreError, match=expected), exclusive(tmp_path / ".lock", "it"):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with exclusive(tmp_path / ".lock", "it"):
        pass


def test_a_lock_that_cannot_be_made_or_read_gives_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"could not be created \(.*(exists|directory)\)"):
        Store(tmp_path / "file")
    with pytest.raises(StoreError, match=r"could not be created \(Not a directory\)"):
        Store(tmp_path / "file" / "results")
    with pytest.raises(StoreError, match=r"could not be read \(Not a directory\)"):
        holder(tmp_path / "file" / ".lock")


def test_an_error_while_a_lock_is_held_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), exclusive(tmp_path / ".lock", "it"):
        (tmp_path / "gone").read_bytes()
