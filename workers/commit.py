"""From what a measure found to durable rows, in the order that makes a kill at any moment harmless.

A shard writes modes and shifts, then its rows per image: a shard whose rows per image exist is done. The worker that
finds all shards done summarises them into ``measurements``, which is what makes everything count. Two workers that
find so at once write the same file twice.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from hushsweep.datasets.images import ImageSet
from hushsweep.datasets.results import Store
from hushsweep.workers.measures.base import FittedPoint, Measure, MeasureRows
from hushsweep.workers.trial import MeasureConfig, PointConfig, Trial, content_id


@dataclass(frozen=True)
class Outcome:
    """What is known of a measure's points beside the rows per image."""

    points: Sequence[PointConfig]
    inapplicable: dict[str, str]
    levels: dict[str, float]
    """Levels that were searched for, by point."""
    noise_std: dict[str, float | None]
    validation: Callable[[], dict[str, float]]
    """Gives the primary accuracy on the validation part, by point; asked only when rows are written."""
    columns: dict[str, Any]


class Committed(NamedTuple):
    """What came of a measure's points; all zero and empty while shards are missing."""

    complete: int
    rows: int
    failures: dict[str, str]
    """Why points failed, by their ids."""


def write_shard(
    store: Store,
    trial: Trial,
    measure: MeasureConfig,
    work_id: str,
    points: Sequence[FittedPoint],
    images: ImageSet,
    compute: Callable[[], MeasureRows],
) -> bool:
    """Compute and write one shard's rows, unless an earlier attempt has; tell whether anything was computed."""
    name = _shard_name(work_id, measure, trial.shard, trial.shards)
    table = f"per_image/{measure.name}"
    if not points or name in store.names(table):
        return False
    rows = compute()
    ids = {"measure_id": measure.measure_id, "computed_by": work_id}
    if rows.modes is not None:
        store.write("modes", name, _with(rows.modes, ids))
    if rows.shifts is not None:
        store.write("shifts", name, _with(rows.shifts, ids))
    if rows.pictures is not None:
        store.write("pictures", name, _with(rows.pictures, ids))
    undecodable = (_undecodable(point, images) for point in points if trial.shard == 0)
    store.write_parts(table, name, (_with(part, ids) for part in chain(rows.per_image, undecodable)))
    return True


def commit(
    store: Store, trial: Trial, config: MeasureConfig, work_id: str, measure: Measure, outcome: Outcome
) -> Committed:
    """Summarise all shards if they are there; return how many points became complete, and why others failed."""
    table = f"per_image/{config.name}"
    shards = [_shard_name(work_id, config, shard, trial.shards) for shard in range(trial.shards)]
    measured = [point for point in outcome.points if point.point_id not in outcome.inapplicable]
    if measured and not set(shards) <= store.names(table):
        return Committed(0, 0, {})
    rows, failures, reason = [], dict[str, str](), ""
    validation = outcome.validation()
    per_image = store.read_by_point(table, shards, [point.point_id for point in measured])
    for point in outcome.points:
        base = _row(point, config, work_id, outcome)
        base["validation_top1"] = validation.get(point.point_id)
        if point.point_id in outcome.inapplicable:
            rows.append({**base, "status": "not_applicable", "reason": outcome.inapplicable[point.point_id]})
            continue
        try:
            _, own = next(per_image)
            statistics = measure.summarise(own)
        except StopIteration:  # a damaged file ended the reading, for the points that are left, too
            failures[point.point_id] = reason
            continue
        except ValueError as error:
            failures[point.point_id] = reason = str(error)
            continue
        rows += [
            {
                **base,
                "status": "not_applicable" if found.value is None else "complete",
                "statistic": found.name,
                "value": found.value,
                "unit": found.unit,
                "n": found.n,
                "stderr": found.stderr,
                "reason": found.reason,
                "holds_for": found.holds_for,
            }
            for found in statistics
        ]
    if rows:
        store.write("measurements", f"{work_id}.{config.measure_id}", rows)
    return Committed(len(outcome.points) - len(failures), len(rows), failures)


def _shard_name(work_id: str, measure: MeasureConfig, shard: int, shards: int) -> str:
    return f"{work_id}.{measure.measure_id}.{shard}of{shards}"


def commit_failures(
    store: Store,
    trial: Trial,
    failures: dict[tuple[str, str], str],
    columns: dict[str, Any],
    *,
    status: str = "failed",
) -> None:
    """Write a row with a reason and no number for every (point_id, measure_id) in ``failures``.

    The file is named after the points in it, so that what fails at another step has a file of its own.
    """
    outcome = Outcome(points=(), inapplicable={}, levels={}, noise_std={}, validation=dict, columns=columns)
    by_measure = dict[str, list[dict[str, Any]]]()
    for point in trial.points:
        for config in point.measures:
            reason = failures.get((point.point_id, config.measure_id))
            if reason is not None:
                row = _row(point, config, trial.trial_id, outcome)
                by_measure.setdefault(config.measure_id, []).append(
                    {**row, "status": status, "reason": reason}
                )
    for measure_id, rows in by_measure.items():
        points = content_id([row["point_id"] for row in rows])
        shard = f"{trial.shard}of{trial.shards}"
        store.write("measurements", f"{trial.trial_id}.{measure_id}.{points}.{shard}.{status}", rows)


def _row(point: PointConfig, config: MeasureConfig, computed_by: str, outcome: Outcome) -> dict[str, Any]:
    row = {
        **point.fields,
        **outcome.columns,
        "point_id": point.point_id,
        "curve_id": point.curve_id,
        "computed_by": computed_by,
        "measure_id": config.measure_id,
        "measure": config.name,
        "options": json.dumps(config.options, sort_keys=True),
        "applied_noise_std": outcome.noise_std.get(point.point_id),
        "torch_version": version("torch"),
    }
    if point.point_id in outcome.levels:
        level = outcome.levels[point.point_id]
        row["level"] = level
        if row["level_name"] in row:  # noise_scale and noise_std have columns of their own
            row[row["level_name"]] = level
    return row


def _undecodable(point: FittedPoint, images: ImageSet) -> pa.Table:
    """Rows that name the images that no number of this point rests on."""
    return pa.table(
        {
            "point_id": pa.repeat(point.point_id, len(images.undecodable)),
            "image_index": np.array([image.index for image in images.undecodable], dtype=np.int64),
            "image": pa.array([image.image for image in images.undecodable], pa.string()),
            "status": pa.repeat("failed", len(images.undecodable)),
            "reason": pa.array([image.reason for image in images.undecodable], pa.string()),
        }
    )


def _with(table: pa.Table, columns: dict[str, str]) -> pa.Table:
    for name, value in columns.items():
        table = table.append_column(name, pa.repeat(value, len(table)))
    return table
