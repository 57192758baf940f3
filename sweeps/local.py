"""The local runner: the same trials as on a cluster, one after another in this process."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from hushsweep.sweeps.runner import RunnerOptions
from hushsweep.workers.evaluate import evaluate
from hushsweep.workers.progress import Report
from hushsweep.workers.trial import Execution, Trial


def run_local(trials: Sequence[Trial], *, results: Path, options: RunnerOptions, report: Report) -> None:
    """Run trials in this process.

    Raises:
        StoreError: the results folder cannot be written.
    """
    execution = options.execution
    threads = execution.threads or os.cpu_count() or 1
    for trial in trials:
        evaluate(
            trial,
            results=results,
            execution=Execution(
                batch_size=execution.batch_size,
                threads=threads,
                decode_threads=os.cpu_count() or 1,
                feature_cache_gb=execution.feature_cache_gb,
            ),
            provenance={
                "node": socket.gethostname(),
                "worker": str(os.getpid()),
                "git_commit": options.git_commit,
            },
            report=report,
        )
