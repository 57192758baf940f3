"""What trials tell a log: a line of JSON per event, which names the points, so that one can be followed over nodes.

The lines go through Python's ``logging``, to the logger ``hushsweep.trial``, and nowhere until a runner says where to.
"""

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from hushsweep.workers.trial import Trial

SHOWN = 10
"""Ids in a line that does not list all of them."""
LOGGER = logging.getLogger("hushsweep.trial")
LOGGER.addHandler(logging.NullHandler())  # else Python would print warnings of it itself


class JsonFormatter(logging.Formatter):
    """Spells a record as one line: time, level and event, then what the event knows."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "known", {}),
        }
        return json.dumps(line, default=str)


class TrialLog:
    """Writes the events of one shard of a trial.

    Args:
        trial: what runs.
        columns: where it runs, as in its rows: node, worker, Ray trial.
    """

    def __init__(self, trial: Trial, columns: dict[str, Any]) -> None:
        self._trial, self._columns = trial, columns
        self._began = time.perf_counter()

    @cached_property
    def _common(self) -> dict[str, Any]:
        names = ("node", "worker", "ray_trial_id")
        return {
            "trial_id": self._trial.trial_id,
            "shard": self._trial.shard,
            "shards": self._trial.shards,
            **{name: self._columns[name] for name in names if self._columns.get(name) is not None},
        }

    def __call__(
        self,
        event: str,
        point_ids: Sequence[str],
        *,
        level: int = logging.INFO,
        all_ids: bool = False,
        **known: Any,
    ) -> None:
        """Write one event.

        Args:
            event: what happened.
            point_ids: the points that it happened to.
            level: of ``logging``.
            all_ids: list all of them, however many.
            known: more keys of the line.
        """
        if not LOGGER.isEnabledFor(level):
            return
        line = {
            **self._common,
            "points": len(point_ids),
            "point_ids": list(point_ids if all_ids else point_ids[:SHOWN]),
            **known,
            "seconds": round(time.perf_counter() - self._began, 3),
        }
        LOGGER.log(level, event, extra={"known": line})

    def failed(self, reasons: dict[str, str], measure: str | None = None) -> None:
        """Write why points failed, a line per reason; ``measure`` is None where all of their measures did."""
        by_reason = dict[str, list[str]]()
        for point_id, reason in reasons.items():
            by_reason.setdefault(reason, []).append(point_id)
        for reason, points in by_reason.items():
            self("point failed", points, level=logging.WARNING, all_ids=True, measure=measure, reason=reason)


def log_to_stderr() -> None:
    """Send the lines to this process's standard error, from now on: Ray keeps that of every worker in a file."""
    if not any(isinstance(handler.formatter, JsonFormatter) for handler in LOGGER.handlers):
        _add(logging.StreamHandler(sys.stderr))


@contextmanager
def logged_to(file: Path) -> Iterator[None]:
    """Send the lines to the end of a file while the block runs; a file that cannot be written costs no trial."""
    level = LOGGER.level
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = _Quiet(file, delay=True, encoding="utf-8")
    except OSError:
        yield
        return
    _add(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
        with suppress(OSError):
            handler.close()


class _Quiet(logging.FileHandler):
    """Leaves out what it cannot write: a full disk is told by the rows."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name is logging's)
        pass


def _add(handler: logging.Handler) -> None:
    handler.setFormatter(JsonFormatter())
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
