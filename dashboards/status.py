"""How far a sweep is: points done, failed and missing, why they failed, throughput and time left."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from statistics import fmean
from typing import Any

from hushsweep.dashboards.queries.connection import ask
from hushsweep.dashboards.queries.run import require_sweep
from hushsweep.datasets.results import Store

_UNITS = """
SELECT
    sweep,
    point_id,
    measure_id,
    computed_by,
    bool_and(status = 'failed') AS failed,
    bool_and(status = 'stopped') AS stopped,
    any_value(reason) FILTER (status = 'failed') AS reason,
    max(n) AS images,
    max(seconds) AS seconds,
    any_value(node || ' ' || worker) AS worker
FROM measurements
WHERE sweep = coalesce($sweep, sweep)
GROUP BY ALL
"""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One measure of one point that failed, and why."""

    point_id: str
    label: str
    measure: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """State of one sweep.

    Attributes:
        sweep: Its name.
        running: Who runs it at this moment ("process 12 on host since ..."), or None.
        points: Points of its plan; each is one of the three that follow.
        done: All measures complete or not applicable; or stopped early, if the sweep has early stopping.
        failed: At least one measure failed and has not been completed since.
        missing: The others.
        failures: The failed measures.
        images_per_second: Images per second that all workers together put through a measure, all levels at once;
            None while nothing is done.
        seconds_left: Estimate for what is missing with the workers seen so far; failed measures are run again
            by the next run. None when nothing is known of a measure's duration.
    """

    sweep: str
    running: str | None
    points: int
    done: int
    failed: int
    missing: int
    failures: tuple[Failure, ...]
    images_per_second: float | None
    seconds_left: float | None


def sweep_status(results: Path | str, sweep: str | None = None) -> tuple[SweepStatus, ...]:
    """State of `sweep`, or of every sweep in the results folder, by name.

    Raises:
        StoreError: there are no results, or no such sweep in them.
    """
    store = Store(results, create=False)
    if sweep is not None:
        require_sweep(store, sweep)
    units = defaultdict[str, list[dict[str, Any]]](list)
    for unit in ask(results, _UNITS, sweep=sweep).to_pylist():
        units[unit["sweep"]].append(unit)
    return tuple(_status(store, name, units[name]) for name in ([sweep] if sweep else store.sweeps()))


def _status(store: Store, sweep: str, units: list[dict[str, Any]]) -> SweepStatus:
    found = {(unit["point_id"], unit["measure_id"]): unit for unit in units}
    plan = store.plan(sweep) or {"points": []}
    planned, may_stop = plan["points"], bool(plan.get("early_stopping"))
    failures: list[Failure] = []
    missing: list[str] = []
    counts = {"done": 0, "failed": 0, "missing": 0}
    for point in planned:
        state = "done"
        for measure in point["measures"]:
            unit = found.get((point["point_id"], measure["measure_id"]))
            if unit is None or (unit["stopped"] and not may_stop):
                missing.append(measure["measure_id"])
                state = "missing" if state == "done" else state
            elif unit["failed"]:
                state = "failed"
                failures.append(
                    Failure(
                        point_id=point["point_id"],
                        label=point["label"],
                        measure=measure["name"],
                        reason=unit["reason"],
                    )
                )
        counts[state] += 1
    passes = defaultdict[tuple[str, str], list[dict[str, Any]]](list)
    for unit in units:
        if not (unit["failed"] or unit["stopped"]) and unit["seconds"]:
            passes[unit["computed_by"], unit["measure_id"]].append(unit)
    workers = max(1, len({unit["worker"] for done in passes.values() for unit in done}))
    return SweepStatus(
        sweep=sweep,
        running=store.running(sweep),
        points=len(planned),
        **counts,
        failures=tuple(failures),
        images_per_second=_rate(passes.values(), workers),
        seconds_left=_time_left(missing, passes, workers),
    )


def _rate(passes: Collection[list[dict[str, Any]]], workers: int) -> float | None:
    """A pass serves all points of its trial: its seconds and its images count once."""
    seconds = fsum(units[0]["seconds"] for units in passes)
    return workers * fsum(units[0]["images"] or 0 for units in passes) / seconds if seconds else None


def _time_left(
    missing: list[str], passes: dict[tuple[str, str], list[dict[str, Any]]], workers: int
) -> float | None:
    """A missing measure takes as long as its mean share in the passes done; the workers seen share the work."""
    shares = defaultdict[str, list[float]](list)
    for (_, measure_id), units in passes.items():
        shares[measure_id].append(units[0]["seconds"] / len(units))
    if not set(missing) <= set(shares):
        return None
    return fsum(fmean(shares[measure_id]) for measure_id in missing) / workers
