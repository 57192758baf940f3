"""Run the searches of a sweep, in this process or on Ray."""

from collections.abc import Sequence

from hushsweep.datasets.results import Store
from hushsweep.sweeps.errors import RunError
from hushsweep.sweeps.resolve import Searched
from hushsweep.sweeps.runner import RunnerOptions
from hushsweep.sweeps.search.record import Record
from hushsweep.sweeps.search.searches import PlannedSearch, Searches
from hushsweep.workers.progress import Report
from hushsweep.workers.reference import kept_accuracy
from hushsweep.workers.trial import Trial


def run_searches(
    searches: Sequence[tuple[Searched, PlannedSearch]],
    record: Record,
    *,
    local: bool,
    store: Store,
    options: RunnerOptions,
    report: Report,
) -> tuple[str, ...]:
    """Ask for levels and try them until all searches are finished; return what they found, a sentence each.

    Raises:
        RunError: the clean network, against which losses are counted, cannot be had.
        StoreError: the results folder cannot be written.
    """
    if not searches:
        return ()
    if local:
        from hushsweep.sweeps.search.in_process import reference_here as reference_of
        from hushsweep.sweeps.search.in_process import search_here as search
    else:
        from hushsweep.sweeps.search.on_ray import reference_on_ray as reference_of
        from hushsweep.sweeps.search.on_ray import search_on_ray as search

    def reference(trial: Trial) -> float:
        kept = kept_accuracy(trial, store.cache_dir)
        if kept is not None:
            return kept
        try:
            return reference_of(trial, results=store.root, options=options)
        except (KeyboardInterrupt, RunError):
            raise
        except Exception as error:
            text = " ".join(str(error).split())[-500:]
            raise RunError(
                f"target_accuracy_loss: the clean network's accuracy cannot be had: {text}"
            ) from error

    asking = Searches(searches, store, add=record.add, reference=reference)
    try:
        search(asking, results=store.root, options=options, report=report)
    finally:
        record.conclude(asking.report())
    return tuple(
        f"{found['label']}: {found['level_name']}: {found['conclusion']}" for found in asking.report()
    )
