"""How far a sweep is: points done, failed and missing, why they failed, throughput and time left."""

from collections import defaultdict
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from statistics import fmean
from typing import Any

from hushsweep.dashboards.queries import connect
from hushsweep.dashboards.queries.run import require_sweep
from hushsweep.datasets.results import Store

_UNITS = """
SELECT
    point_id,
    measure_id,
    bool_and(status = 'failed') AS failed,
    any_value(reason) FILTER (status = 'failed') AS reason,
    max(n) AS images,
    max(seconds) AS seconds,
    any_value(worker) AS worker
FROM measurements
WHERE sweep = $sweep
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
        done: All measures complete or not applicable.
        failed: At least one measure failed and has not been completed since.
        missing: The others.
        failures: The failed measures.
        images_per_second: Images measured per second by all workers together, or None while nothing is done.
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
    with connect(results) as connection:
        return tuple(
            _status(store, name, connection.sql(_UNITS, params={"sweep": name}).to_arrow_table().to_pylist())
            for name in ([sweep] if sweep is not None else store.sweeps())
        )


def _status(store: Store, sweep: str, units: list[dict[str, Any]]) -> SweepStatus:
    found = {(unit["point_id"], unit["measure_id"]): unit for unit in units}
    planned = (store.plan(sweep) or {"points": []})["points"]
    failures: list[Failure] = []
    missing: list[str] = []
    counts = {"done": 0, "failed": 0, "missing": 0}
    for point in planned:
        state = "done"
        for measure in point["measures"]:
            unit = found.get((point["point_id"], measure["measure_id"]))
            if unit is None:
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
    done = [unit for unit in units if not unit["failed"] and unit["seconds"]]
    workers = max(1, len({unit["worker"] for unit in done}))
    return SweepStatus(
        sweep=sweep,
        running=store.running(sweep),
        points=len(planned),
        **counts,
        failures=tuple(failures),
        images_per_second=_rate(done, workers),
        seconds_left=_time_left(missing, done, workers),
    )


def _rate(done: list[dict[str, Any]], workers: int) -> float | None:
    seconds = fsum(unit["seconds"] for unit in done)
    return workers * fsum(unit["images"] or 0 for unit in done) / seconds if seconds else None


def _time_left(missing: list[str], done: list[dict[str, Any]], workers: int) -> float | None:
    """Missing measures take as long as the mean of those done, split among the workers seen."""
    if not missing:
        return 0.0
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for unit in done:
        seconds[unit["measure_id"]].append(unit["seconds"])
    if not set(missing) <= set(seconds):
        return None
    return sum(fmean(seconds[key]) for key in missing) / workers
