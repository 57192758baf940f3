"""One curve as one MLflow run: parameters, metrics with the level's index as the step, artifacts."""

import math
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, ViewType

from hushsweep.dashboards.curves import NAME_FIELDS, Curve
from hushsweep.dashboards.figures import save_figure, tradeoff_figure

CURVE_TAG, DIGEST_TAG, STORE_TAG = "hushsweep.curve_id", "hushsweep.rows_digest", "hushsweep.store_id"
_PARAMS = (*NAME_FIELDS, "mechanism_json", "data_fingerprint", "weights_digest")
_TAGS = ("caveat", "device", "git_commit", "hushsweep_version", "node", "torch_version")
_TRADEOFF = {
    "primary": "primary_top1",
    "primary_stderr": "primary_stderr",
    "secondary_single": "secondary_single",
    "secondary_mask": "secondary_mask",
    "secondary_average": "secondary_average",
    "secondary_strongest": "secondary_strongest",
    "secondary_strongest_stderr": "secondary_stderr",
    "floor": "floor",
    "mi_upper": "mi_upper",
    "mi_lower": "mi_lower",
    "penalty": "penalty",
    "client_share": "client_share",
}
"""Metric to column of the view privacy."""
_OVERVIEW = ("accuracy", "accuracy_loss", "hcr_std", "secondary", "epsilon")
"""Columns of the view overview."""
_BATCH = 1000
_TEXT_LIMIT = 5000


def find_runs(client: MlflowClient, experiment_id: str, store_id: str) -> list[Run]:
    """All runs of the experiment that mirror the results folder `store_id`, oldest first."""
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string=f"tags.`{STORE_TAG}` = '{store_id}'",
            run_view_type=ViewType.ACTIVE_ONLY,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        runs += page
        token = page.token
        if not token:
            return runs


def by_rows(runs: Iterable[Run]) -> dict[tuple[str | None, str | None], Run]:
    """The runs by the curve id and the digest of the rows that they were begun for; of several a finished one."""
    found: dict[tuple[str | None, str | None], Run] = {}
    for run in sorted(runs, key=is_finished, reverse=True):
        found.setdefault((run.data.tags.get(CURVE_TAG), run.data.tags.get(DIGEST_TAG)), run)
    return found


def is_finished(run: Run) -> bool:
    """Whether everything of the run was written: its end is set last."""
    return bool(run.info.status != "RUNNING")


def write_run(
    client: MlflowClient,
    experiment_id: str,
    curve: Curve,
    figure_rows: list[dict[str, Any]],
    privacy_rows: list[dict[str, Any]],
    overview_rows: list[dict[str, Any]],
    *,
    store_id: str,
    unfinished: Run | None,
) -> None:
    """Write `curve` as a new run, or finish the one that an interrupted mirror left behind.

    `figure_rows`, `privacy_rows` and `overview_rows` are the curve's rows of the views tradeoff, privacy and overview.
    Every step may be repeated without changing the result: times come from the rows, a metric is stored once
    per (run, key, step, time, value), parameters and data set inputs once, artifacts are replaced. The run's
    end is written last, so that an unfinished run is known by its status.
    """
    times = [_milliseconds(time) for time in curve.rows.column("computed_at").to_pylist() if time is not None]
    if unfinished is None:
        run = client.create_run(
            experiment_id,
            start_time=min(times, default=0),
            run_name=curve.name,
            tags={STORE_TAG: store_id, CURVE_TAG: curve.curve_id, DIGEST_TAG: curve.digest, **_tags(curve)},
        )
    else:
        run = unfinished
    run_id = run.info.run_id
    params = [Param(name, str(curve.fields[name])[:_TEXT_LIMIT]) for name in _PARAMS if name in curve.fields]
    client.log_batch(run_id, params=params)
    metrics = list(curve_metrics(curve, privacy_rows, overview_rows))
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
    client.log_inputs(run_id, datasets=[_dataset(curve)])
    with tempfile.TemporaryDirectory(prefix="hushsweep-mirror-") as folder:
        rows = Path(folder) / "rows.parquet"
        pq.write_table(curve.rows, rows, compression="zstd")
        client.log_artifact(run_id, str(rows))
        figure = tradeoff_figure(figure_rows, [curve], title=curve.name)
        if figure is not None:
            save_figure(figure, Path(folder) / "curve.png")
            client.log_artifact(run_id, str(Path(folder) / "curve.png"))
    status = "FINISHED" if pc.any(pc.not_equal(curve.rows.column("status"), "failed")).as_py() else "FAILED"
    client.set_terminated(run_id, status=status, end_time=max(times, default=0))


def curve_metrics(
    curve: Curve,
    privacy_rows: Iterable[dict[str, Any]] = (),
    overview_rows: Iterable[dict[str, Any]] = (),
) -> Iterator[Metric]:
    """The metrics of `curve`: level, log10_level, then each statistic and its standard error as <name>_stderr.

    A statistic that several measures of the curve have, as accuracy with 5 and with 25 draws, gets the
    beginning of the measure's id behind its name; those of an attacker are called secondary_<name>. A point that is
    complete in the view privacy, of which `privacy_rows` are rows, also gets the numbers of its trade-off, and
    every point those of the view overview, of which `overview_rows` are rows, under names that all sweeps share.
    Numbers that are missing or not finite are left out.
    """
    rows = curve.rows.to_pylist()
    for row in rows:
        if row["measure"] == "secondary" and row["statistic"] is not None:
            row["statistic"] = f"secondary_{row['statistic']}"
    trade = {row["point_id"]: row for row in privacy_rows if row["status"] == "complete"}
    lines = {row["point_id"]: row for row in overview_rows}
    measures = {(row["statistic"], row["measure_id"]) for row in rows}
    shared = {name for name, count in Counter(name for name, _ in measures).items() if count > 1}
    points = list(dict.fromkeys((row["level"], row["point_id"]) for row in rows))
    for step, (level, point_id) in enumerate(points):
        own = [row for row in rows if row["point_id"] == point_id]
        log10_level = math.log10(level) if level is not None and level > 0 else None
        fixed = {"level": level, "log10_level": log10_level, "applied_noise_std": own[0]["applied_noise_std"]}
        numbers = [(name, value, own[0]) for name, value in fixed.items()]
        for row in own:
            name = row["statistic"]
            name = f"{name}.{row['measure_id'][:8]}" if name in shared else name
            numbers += [(name, row["value"], row), (f"{name}_stderr", row["stderr"], row)]
        for name, column in _TRADEOFF.items() if point_id in trade else ():
            numbers.append((name, trade[point_id][column], own[0]))
        for name in _OVERVIEW if point_id in lines else ():
            numbers.append((name, lines[point_id][name], own[0]))
        for name, value, row in numbers:
            if value is not None and math.isfinite(value):
                yield Metric(name, value, _milliseconds(row["computed_at"]), step)


def _tags(curve: Curve) -> dict[str, str]:
    """What is worth filtering by; where rows differ, all values."""
    tags = {f"hushsweep.{name}": _values(curve.rows.column(name).to_pylist()) for name in _TAGS}
    failed = curve.rows.filter(pc.equal(curve.rows.column("status"), "failed"))
    if len(failed):
        tags["hushsweep.failed_points"] = str(len(pc.unique(failed.column("point_id"))))
        tags["hushsweep.failures"] = _values(failed.column("reason").to_pylist())
    if tags["hushsweep.caveat"]:
        tags["mlflow.note.content"] = tags["hushsweep.caveat"]
    return {name: value for name, value in tags.items() if value}


def _values(values: Iterable[str | None]) -> str:
    return ", ".join(sorted({value for value in values if value}))[:_TEXT_LIMIT]


def _dataset(curve: Curve) -> DatasetInput:
    """The data set as MLflow's input, known by our digest (which MLflow cuts to 36 characters)."""
    names = ("dataset", "split", "data_fingerprint")
    described = {name: str(curve.fields[name]) for name in names if name in curve.fields}
    digest = described.get("data_fingerprint", "unknown")[:36]
    name = "/".join(described[key] for key in ("dataset", "split") if key in described) or "unknown"
    data = MetaDataset(CodeDatasetSource(tags=described), name=name, digest=digest).to_dict()
    entity = Dataset(name=name, digest=digest, source_type=data["source_type"], source=data["source"])
    return DatasetInput(entity, [InputTag("mlflow.data.context", "evaluation")])


def _milliseconds(time: datetime | None) -> int:
    return 0 if time is None else int(time.timestamp() * 1000)
