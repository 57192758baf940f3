"""One curve as one MLflow run: parameters, metrics with the level's index as the step, artifacts."""

import hashlib
import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    ViewType,
)

from hushsweep.dashboards.curves import NAME_FIELDS, Curve
from hushsweep.dashboards.figures import save_figure, tradeoff_figure
from hushsweep.dashboards.queries.output import escape_markdown, write_result

CURVE_TAG, DIGEST_TAG, STORE_TAG = "hushsweep.curve_id", "hushsweep.rows_digest", "hushsweep.store_id"
PARENT_TAG, NOTE_TAG = "mlflow.parentRunId", "mlflow.note.content"
_ALWAYS = ("dataset", "model", "mechanism")
"""Parameters of every run, so that runs of several sweeps can be compared; of the others those that differ."""
_TAGS = ("caveat", "device", "git_commit", "hushsweep_version", "node", "torch_version")
_IDENTITY = (
    "curve_id",
    *NAME_FIELDS,
    "task",
    "train_limit",
    "class_counts",
    "data_fingerprint",
    "weights_digest",
)
_FILTERS = ("dataset", "split", "model", "cut", "mechanism", "weights")
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
_BUDGETS = {0.01: "1pct", 0.05: "5pct"}
"""Accuracy that may be lost, as a fraction, and what the metrics of the best level within it are called."""
_BATCH = 1000
_TEXT_LIMIT = 5000


@dataclass(frozen=True, kw_only=True)
class Views:
    """A curve's rows of the views tradeoff, privacy and overview, and what attacks are called, by measure id."""

    tradeoff: list[dict[str, Any]] = field(default_factory=list)
    privacy: list[dict[str, Any]] = field(default_factory=list)
    overview: list[dict[str, Any]] = field(default_factory=list)
    attacks: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in MLflow a curve's run belongs.

    Attributes:
        experiment_id: of the sweep's experiment.
        store_id: of the results folder.
        parent: id of the sweep's own run.
        telling: fields in which curves of the sweep differ, see :func:`telling_fields`.
        models: id in MLflow of the weights that were trained here, by digest.
    """

    experiment_id: str
    store_id: str
    parent: str
    telling: frozenset[str] = frozenset()
    models: dict[str, str] = field(default_factory=dict)

    def digest(self, curve: Curve) -> str:
        """SHA-256 of all that a curve's run is made from."""
        made_from = [curve.digest, curve.name, sorted(self.telling), self.parent]
        return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()


def telling_fields(curves: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Of the fields of all curves, planned and there, those that differ, beyond those that every run has."""
    known = list(curves)
    names = [name for name in NAME_FIELDS if name not in _ALWAYS]
    return frozenset(name for name in names if len({str(fields.get(name)) for fields in known}) > 1)


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
    client: MlflowClient, place: Place, curve: Curve, views: Views, *, unfinished: Run | None
) -> None:
    """Write `curve` as a new run, or finish the one that an interrupted mirror left behind.

    Every step may be repeated without changing the result: times come from the rows, a metric is stored once
    per (run, key, step, time, value), parameters and data set inputs once, artifacts are replaced. The run's
    end is written last, so that an unfinished run is known by its status.
    """
    times = [milliseconds(time) for time in curve.rows.column("computed_at").to_pylist() if time is not None]
    if unfinished is None:
        tags = {STORE_TAG: place.store_id, CURVE_TAG: curve.curve_id, DIGEST_TAG: place.digest(curve)}
        run = client.create_run(
            place.experiment_id,
            start_time=min(times, default=0),
            run_name=curve.name,
            tags={**tags, PARENT_TAG: place.parent, **_tags(curve, place)},
        )
    else:
        run = unfinished
    run_id = run.info.run_id
    named = [name for name in NAME_FIELDS if name in _ALWAYS or name in place.telling]
    params = [Param(name, str(curve.fields[name])[:_TEXT_LIMIT]) for name in named if name in curve.fields]
    client.log_batch(run_id, params=params)
    metrics = list(curve_metrics(curve, views))
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
    client.log_inputs(run_id, datasets=[_dataset(curve)])
    _link_models(client, run, curve, place.models)
    with tempfile.TemporaryDirectory(prefix="hushsweep-mirror-") as folder:
        rows = Path(folder) / "rows.parquet"
        pq.write_table(curve.rows, rows, compression="zstd")
        if views.overview:
            write_result(pa.Table.from_pylist(views.overview), "csv", Path(folder) / "points.csv")
        (Path(folder) / "curve.json").write_text(json.dumps(_described(curve), indent=2, default=str))
        figure = tradeoff_figure(views.tradeoff, [curve], title=curve.name)
        if figure is not None:
            save_figure(figure, Path(folder) / "curve.png")
        client.log_artifacts(run_id, folder)
    status = "FINISHED" if pc.any(pc.not_equal(curve.rows.column("status"), "failed")).as_py() else "FAILED"
    client.set_terminated(run_id, status=status, end_time=max(times, default=0))


def _described(curve: Curve) -> dict[str, Any]:
    """Everything that is the same on the whole curve, and its measures with their options."""
    fields = {name: curve.fields[name] for name in _IDENTITY if name in curve.fields}
    rows = curve.rows.select(["measure", "options", "mechanism_json"]).to_pylist()
    measures = dict.fromkeys((row["measure"], row["options"]) for row in rows)
    mechanisms = dict.fromkeys(row["mechanism_json"] for row in rows)
    return {
        **fields,
        "levels": [json.loads(text) for text in mechanisms if text],
        "measures": [{"name": name, **json.loads(options or "{}")} for name, options in measures],
    }


def _link_models(client: MlflowClient, run: Run, curve: Curve, models: dict[str, str]) -> None:
    """Say which weights the run used, except where that is said already; MLflow takes one step of each, the first."""
    steps = dict.fromkeys(curve.rows.column("point_id").to_pylist())
    places = {point_id: step for step, point_id in enumerate(steps)}
    used = dict[str, int]()
    for row in curve.rows.select(["point_id", "weights_digest"]).to_pylist():
        if row["weights_digest"] in models:
            used.setdefault(models[row["weights_digest"]], places[row["point_id"]])
    for output in run.outputs.model_outputs if run.outputs else ():
        used.pop(output.model_id, None)
    if used:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(*one) for one in used.items()])


def curve_metrics(curve: Curve, views: Views) -> Iterator[Metric]:
    """The metrics of `curve`: level, log10_level, then each statistic and its standard error as <name>_stderr.

    A statistic that several measures of the curve have, as accuracy with 5 and with 25 draws, gets the
    beginning of the measure's id behind its name; those of an attacker are called secondary_<name>, those of a
    reconstruction by their attack, as reconstruction_decoder_mse and sandwich_ridge_two_point_gap. A point that is
    complete in the view privacy also gets the numbers of its trade-off, and every point those of the view overview,
    under names that all sweeps share. At the last step stand those of the level that hides most at no more than 1 %
    and 5 % of accuracy lost. Numbers that are missing or not finite are left out.
    """
    rows = curve.rows.to_pylist()
    for row in rows:
        if row["measure"] == "secondary" and row["statistic"] is not None:
            row["statistic"] = f"secondary_{row['statistic']}"
        if row["measure_id"] in views.attacks and row["statistic"] is not None:
            attack = re.sub(r"[^A-Za-z0-9.]+", "_", views.attacks[row["measure_id"]]).strip("_")
            row["statistic"] = f"{row['measure']}_{attack}_{row['statistic']}"
    trade = {row["point_id"]: row for row in views.privacy if row["status"] == "complete"}
    lines = {row["point_id"]: row for row in views.overview}
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
        if step == len(points) - 1:
            numbers += [(name, value, own[0]) for name, value in _best_levels(views.overview)]
        for name, value, row in numbers:
            if value is not None and math.isfinite(value):
                yield Metric(name, value, milliseconds(row["computed_at"]), step)


def _best_levels(lines: Iterable[dict[str, Any]]) -> Iterator[tuple[str, float | None]]:
    """Of the level that hides most within each budget its numbers, chosen as the query best does."""
    for budget, called in _BUDGETS.items():
        within = [
            line for line in lines if (line["accuracy_loss"] or 0.0) <= budget and line["method"] != "none"
        ]
        if within and (best := min(within, key=_reads)):
            for name in ("level", *_OVERVIEW):
                yield f"best_{called}_{name}", best[name]


def _reads(line: dict[str, Any]) -> tuple[float, float, float]:
    """How much is read at a point: what an attacker gets before what a bound forbids, and that before accuracy."""
    secondary, bound = line["secondary"], line["hcr_std"]
    return (
        math.inf if secondary is None else secondary,
        math.inf if bound is None else -bound,
        -(line["accuracy"] or 0.0),
    )


def model_family(model: str) -> str:
    """The letters that a model's own name begins with: resnet of torchvision/resnet18, swin of timm/swin_tiny_..."""
    own = model.rpartition("/")[2].rpartition(":")[2]
    found = re.match(r"[A-Za-z]+", own)
    return found[0].lower() if found else own


def _tags(curve: Curve, place: Place) -> dict[str, str]:
    """What is worth filtering by; where rows differ, all values."""
    tags = {f"hushsweep.{name}": _values(curve.rows.column(name).to_pylist()) for name in _TAGS}
    tags |= {f"hushsweep.{name}": str(curve.fields[name]) for name in _FILTERS if name in curve.fields}
    if "model" in curve.fields:
        tags["hushsweep.model_family"] = model_family(curve.fields["model"])
    failed = curve.rows.filter(pc.equal(curve.rows.column("status"), "failed"))
    if len(failed):
        tags["hushsweep.failed_points"] = str(len(pc.unique(failed.column("point_id"))))
        tags["hushsweep.failures"] = _values(failed.column("reason").to_pylist())
    tags[NOTE_TAG] = _note(curve, place, failed)
    return {name: value[:_TEXT_LIMIT] for name, value in tags.items() if value}


def _note(curve: Curve, place: Place, failed: pa.Table) -> str:
    levels = pc.count_distinct(curve.rows.column("point_id")).as_py()
    words = [
        f"**{escape_markdown(curve.name)}**, a step per noise level ({levels}); set the x-axis to `level`."
    ]
    words += [
        f"Caveat: {escape_markdown(text)}." for text in _distinct(curve.rows.column("caveat").to_pylist())
    ]
    words += [f"Failed: {escape_markdown(text)}" for text in _distinct(failed.column("reason").to_pylist())]
    whole = f"#/experiments/{place.experiment_id}/runs/{place.parent}"
    words.append(f"[The whole sweep]({whole}) · numbers of every level: `points.csv` · rows: `rows.parquet`")
    return "\n\n".join(words)


def _distinct(values: Iterable[str | None]) -> list[str]:
    return sorted({value for value in values if value})


def _values(values: Iterable[str | None]) -> str:
    return ", ".join(_distinct(values))[:_TEXT_LIMIT]


def _dataset(curve: Curve) -> DatasetInput:
    """The data set as MLflow's input, known by our digest (which MLflow cuts to 36 characters)."""
    names = ("dataset", "split", "data_fingerprint")
    described = {name: str(curve.fields[name]) for name in names if name in curve.fields}
    digest = described.get("data_fingerprint", "unknown")[:36]
    name = "/".join(described[key] for key in ("dataset", "split") if key in described) or "unknown"
    data = MetaDataset(CodeDatasetSource(tags=described), name=name, digest=digest).to_dict()
    entity = Dataset(name=name, digest=digest, source_type=data["source_type"], source=data["source"])
    return DatasetInput(entity, [InputTag("mlflow.data.context", "evaluation")])


def milliseconds(time: datetime | None) -> int:
    """MLflow's time, milliseconds since 1970 in UTC."""
    return 0 if time is None else int(time.timestamp() * 1000)
