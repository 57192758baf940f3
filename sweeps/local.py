"""The local runner: the same trials as on a cluster, one after another in this process."""

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from hushsweep.sweeps.runner import RunnerOptions
from hushsweep.sweeps.search.judge import Judge
from hushsweep.workers.evaluate import evaluate
from hushsweep.workers.logs import logged_to
from hushsweep.workers.progress import Progress, Report
from hushsweep.workers.trial import Execution, Trial

LOGS = "logs"
"""Folder in the cache with a file per run in one process, a line per event of a trial."""


def run_local(trials: Sequence[Trial], *, results: Path, options: RunnerOptions, report: Report) -> None:
    """Run trials in this process, which ends with exit code 1 where one gets nowhere for ``timeout_s`` seconds.

    Raises:
        StoreError: the results folder cannot be written.
    """
    name = f"{socket.gethostname()}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.jsonl"
    with logged_to(results / "cache" / LOGS / name):
        for trial in trials:
            try:
                evaluate(
                    trial,
                    results=results,
                    execution=execution_here(options),
                    provenance={
                        "node": socket.gethostname(),
                        "worker": str(os.getpid()),
                        "git_commit": options.git_commit,
                    },
                    report=_judged(trial, report, options.judge) if options.judge else report,
                )
            except _Stopped as stopped:
                assert options.judge is not None
                report(Progress(complete=options.judge.stop(trial, str(stopped))))


def execution_here(options: RunnerOptions) -> Execution:
    """Return how a trial runs in this process."""
    execution = options.execution
    return Execution(
        batch_size=execution.batch_size,
        threads=execution.threads or os.cpu_count() or 1,
        decode_threads=os.cpu_count() or 1,
        feature_cache_gb=execution.feature_cache_gb,
        timeout_s=execution.timeout_s,
    )


class _Stopped(BaseException):
    """Ends a training from within its report; no Exception, since those make failed rows."""


def _judged(trial: Trial, report: Report, judge: Judge) -> Report:
    """Pass progress on, and end the trial where its training is not promising."""

    def both(progress: Progress) -> None:
        report(progress)
        if progress.epoch is not None and progress.score is not None:
            reason = judge.decide(trial, progress.epoch, progress.epochs, progress.score)
            if reason is not None:
                raise _Stopped(reason)

    return both
