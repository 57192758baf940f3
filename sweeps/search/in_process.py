"""Searching in this process: the same searches, one trial after another."""

from pathlib import Path

from hushsweep.sweeps.local import execution_here, run_local
from hushsweep.sweeps.runner import RunnerOptions
from hushsweep.sweeps.search.searches import Searches
from hushsweep.workers.progress import Report
from hushsweep.workers.reference import clean_accuracy
from hushsweep.workers.trial import Trial


def search_here(searches: Searches, *, results: Path, options: RunnerOptions, report: Report) -> None:
    """Run the trials that searches ask for.

    Raises:
        StoreError: the results folder cannot be written.
    """
    while (trial := searches.next()) is not None:
        run_local([trial], results=results, options=options, report=report)
        searches.done(trial)


def reference_here(trial: Trial, *, results: Path, options: RunnerOptions) -> float:
    """Find the clean network's accuracy on the validation part."""
    return clean_accuracy(trial, results=results, execution=execution_here(options))
