"""One trial, top to bottom: images, weights, activations, mechanisms, measures, rows.

Every measure's rows are durable before it is reported.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hushsweep.datasets.heartbeat import beat
from hushsweep.datasets.results import Store, StoreError
from hushsweep.workers.commit import Committed, Outcome, commit, commit_failures, write_shard
from hushsweep.workers.devices import device_name, peak_memory, resolve_device, threads
from hushsweep.workers.logs import TrialLog
from hushsweep.workers.measures.base import FittedPoint
from hushsweep.workers.measures.registry import find_measure
from hushsweep.workers.progress import Progress, Report
from hushsweep.workers.trial import Execution, MeasureConfig, Trial
from hushsweep.workers.trial_run import TrialRun, reason_of
from hushsweep.workers.watchdog import watched


def evaluate(
    trial: Trial,
    *,
    results: Path | str,
    execution: Execution,
    provenance: dict[str, Any] | None = None,
    report: Report = lambda progress: None,
) -> None:
    """Run one shard of a trial and write its rows.

    A failure of one point or one measure becomes a failed row with its reason and the rest goes on. A trial that gets
    nowhere for ``execution.timeout_s`` seconds gets such rows, too, and this process ends with exit code 1.

    Args:
        trial: what to do.
        results: the results folder.
        execution: how to do it.
        provenance: columns that say where it ran (node, worker, Ray trial), added to every row.
        report: told about progress; rows are durable before they are counted there.

    Raises:
        StoreError: the results folder cannot be written.
    """
    store = Store(results, create=False)
    device = resolve_device(trial.device)
    columns = {**(provenance or {}), "device": device_name(device)}
    done: dict[str, Any] = dict.fromkeys(("images", "complete", "failed"), 0)

    def heard(progress: Progress) -> None:
        beat()
        for name in done:
            done[name] += getattr(progress, name)
        report(progress)

    log, points = TrialLog(trial, columns), [point.point_id for point in trial.points]
    with (
        threads(execution.threads),
        watched(trial, store, execution.timeout_s, columns),
        _logged(log, points, done),
    ):
        try:
            run = TrialRun(trial, store, execution, device, heard)
            log("weights ready", points, weights_digest=run.weights_digest)
            fitted, found, failures = run.fit()
            log("features done", list(fitted), images=done["images"])
        except StoreError:
            raise
        except Exception as error:  # whatever stops the whole trial is the reason of each of its points
            fitted, found = {}, {}
            failures = {point.point_id: reason_of(error) for point in trial.points}
        _fail(store, trial, failures, columns, heard, log)
        for measure in _measures(trial) if fitted else ():
            _measure(run, measure, fitted, found, columns, log)


@contextmanager
def _logged(log: TrialLog, points: list[str], done: dict[str, Any]) -> Iterator[None]:
    """Log a trial's beginning and its end; whatever ends it early is named there."""
    log("trial began", points, all_ids=True)
    try:
        yield
    except BaseException as error:  # Ray ends a trial that is stopped early by something that is no Exception
        log("trial ended", points, level=logging.WARNING, **done, reason=f"{type(error).__name__}: {error}")
        raise
    log("trial ended", points, **done)


def _measure(
    run: TrialRun,
    config: MeasureConfig,
    fitted: dict[str, FittedPoint],
    found: dict[str, float],
    columns: dict[str, Any],
    log: TrialLog,
) -> None:
    """Measure what is missing of one measure and, once the last shard is there, summarise it."""
    trial, store = run.trial, run.store
    points = [p for p in trial.points if p.point_id in fitted and config in p.measures]
    work_id = trial.work_id(config, (p.point_id for p in points))
    started = time.perf_counter()
    try:
        measure = find_measure(config.name)(**config.options)
        inapplicable = {p.point_id: measure.inapplicable(fitted[p.point_id]) for p in points}
        measured = [fitted[p.point_id] for p in points if inapplicable[p.point_id] is None]
        images = run.subject.activations.images
        computed = write_shard(
            store, trial, config, work_id, measured, images, lambda: measure.measure(run.subject, measured)
        )
        outcome = Outcome(
            points=points,
            inapplicable={key: reason for key, reason in inapplicable.items() if reason is not None},
            levels=found,
            noise_std={p.point_id: _noise_std(fitted[p.point_id]) for p in points},
            validation=lambda: run.validation(list(fitted.values())),
            columns={
                **columns,
                **run.columns,
                "computed_at": datetime.now(UTC),
                "seconds": time.perf_counter() - started if computed else None,
                "peak_memory": peak_memory(run.device) if computed else None,
            },
        )
        committed = commit(store, trial, config, work_id, measure, outcome)
    except StoreError:
        raise
    except Exception as error:  # a measure that fails leaves the others their chance
        committed = Committed(0, 0, {p.point_id: reason_of(error) for p in points})
    _fail(store, trial, committed.failures, columns, run.report, log, config)
    complete = [p.point_id for p in points if p.point_id not in committed.failures]
    if committed.complete:
        log("measure complete", complete, measure=config.name, rows=committed.rows)
        run.report(Progress(complete=committed.complete, measure=config.name))
    elif complete:
        log("shard complete", complete, measure=config.name)


def _noise_std(point: FittedPoint) -> float | None:
    """Absolute standard deviation of the last noise in the chain, None where there is none."""
    stds = [getattr(stage.mechanism, "noise_std", None) for stage in point.stages]
    return next((std for std in reversed(stds) if std is not None), None)


def _measures(trial: Trial) -> list[MeasureConfig]:
    """Different measures of a trial, cheap ones first as the sweep file lists them."""
    found = dict[str, MeasureConfig]()
    for point in trial.points:
        for measure in point.measures:
            found.setdefault(measure.measure_id, measure)
    return list(found.values())


def _fail(
    store: Store,
    trial: Trial,
    failures: dict[str, str],
    columns: dict[str, Any],
    report: Report,
    log: TrialLog,
    measure: MeasureConfig | None = None,
) -> None:
    """Write the failures of points, of all their measures or of one."""
    pairs = {
        (point.point_id, config.measure_id): failures[point.point_id]
        for point in trial.points
        for config in point.measures
        if point.point_id in failures and measure in (None, config)
    }
    commit_failures(store, trial, pairs, {**columns, "computed_at": datetime.now(UTC)})
    log.failed(failures, measure.name if measure else None)
    counts = Counter(measure_id for _, measure_id in pairs)
    for config in _measures(trial) if pairs else ():
        if counts[config.measure_id]:
            report(Progress(failed=counts[config.measure_id], measure=config.name))
