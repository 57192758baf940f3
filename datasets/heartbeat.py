"""When this process last got on, for whoever watches that it does: an image decoded, a batch, a step of a training."""

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from hushsweep.datasets.results.buckets import bucket_of
from hushsweep.datasets.results.errors import LockHeldError
from hushsweep.datasets.results.leases import lease

_WAIT = 1.0
"""Seconds between two signs of life of a process that waits for another one's lock."""
_last = time.monotonic()


def beat() -> None:
    """Say that this process got on."""
    global _last  # noqa: PLW0603  (there is one process)
    _last = time.monotonic()


def idle_s() -> float:
    """Return the seconds since it last got on."""
    return time.monotonic() - _last


@contextmanager
def locked(path: Path | str, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file while the block runs; of a results folder that stands for a bucket, on all machines.

    To wait for it counts as getting on: whoever holds it is watched itself, and its death releases the lock.

    Raises:
        Timeout: another process holds it, and `wait` is false.
    """
    lock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=_WAIT if wait else 0)
            break
        except Timeout:
            if not wait:
                raise
            beat()
    try:
        with _lease(Path(path), wait=wait):
            yield
    finally:
        lock.release()


@contextmanager
def _lease(path: Path, *, wait: bool) -> Iterator[None]:
    bucket = bucket_of(path)
    if bucket is None:
        yield
        return
    with ExitStack() as stack:
        held = lease(bucket, path, path.name, wait_s=math.inf if wait else 0.0, waiting=beat)
        try:
            stack.enter_context(held)
        except LockHeldError as error:
            raise Timeout(str(path)) from error
        yield
