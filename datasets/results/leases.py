"""Locks in a bucket: an object that its holder renews, and that others may take over once it does not."""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hushsweep.datasets.results.buckets import Bucket
from hushsweep.datasets.results.errors import LockHeldError, StoreError

RENEW_S = 15.0
STALE_S = 90.0
"""Seconds without renewal after which a holder counts as dead; on its own machine one that has ended does at once."""
_LOOK_S = 0.5


@contextlib.contextmanager
def lease(bucket: Bucket, path: Path, what: str, *, wait_s: float, waiting: Any = None) -> Iterator[None]:
    """Hold the lock `path` of a bucket while the block runs.

    Clocks of machines have to agree within a minute; S3 refuses requests that are minutes off anyway.

    Args:
        bucket: Where it is.
        path: The lock.
        what: Subject of the message.
        wait_s: Seconds to go on trying.
        waiting: Called between two tries.

    Raises:
        LockHeldError: another process still holds it after `wait_s`; or took it over, since this one could not renew
            it for too long.
        StoreError: the bucket cannot be reached.
    """
    deadline = time.monotonic() + wait_s
    while (tag := _take(bucket, path)) is None:
        if time.monotonic() >= deadline:
            owner = lease_holder(bucket, path) or "another process"
            raise LockHeldError(
                f"{what} is in use by {owner} ({bucket.spelled(path)}); wait for it or choose another --results"
            )
        time.sleep(_LOOK_S)
        if waiting is not None:
            waiting()
    renewal = _Renewal(bucket, path, tag)
    try:
        yield
    finally:
        kept = renewal.end()
    if not kept:
        raise LockHeldError(
            f"{what}: another process took over ({bucket.spelled(path)}), since this one could not renew its lock for "
            f"{STALE_S:g} s; run again"
        )


def lease_holder(bucket: Bucket, path: Path) -> str | None:
    """Say who holds a lock, None if nobody does."""
    found = bucket.read_small(path)
    if found is None or _is_stale(found[0], found[1].modified):
        return None
    return str(json.loads(found[0])["holder"])


def _take(bucket: Bucket, path: Path) -> str | None:
    """Take a lock that is free or abandoned; return its tag, None if it is held."""
    tag = bucket.write_small(path, _content(), over=None)
    if tag is not None:
        return tag
    found = bucket.read_small(path)
    if found is None or not _is_stale(found[0], found[1].modified):
        return None
    return bucket.write_small(path, _content(), over=found[1].tag)


def _content() -> bytes:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    host = socket.gethostname()
    said = {"holder": f"process {os.getpid()} on {host} since {now}", "host": host, "pid": os.getpid()}
    # two holders never write the same bytes, so that the tag, a hash of them, tells one from the other
    return json.dumps({**said, "at": time.time_ns(), "thread": threading.get_ident()}).encode()


def _is_stale(content: bytes, modified: datetime) -> bool:
    said = json.loads(content)
    if (
        said["host"] == socket.gethostname()
        and not Path(f"/proc/{said['pid']}").exists()
        and Path("/proc/self").exists()
    ):
        return True
    return (datetime.now(UTC) - modified).total_seconds() > STALE_S


class _Renewal:
    """A thread that keeps a lock from going stale."""

    def __init__(self, bucket: Bucket, path: Path, tag: str) -> None:
        self._bucket, self._path, self._tag = bucket, path, tag
        self._kept, self._ended = True, threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    def end(self) -> bool:
        """Give the lock back; tell whether it was ours to the end."""
        self._ended.set()
        self._thread.join()
        if self._kept:
            found = self._bucket.read_small(self._path)
            self._kept = found is not None and found[1].tag == self._tag
        if self._kept:
            self._bucket.remove(self._path)
        return self._kept

    def _run(self) -> None:
        while not self._ended.wait(RENEW_S) and self._kept:
            with contextlib.suppress(StoreError):  # out of reach: the next time may do
                tag = self._bucket.write_small(self._path, _content(), over=self._tag)
                self._kept = tag is not None
                self._tag = tag or self._tag
