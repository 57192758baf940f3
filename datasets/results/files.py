"""Files that are whole or absent, names that stay in their folder, locks that die with their process."""

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from hushsweep.datasets.results.buckets import bucket_of
from hushsweep.datasets.results.errors import FileGoneError, LockHeldError, StoreError
from hushsweep.datasets.results.leases import lease, lease_holder

_AT_ONCE = 16
"""Requests to a bucket; each takes some tens of milliseconds, most of them in waiting."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_FREE_SPACE = "free space there or choose another --results, then run again; what is stored already is kept"
_MENDS = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), then run again",
    errno.EACCES: "make the folder writable or choose another --results",
    errno.EPERM: "make the folder writable or choose another --results",
    errno.EROFS: "choose another --results, this file system is read-only",
}


def check_name(name: str, what: str) -> str:
    """Return `name` if it is safe as a file name, so that no name from outside becomes a path.

    Raises:
        StoreError: it is empty, longer than 200 characters, starts with a dot or holds other characters than
            letters, digits, dot, hyphen and underscore.
    """
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{what} {name!r}: expected 1 to 200 letters, digits, '.', '-', '_', a letter or digit first"
        )
    return name


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file that after a crash at any moment is the old one or the new one, never a part.

    `write` gets a stream under a temporary name, which is synced to disk and renamed; the folder is synced. Of a
    results folder that stands for a bucket, the file is put there.

    Raises:
        StoreError: the disk is full or refuses, or the bucket does; nothing of the new file remains.
    """
    bucket = bucket_of(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            write(stream)
            if bucket is None:
                stream.flush()
                os.fsync(stream.fileno())
        if bucket is not None:
            bucket.put(path, temporary)
            return
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _refusal(path, "written", error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def available(path: Path, *, listed: bool = False) -> bool:
    """Tell whether a file is there; of a results folder that stands for a bucket, fetch it.

    Args:
        path: The file.
        listed: It was listed before, and is never changed under its name: what was fetched then still holds.

    Raises:
        StoreError: the bucket cannot be reached.
    """
    bucket = bucket_of(path)
    return path.is_file() if bucket is None else bucket.fetch(path, listed=listed)


def fetch_all(paths: Collection[Path]) -> None:
    """Fetch listed files of a results folder that stands for a bucket, several at a time; do nothing in others.

    Raises:
        FileGoneError: one is no longer there.
        StoreError: the bucket cannot be reached.
    """
    if not any(bucket_of(path) for path in paths):
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for path, there in zip(paths, pool.map(partial(available, listed=True), paths), strict=True):
            if not there:
                raise FileGoneError(f"{path}: is no longer there")


def kept(path: Path) -> bool:
    """Tell whether a file is there whose name says all about what is in it; a copy of it is never out of date.

    Raises:
        StoreError: the bucket cannot be reached.
    """
    return path.is_file() or available(path)


def times(folder: Path) -> dict[str, float]:
    """Return when each file of a folder was written, by name; files that are being written are left out.

    Raises:
        StoreError: the bucket cannot be reached.
    """
    bucket = bucket_of(folder / "-")
    if bucket is not None:
        return {name: seen.modified.timestamp() for name, seen in bucket.files(folder).items()}
    found = dict[str, float]()
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found |= {} if entry.name.startswith(".") else {entry.name: entry.stat().st_mtime}
    return found


def remove(path: Path) -> None:
    """Delete a file, which may be gone already.

    Raises:
        StoreError: the bucket cannot be reached.
    """
    bucket = bucket_of(path)
    if bucket is None:
        path.unlink(missing_ok=True)
    else:
        bucket.remove(path)


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON with :func:`write_atomically`; NaN and infinity are refused."""
    text = json.dumps(
        value, ensure_ascii=False, allow_nan=False
    )  # indented, it takes twice the time and memory
    write_atomically(path, lambda stream: stream.write(text.encode() + b"\n"))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive(path: Path, what: str, *, wait_s: float = 0.5) -> Iterator[None]:
    """Hold `path` as a lock while the block runs.

    An flock: the kernel releases it when the process ends, by kill -9 too, so no stale lock is ever to be
    removed. In a bucket it is a :func:`leases.lease`. The file keeps the holder's process, host and time for the
    message that the next one gets.

    Args:
        path: The lock file; it stays on disk.
        what: Subject of the message, for example "sweep 'mnist'".
        wait_s: Seconds to go on trying. The default outlasts :func:`holder`'s brief look.

    Raises:
        LockHeldError: another process still holds it after `wait_s`.
        StoreError: the file cannot be created or written.
    """
    bucket = bucket_of(path)
    if bucket is not None:
        with lease(bucket, path, what, wait_s=wait_s):
            yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _refusal(path, "created", error) from error
    try:
        deadline = time.monotonic() + wait_s
        while not _try_lock(descriptor, fcntl.LOCK_EX, path):
            if time.monotonic() >= deadline:
                owner = _read_holder(descriptor)
                raise LockHeldError(
                    f"{what} is in use by {owner} ({path}); wait for it or choose another --results"
                )
            time.sleep(0.05)
        _write_holder(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def holder(path: Path) -> str | None:
    """Say who holds the lock `path` ("process 12 on host since ..."), or None if nobody does.

    Raises:
        StoreError: the file is there but cannot be read.
    """
    bucket = bucket_of(path)
    if bucket is not None:
        return lease_holder(bucket, path)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refusal(path, "read", error) from error
    try:
        return None if _try_lock(descriptor, fcntl.LOCK_SH, path) else _read_holder(descriptor)
    finally:
        os.close(descriptor)


def _refusal(path: Path, verb: str, error: OSError) -> StoreError:
    mend = _MENDS.get(error.errno or 0, "check the disk, then run again")
    return StoreError(f"{path}: could not be {verb} ({error.strerror or error}); {mend}")


def _try_lock(descriptor: int, kind: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _refusal(path, "locked", error) from error
    return True


def _write_holder(descriptor: int, path: Path) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    text = f"process {os.getpid()} on {socket.gethostname()} since {now}"
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
    except OSError as error:
        raise _refusal(path, "written", error) from error


def _read_holder(descriptor: int) -> str:
    return os.pread(descriptor, 500, 0).decode(errors="replace") or "another process"
