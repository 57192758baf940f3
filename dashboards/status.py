"""How far a sweep is: points done, failed and missing, why they failed, throughput, time left, use of nodes."""

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from math import fsum
from pathlib import Path
from statistics import fmean
from typing import Any

from hushsweep.dashboards.queries.connection import ask
from hushsweep.dashboards.queries.run import require_sweep
from hushsweep.datasets.results import TABLES, Store

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
    any_value(node) AS node,
    any_value(node || ' ' || worker) AS worker,
    max(computed_at) AS computed_at
FROM measurements
WHERE sweep = coalesce($sweep, sweep)
GROUP BY ALL
"""
_SHARD = re.compile(r"([^.]+)\.([^.]+)\.\d+of(\d+)")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One measure of one point that failed, and why."""

    point_id: str
    label: str
    measure: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class NodeUse:
    """What one node has done for a sweep, as its rows tell.

    A measure whose images were cut into shards counts where its last shard was computed.

    Attributes:
        node: Its name, and on Ray its address.
        done: Measures of points that it completed.
        failed: Measures of points that failed on it.
        workers: Processes that wrote rows there.
        images_per_second: Images per second that these together put through a measure, all levels at once; None
            while nothing is done.
        last_row_at: When it computed its last row.
    """

    node: str
    done: int
    failed: int
    workers: int
    images_per_second: float | None
    last_row_at: datetime | None


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
        nodes: What each node has done; those that did most first.
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
    nodes: tuple[NodeUse, ...]


def sweep_status(results: Path | str, sweep: str | None = None) -> tuple[SweepStatus, ...]:
    """State of `sweep`, or of every sweep in the results folder, by name.

    Raises:
        StoreError: there are no results, or no such sweep in them.
    """
    store = Store(results, create=False)
    if sweep is not None:
        require_sweep(store, sweep)
    units, shards = defaultdict[str, list[dict[str, Any]]](list), _shards(store)
    for unit in ask(results, _UNITS, sweep=sweep).to_pylist():
        if unit["seconds"]:  # a row has the seconds of the last shard, and the images of all
            unit["seconds"] *= shards.get((unit["computed_by"], unit["measure_id"]), 1)
        units[unit["sweep"]].append(unit)
    return tuple(_status(store, name, units[name]) for name in ([sweep] if sweep else store.sweeps()))


def _shards(store: Store) -> dict[tuple[str, str], int]:
    """Into how many shards the images were cut, by computation and measure, as the names of their files say."""
    found = dict[tuple[str, str], int]()
    for table in TABLES:
        if table.startswith("per_image/"):
            for name in store.names(table):
                if cut := _SHARD.fullmatch(name):
                    found[cut[1], cut[2]] = int(cut[3])
    return found


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
    passes = _passes(units)
    workers = _workers(passes)
    return SweepStatus(
        sweep=sweep,
        running=store.running(sweep),
        points=len(planned),
        **counts,
        failures=tuple(failures),
        images_per_second=_rate(passes.values(), workers),
        seconds_left=_time_left(missing, passes, workers),
        nodes=_nodes(units),
    )


def _passes(units: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """What was computed together, by computation and measure."""
    passes = defaultdict[tuple[str, str], list[dict[str, Any]]](list)
    for unit in units:
        if not (unit["failed"] or unit["stopped"]) and unit["seconds"]:
            passes[unit["computed_by"], unit["measure_id"]].append(unit)
    return passes


def _workers(passes: dict[tuple[str, str], list[dict[str, Any]]]) -> int:
    return max(1, len({unit["worker"] for done in passes.values() for unit in done}))


def _nodes(units: list[dict[str, Any]]) -> tuple[NodeUse, ...]:
    by_node = defaultdict[str, list[dict[str, Any]]](list)
    for unit in units:
        if unit["node"] is not None:  # the driver writes rows of trials whose workers died, from no node
            by_node[unit["node"]].append(unit)
    found = [_use(node, own) for node, own in by_node.items()]
    return tuple(sorted(found, key=lambda use: (-use.done, use.node)))


def _use(node: str, units: list[dict[str, Any]]) -> NodeUse:
    passes = _passes(units)
    return NodeUse(
        node=node,
        done=sum(not (unit["failed"] or unit["stopped"]) for unit in units),
        failed=sum(unit["failed"] for unit in units),
        workers=len({unit["worker"] for unit in units}),
        images_per_second=_rate(passes.values(), _workers(passes)),
        last_row_at=max(filter(None, (unit["computed_at"] for unit in units)), default=None),
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
