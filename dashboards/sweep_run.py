"""A whole sweep as one MLflow run, above those of its curves: how far it is, its tables, its pictures."""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus, Metric, Run

from hushsweep.dashboards.curves import Curve
from hushsweep.dashboards.figures import draw_epsilons, draw_privacy, draw_tradeoff
from hushsweep.dashboards.queries import run_query
from hushsweep.dashboards.queries.output import escape_markdown, markdown_table, write_result
from hushsweep.dashboards.queries.ready_made import ready_made
from hushsweep.dashboards.reports import write_report
from hushsweep.dashboards.runs import DIGEST_TAG, NOTE_TAG, STORE_TAG, is_finished, milliseconds
from hushsweep.dashboards.server import artifacts_view, curves_view
from hushsweep.dashboards.status import SweepStatus, sweep_status
from hushsweep.datasets.results import Store, StoreError

SWEEP_TAG, MODEL_TAG = "hushsweep.sweep", "hushsweep.weights_digest"
REPORT = "report.html"
"""The artifact that ``hushsweep report SWEEP -o report.html`` writes as well."""
_SHOWN_AS = 3
"""Raise it when the same rows are to make another run."""
_TABLES = ("overview", "best")
"""Ready-made queries whose answers lie beside the run."""
_BEST = (
    "model",
    "method",
    "variant",
    "level_name",
    "level",
    "accuracy",
    "accuracy_loss",
    "hcr_std",
    "secondary",
    "epsilon",
)
_NOTE_LIMIT = 5000
_BEST_ROWS = 20


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """The run of a sweep in MLflow, and what it is to be made from."""

    client: MlflowClient
    store: Store
    sweep: str
    run: Run

    @property
    def run_id(self) -> str:
        """Id in MLflow."""
        return str(self.run.info.run_id)

    @classmethod
    def of(
        cls, client: MlflowClient, store: Store, sweep: str, experiment_id: str, existing: Sequence[Run]
    ) -> "SweepRun":
        """Find the run among `existing`, those of this results folder, or begin it."""
        mine = [run for run in existing if run.data.tags.get(SWEEP_TAG) == sweep]
        if mine:
            return cls(client=client, store=store, sweep=sweep, run=mine[0])
        created = (store.plan(sweep) or {}).get("created_at")
        run = client.create_run(
            experiment_id,
            start_time=milliseconds(datetime.fromisoformat(created)) if created else 0,
            run_name=sweep,
            tags={STORE_TAG: store.store_id, SWEEP_TAG: sweep},
        )
        return cls(client=client, store=store, sweep=sweep, run=run)

    def update(self, curves: Sequence[Curve], *, running: bool | None) -> None:
        """Bring metrics, tables, pictures and the descriptions up to date; do nothing where nothing changed.

        Args:
            curves: of the sweep.
            running: Whether more rows will come; None to look who holds the sweep.
        """
        (status,) = sweep_status(self.store.root, self.sweep)
        state = _state(status, bool(status.running) if running is None else running)
        told = [_SHOWN_AS, state, status.points, *((curve.name, curve.digest) for curve in curves)]
        digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        if self.run.data.tags.get(DIGEST_TAG) == digest:
            return
        times = [time for curve in curves for time in curve.rows.column("computed_at").to_pylist() if time]
        latest = milliseconds(max(times, default=None))
        counts = {name: getattr(status, name) for name in ("points", "done", "failed", "missing")}
        self.client.log_batch(
            self.run_id, metrics=[Metric(name, float(value), latest, 0) for name, value in counts.items()]
        )
        with tempfile.TemporaryDirectory(prefix="hushsweep-mirror-") as folder:
            self._write_tables(Path(folder))
            if state != "RUNNING":  # these take seconds, and while it runs there is the dashboard
                self._draw(Path(folder))
            reported = state != "RUNNING" and self._report(Path(folder))
            self.client.log_artifacts(self.run_id, folder)
        experiment_id = self.run.info.experiment_id
        note = self._note(status, reported=reported)
        self.client.set_tag(self.run_id, NOTE_TAG, note)
        self.client.set_experiment_tag(experiment_id, NOTE_TAG, note)
        if state == "RUNNING":
            if is_finished(self.run):
                self.client.update_run(self.run_id, status=state)
        else:
            self.client.set_terminated(self.run_id, status=state, end_time=latest or None)
        self.client.set_tag(self.run_id, DIGEST_TAG, digest)  # last: without it everything is done again

    def _write_tables(self, folder: Path) -> None:
        for name in _TABLES:
            table = run_query(self.store.root, ready_made()[name], sweep=self.sweep)
            if len(table):
                write_result(table, "csv", folder / f"{name}.csv")
        (folder / "sweep.yaml").write_text(self.store.spec_text(self.sweep) or "")

    def _draw(self, folder: Path) -> None:
        for draw in (_draw_tradeoff, draw_privacy, draw_epsilons):
            with contextlib.suppress(ValueError):  # nothing that this picture could show
                draw(self.store.root, self.sweep, folder)

    def _report(self, folder: Path) -> bool:
        """Lay the report of the sweep beside its pictures; say whether there is one."""
        with contextlib.suppress(StoreError):  # nothing was computed and nothing failed yet
            write_report(self.store.root, self.sweep, folder / REPORT)
            return True
        return False

    def _note(self, status: SweepStatus, *, reported: bool) -> str:
        """What the sweep is and how far, with what a reader looks for first, in Markdown."""
        experiment_id = self.run.info.experiment_id
        rest = {"failed": status.failed, "missing": status.missing}
        open_points = "".join(f", {count} {name}" for name, count in rest.items() if count)
        # links in the first line: MLflow folds up what comes after three
        words = [
            f"**{escape_markdown(self.sweep)}**: {status.done} of {status.points} points complete{open_points} · "
            f"[Curves]({curves_view(experiment_id)}), a run each, whose steps are the levels · "
            f"[Pictures and tables]({artifacts_view(experiment_id, self.run_id)})"
        ]
        if reported:
            words[0] += f" · [Report]({artifacts_view(experiment_id, self.run_id, REPORT)}), a page to mail"
        if told := ((self.store.plan(self.sweep) or {}).get("spec") or {}).get("description"):
            words.append(escape_markdown(str(told)))
        words += [
            f"Failed: {escape_markdown(reason)}" for reason in sorted({f.reason for f in status.failures})[:5]
        ]
        best = run_query(self.store.root, ready_made()["best"], sweep=self.sweep)
        shown = [
            name for name in _BEST if name in best.column_names and best.column(name).null_count < len(best)
        ]
        if len(best):
            words.append("Of each network and mechanism the level that hides most at 1 % of accuracy lost:")
            words.append(markdown_table(best.select(shown).slice(0, _BEST_ROWS)))
        return "\n\n".join(words)[:_NOTE_LIMIT]


def _draw_tradeoff(results: Path, sweep: str, folder: Path) -> None:
    draw_tradeoff(results, sweep, folder / "tradeoff.png")


def _state(status: SweepStatus, running: bool) -> str:
    """MLflow's word for how a sweep stands."""
    if status.missing:
        return "RUNNING" if running else "KILLED"
    return "FAILED" if status.failed == status.points else "FINISHED"


def find_run_id(client: MlflowClient, store: Store, sweep: str) -> str | None:
    """Id of the run of a sweep, if it is there."""
    experiment = client.get_experiment_by_name(sweep)
    if experiment is None:
        return None
    mine = f"tags.`{STORE_TAG}` = '{store.store_id}' AND tags.`{SWEEP_TAG}` = '{sweep}'"
    found = client.search_runs([experiment.experiment_id], filter_string=mine, max_results=1)
    return str(found[0].info.run_id) if found else None


def link_models(
    client: MlflowClient, experiment_id: str, store: Store, parent: str, curves: Sequence[Curve]
) -> dict[str, str]:
    """Name to MLflow the weights that were trained for a sweep; the files stay where they are.

    Returns:
        Id in MLflow by digest of the weights.
    """
    trained = {
        row["weights_digest"]: row
        for curve in curves
        for row in curve.rows.select(["weights_digest", "model", "mechanism", "dataset"]).to_pylist()
        if row["weights_digest"] and (store.models_dir / f"{row['weights_digest']}.safetensors").is_file()
    }
    there = _known_models(client, experiment_id)
    for digest in sorted(trained.keys() - there.keys()):
        row = trained[digest]
        model = client.create_logged_model(
            experiment_id,
            name=f"{_plain(row['model'])}-{_plain(row['mechanism'])}-{digest[:8]}",
            source_run_id=parent,
            tags={"mlflow.model.isExternal": "true", MODEL_TAG: digest},
            params={"file": f"models/{digest}.safetensors", "model": row["model"], "dataset": row["dataset"]},
            model_type="classifier",
        )
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        there[digest] = model.model_id
    return there


def _known_models(client: MlflowClient, experiment_id: str) -> dict[str, str]:
    found, token = dict[str, str](), None
    while True:
        page: Any = client.search_logged_models([experiment_id], page_token=token)
        found |= {model.tags[MODEL_TAG]: model.model_id for model in page if MODEL_TAG in model.tags}
        token = page.token
        if not token:
            return found


def _plain(name: str) -> str:
    """A name of letters, digits, - and _, which is what MLflow takes."""
    own = name.rpartition("/")[2]
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in own)
