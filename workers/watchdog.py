"""Ends a process whose trial gets nowhere: a file system that is gone, a loader that hangs.

Nothing can end a read that hangs but the end of its process. So the rows that say why are written first, from a thread
beside it, and then the process ends at once; on Ray another one goes on with the rest.
"""

import faulthandler
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from hushsweep.datasets.heartbeat import beat, idle_s
from hushsweep.datasets.results import Store
from hushsweep.workers.commit import commit_failures
from hushsweep.workers.logs import TrialLog
from hushsweep.workers.trial import Trial

_TICKS = 4
"""Looks per timeout, but one a second at least."""
_WRITING_S = 30.0
"""Seconds for the rows: the results folder may be what hangs."""


@contextmanager
def watched(trial: Trial, store: Store, timeout_s: float | None, columns: dict[str, Any]) -> Iterator[None]:
    """End this process if it does not get on for ``timeout_s`` seconds while the block runs.

    What the trial has not completed then has failed rows that say where it stood.

    Args:
        trial: what runs in the block, in this thread.
        store: where its rows go.
        timeout_s: None watches nothing.
        columns: of the rows, beside their reason.
    """
    if timeout_s is None:
        yield
        return
    done, thread = threading.Event(), threading.get_ident()
    beat()
    watch = threading.Thread(
        target=_watch, args=(trial, store, timeout_s, columns, done, thread), name="watchdog", daemon=True
    )
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()  # before another trial is watched: there is one timer per process


def _watch(
    trial: Trial, store: Store, timeout_s: float, columns: dict[str, Any], done: threading.Event, thread: int
) -> None:
    tick = min(1.0, timeout_s / _TICKS)
    try:
        while idle_s() <= timeout_s:
            # code that keeps Python's lock lets no thread run; this timer needs none, but cannot write rows
            faulthandler.dump_traceback_later(timeout_s + _WRITING_S, exit=True, file=2)
            if done.wait(tick):
                return
    finally:
        faulthandler.cancel_dump_traceback_later()
    if done.is_set():
        return
    reason = (
        f"no progress for {timeout_s:g} s (execution.timeout_s), last seen at {_places(thread)}; "
        "mend what it waits for, or allow more time"
    )
    writer = threading.Thread(target=_write, args=(trial, store, reason, columns), daemon=True)
    writer.start()
    writer.join(_WRITING_S)
    os.write(2, f"hushsweep: process {os.getpid()} ends: {reason}\n".encode())
    os._exit(1)


def _write(trial: Trial, store: Store, reason: str, columns: dict[str, Any]) -> None:
    TrialLog(trial, columns).failed({point.point_id: reason for point in trial.points})
    completed = store.completed()
    wanted = {(point.point_id, measure.measure_id) for point in trial.points for measure in point.measures}
    columns = {**columns, "computed_at": datetime.now(UTC)}
    commit_failures(store, trial, dict.fromkeys(wanted - completed, reason), columns)


def _places(thread: int) -> str:
    """Say where a thread stands, and the others in which code of ours runs."""
    frames = sys._current_frames()
    stacks = [_stack(frames[thread])] if thread in frames else []
    for ident, frame in frames.items():
        stack = _stack(frame)
        if ident not in (thread, threading.get_ident()) and any(_ours(one) for one in stack):
            stacks.append(stack)
    places = (next((frame for frame in stack if not _of_python(frame)), stack[0]) for stack in stacks)
    return " and ".join(dict.fromkeys(_spelled(frame) for frame in places))


def _stack(frame: FrameType | None) -> list[FrameType]:
    """A frame and its callers, innermost first."""
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def _ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith("hushsweep.")


def _of_python(frame: FrameType) -> bool:
    """Whether a frame belongs to Python's own library, where a name says little."""
    name = str(frame.f_globals.get("__name__")).partition(".")[0]
    return name in sys.stdlib_module_names and name != "__main__"


def _spelled(frame: FrameType) -> str:
    code = frame.f_code
    return f"{os.path.basename(code.co_filename)}:{frame.f_lineno} in {code.co_name}"  # noqa: PTH119
