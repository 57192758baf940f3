"""Rows of points that nobody computed, in the files that workers would leave; the numbers are made up."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa

from hushsweep.datasets.results import Store, arrow_schema
from hushsweep.workers.trial import MeasureConfig, PointConfig, Trial

STATISTICS = {"accuracy": 5, "bounds": 29}
"""Rows per point, as these measures leave them."""
NAMES = {"accuracy": ("top1", "clean_top1", "top5", "clean_top5", "undecodable")}


def write_rows(store: Store, trial: Trial, points: Sequence[PointConfig]) -> tuple[int, int]:
    """Write what a trial leaves of some of its points, a file per measure; return how many files and rows."""
    rows = 0
    for measure in points[0].measures:
        work_id = trial.work_id(measure, (point.point_id for point in points))
        table = _rows(points, measure, work_id)
        store.write("measurements", f"{work_id}.{measure.measure_id}", table)
        rows += len(table)
    return len(points[0].measures), rows


def _rows(points: Sequence[PointConfig], measure: MeasureConfig, work_id: str) -> pa.Table:
    count = STATISTICS[measure.name]
    names = NAMES.get(measure.name, tuple(f"statistic_{number:02d}" for number in range(count)))
    fields = pa.Table.from_pylist(
        [{**p.fields, "point_id": p.point_id, "curve_id": p.curve_id} for p in points],
        schema=pa.schema(
            [f for f in arrow_schema("measurements") if f.name in {*points[0].fields, "point_id", "curve_id"}]
        ),
    )
    total = count * len(points)
    values = [1 / (2 + (p.fields["level"] or 0) + number) for p in points for number in range(count)]
    columns = {
        "measure_id": measure.measure_id,
        "measure": measure.name,
        "options": json.dumps(measure.options, sort_keys=True),
        "computed_by": work_id,
        "status": "complete",
        "unit": "fraction",
        "n": 599,
        "computed_at": datetime(2026, 11, 1, tzinfo=UTC),
        "seconds": 1.0,
        "node": "node",
        "device": "cpu",
        "git_commit": "0" * 40,
        "torch_version": "2.14",
    }
    table = fields.take(pa.array([place for place in range(len(points)) for _ in range(count)]))
    for name, value in columns.items():
        table = table.append_column(name, pa.array([value] * total))
    table = table.append_column("statistic", pa.array(list(names) * len(points)))
    return table.append_column("value", pa.array(values)).append_column("stderr", pa.array([0.01] * total))
