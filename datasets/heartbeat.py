"""When this process last got on, for whoever watches that it does: an image decoded, a batch, a step of a training."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

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
    """Hold a lock file while the block runs.

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
        yield
    finally:
        lock.release()
