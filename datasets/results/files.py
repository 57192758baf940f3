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
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

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


class StoreError(ValueError):
    """The results folder cannot be read or written as asked; the message names the place and the mend."""


class LockHeldError(StoreError):
    """Another process holds the lock; the message names it."""


class FileGoneError(StoreError):
    """A file is no longer where it was listed: it has just been merged with others, or somebody deleted it."""


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

    `write` gets a stream under a temporary name, which is synced to disk and renamed; the folder is synced.

    Raises:
        StoreError: the disk is full or refuses; nothing of the new file remains.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _refusal(path, "written", error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


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
    removed. The file keeps the holder's process, host and time for the message that the next one gets.

    Args:
        path: The lock file; it stays on disk.
        what: Subject of the message, for example "sweep 'mnist'".
        wait_s: Seconds to go on trying. The default outlasts :func:`holder`'s brief look.

    Raises:
        LockHeldError: another process still holds it after `wait_s`.
        StoreError: the file cannot be created or written.
    """
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
