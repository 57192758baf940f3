"""Searching and early stopping with Ray Tune: our searches as its search algorithm, our judge as its scheduler."""

from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hushsweep.datasets.results import StoreError, results_name
from hushsweep.sweeps.driver import (
    Watcher,
    choose_resources,
    execution_of,
    fail_dead_trials,
    fit,
    ray_cluster,
    trial_of,
)
from hushsweep.sweeps.runner import RunnerOptions
from hushsweep.sweeps.search.judge import Judge
from hushsweep.sweeps.search.searches import Searches
from hushsweep.workers.progress import Report
from hushsweep.workers.reference import clean_accuracy
from hushsweep.workers.trial import Trial


def search_on_ray(searches: Searches, *, results: Path, options: RunnerOptions, report: Report) -> None:
    """Run the trials that searches ask for on Ray workers, as many at once as fit.

    Raises:
        RunError: the cluster cannot be reached or does not have what a trial asks for.
        StoreError: a worker could not write the results folder.
        KeyboardInterrupt: the run was interrupted; what was complete stays complete.
    """
    searches.advance()
    if searches.finished:
        return  # without starting a cluster for nothing
    with ray_cluster(options.address):
        resources = choose_resources(options.execution, searches.outlook())
        watcher = Watcher(report, sweep=options.sweep)
        supply = _Supply(searches, watcher, options.execution.max_failures, results, report)
        fit((), watcher, resources, results, options, search_alg=supply.algorithm(), num_samples=-1)
        if watcher.store_error:
            raise StoreError(watcher.store_error)
        if not searches.finished:
            raise KeyboardInterrupt


def reference_on_ray(trial: Trial, *, results: Path, options: RunnerOptions) -> float:
    """Find the clean network's accuracy on the validation part in a worker."""
    with ray_cluster(options.address):
        import ray

        cpus, gpus = choose_resources(options.execution, [trial])
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=options.execution.max_failures)(
            _reference
        )
        found: float = ray.get(
            task.remote(trial, results_name(results), execution_of(options.execution, cpus))
        )
    return found


def _reference(trial: Trial, results: str, execution: Any) -> float:
    return clean_accuracy(trial, results=results, execution=execution)


class _Supply:
    """Gives Tune the next trial, and takes back what ended; one whose worker died comes again after the others."""

    def __init__(
        self, searches: Searches, watcher: Watcher, max_failures: int, results: Path, report: Report
    ) -> None:
        self._searches, self._watcher, self._max_failures = searches, watcher, max_failures
        self._results, self._report = results, report
        self._running = dict[str, tuple[int, Trial]]()
        self._again = deque[Trial]()
        self._deaths = Counter[str]()
        self._number = 0

    def algorithm(self) -> Any:
        """Return Tune's search algorithm."""
        from ray.tune.search import Searcher

        supply = self

        class Supplied(Searcher):  # type: ignore[misc]
            def __reduce__(self) -> Any:
                return Searcher, ()  # Tune keeps a copy for restoring, which we never do

            def set_search_properties(self, *args: Any, **spec: Any) -> bool:
                return True

            def suggest(self, trial_id: str) -> Any:
                found = supply.next(trial_id)
                return Searcher.FINISHED if found is None and supply.finished else found

            def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
                supply.ended(trial_id, died=error)

            def save(self, checkpoint_path: str) -> None:
                Path(checkpoint_path).touch()

            def restore(self, checkpoint_path: str) -> None:
                raise NotImplementedError  # a run goes on by planning again

        return Supplied()

    @property
    def finished(self) -> bool:
        return not self._again and not self._running and self._searches.finished

    def next(self, trial_id: str) -> dict[str, Any] | None:
        trial = self._searches.next() or (self._again.popleft() if self._again else None)
        if trial is None:
            return None
        self._running[trial_id] = self._number, trial
        self._number += 1
        return {"trial": self._number - 1, "asked": trial}

    def ended(self, trial_id: str, *, died: bool) -> None:
        number, trial = self._running.pop(trial_id)
        if died:
            self._deaths[trial.trial_id] += 1
            if self._deaths[trial.trial_id] <= self._max_failures:
                self._again.append(trial)
                return
            fail_dead_trials([trial], self._results, self._report, {trial_id}, sweep=self._watcher.sweep)
        elif number not in self._watcher.ended:
            return  # the run is being interrupted: it is not done, and will not be told
        self._searches.done(trial)


def scheduler_of(judge: Judge, watcher: Watcher, trials: Sequence[Trial]) -> Any:
    """Return Tune's scheduler that ends trials as the judge decides.

    Args:
        judge: decides, and writes the rows of what it stops.
        watcher: told what was stopped.
        trials: known beforehand.
    """
    from ray.tune.schedulers import FIFOScheduler

    class Judged(FIFOScheduler):  # type: ignore[misc]
        def __reduce__(self) -> Any:
            return FIFOScheduler, ()

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            if "score" not in result:
                return str(FIFOScheduler.CONTINUE)
            ours = trial_of(trial.config, trials)
            reason = judge.decide(ours, result["epoch"], result["epochs"], result["score"])
            if reason is None:
                return str(FIFOScheduler.CONTINUE)
            try:
                watcher.stopped(trial.config["trial"], judge.stop(ours, reason))
            except StoreError as error:  # ends all trials; an exception here would end the driver's loop
                watcher.store_error = watcher.store_error or str(error)
            return str(FIFOScheduler.STOP)

    return Judged()
