"""What trials count in Ray's own metrics, which Prometheus reads from every node; nothing here may fail a trial."""

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from time import perf_counter
from typing import Any

from hushsweep.workers.progress import Progress, Report
from hushsweep.workers.trial import Trial

_SECONDS = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0, 30000.0]
"""Upper ends of the histogram's buckets."""
_TRIAL = ("sweep", "model")


class TrialMetrics:
    """Counts a trial's progress and passes it on.

    Args:
        trial: what runs.
        sweep: name of its sweep.
        report: told about progress, whatever becomes of the metrics.
    """

    def __init__(self, trial: Trial, sweep: str, report: Report) -> None:
        self._tags = {"sweep": sweep, "model": trial.model.name}
        self._report = report

    def __call__(self, progress: Progress) -> None:
        """Count it and pass it on."""
        with contextlib.suppress(Exception):
            if progress.images:
                _counter("images", _TRIAL).inc(progress.images, self._tags)
            measured = {**self._tags, "measure": progress.measure or ""}
            if progress.complete:
                _counter("measures_complete", (*_TRIAL, "measure")).inc(progress.complete, measured)
            if progress.failed:
                _counter("measures_failed", (*_TRIAL, "measure")).inc(progress.failed, measured)
        self._report(progress)

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Add the seconds of the block, the whole trial, to the histogram."""
        began = perf_counter()
        try:
            yield
        finally:
            with contextlib.suppress(Exception):
                _histogram().observe(perf_counter() - began, self._tags)


class SweepMetrics:
    """Tells from the driver how many trials are left, and counts those whose worker died."""

    def __init__(self, sweep: str) -> None:
        self._tags = {"sweep": sweep}

    def left(self, trials: int) -> None:
        """Say how many trials have not ended."""
        with contextlib.suppress(Exception):
            _gauge().set(trials, self._tags)

    def died(self) -> None:
        """Count a trial whose worker died."""
        with contextlib.suppress(Exception):
            _counter("trials_died", ("sweep",)).inc(1, self._tags)


_MEANINGS = {
    "images": "Images that went through a network.",
    "measures_complete": "Measures of points whose rows are durable.",
    "measures_failed": "Measures of points that failed.",
    "trials_died": "Attempts at a trial whose worker died.",
}


@lru_cache
def _counter(name: str, tags: tuple[str, ...]) -> Any:
    """One per process, as Ray wants it; Prometheus calls it ray_hushsweep_NAME_total."""
    from ray.util.metrics import Counter

    return Counter(f"hushsweep_{name}_total", _MEANINGS[name], tags)


@lru_cache
def _histogram() -> Any:
    from ray.util.metrics import Histogram

    return Histogram("hushsweep_trial_seconds", "Seconds of a trial.", _SECONDS, _TRIAL)


@lru_cache
def _gauge() -> Any:
    from ray.util.metrics import Gauge

    return Gauge("hushsweep_trials_left", "Trials that have not ended.", ("sweep",))
