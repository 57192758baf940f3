"""What is counted for Prometheus never stands in a trial's way."""

import statistics
import time
from types import SimpleNamespace
from typing import Any

import pytest

from hushsweep.sweeps import metrics
from hushsweep.sweeps.metrics import SweepMetrics, TrialMetrics
from hushsweep.workers.progress import Progress

TRIAL: Any = SimpleNamespace(model=SimpleNamespace(name="digits_mlp"))


@pytest.mark.parametrize("broken", [False, True])
def test_progress_is_passed_on_whatever_becomes_of_metrics(
    monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("no metrics here")

    for name in ("_counter", "_histogram", "_gauge") if broken else ():
        monkeypatch.setattr(metrics, name, fail)
    seen = list[Progress]()
    counted = TrialMetrics(TRIAL, "s", seen.append)
    told = [
        Progress(images=3),
        Progress(complete=2, measure="hcr"),
        Progress(failed=1, measure="hcr"),
        Progress(),
    ]
    with counted.timed():
        for progress in told:
            counted(progress)
    SweepMetrics("s").left(3)
    SweepMetrics("s").died()
    assert seen == told


def test_what_ends_a_trial_gets_through() -> None:
    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    counted = TrialMetrics(TRIAL, "s", stop)
    with pytest.raises(KeyboardInterrupt), counted.timed():
        counted(Progress(images=1))


def test_a_trial_of_a_hundred_batches_is_counted_in_milliseconds() -> None:
    spent = []
    for _ in range(20):
        began = time.thread_time()
        counted = TrialMetrics(TRIAL, "s", lambda progress: None)
        with counted.timed():
            for _ in range(100):
                counted(Progress(images=64))
            counted(Progress(complete=100, measure="accuracy"))
        spent.append(time.thread_time() - began)
    assert statistics.median(spent) < 5e-3
