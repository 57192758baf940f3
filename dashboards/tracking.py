"""MLflow mirror: an experiment per sweep and a run per curve, derived from the rows and rebuilt at any time.

``python -m hushsweep.dashboards.tracking --results DIR --sweep NAME --follow`` is the process beside a driver: it
goes on until its standard input is closed, which the driver's death does too.
"""

import argparse
import contextlib
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hushsweep.dashboards.curves import read_curves
from hushsweep.dashboards.queries import one_moment, overview, privacy, tradeoff
from hushsweep.dashboards.queries.connection import ask
from hushsweep.dashboards.queries.run import require_sweep
from hushsweep.dashboards.server import (
    ensure_local_database,
    local_tracking_uri,
    quiet_mlflow,
    reach_database,
    ui_address,
    ui_command,
    without_password,
)
from hushsweep.datasets.results import Store, StoreError
from hushsweep.datasets.results.files import exclusive, times

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from hushsweep.dashboards.system_metrics import SystemMetrics

__all__ = ["MirrorReport", "follow", "main", "mirror", "ui_address", "ui_command"]

_POLL_S, _LONGEST_PAUSE_S = 2.0, 30.0
_SHARE = 20
"""After a pass the mirror rests that many times as long, so that it takes at most a twentieth of one core."""


@dataclass(frozen=True, kw_only=True)
class MirrorReport:
    """What one pass of the mirror did.

    Attributes:
        tracking_uri: The MLflow it wrote to.
        written: Runs created or completed.
        unchanged: Runs that already equalled their rows.
        deleted: Runs of curves that changed or that no plan names any more.
        error: Why the pass could not be finished, or None. Running it again goes on where it stopped.
    """

    tracking_uri: str
    written: int = 0
    unchanged: int = 0
    deleted: int = 0
    error: str | None = None

    def __str__(self) -> str:
        done = f"{self.written} runs written, {self.unchanged} unchanged, {self.deleted} outdated deleted"
        where = without_password(self.tracking_uri)
        if self.error is None:
            return f"MLflow {where}: {done}"
        return f"MLflow {where}: {done}, then {self.error}; the rows are safe, mirror again later"


def mirror(
    results: Path | str,
    sweep: str | None = None,
    *,
    tracking_uri: str | None = None,
    rebuild: bool = False,
    running: bool | None = None,
) -> MirrorReport:
    """Make MLflow show the rows of `sweep`, or of every sweep, and nothing else.

    Curves whose rows are mirrored already are left alone; one that gained a level is written anew as a whole
    and its old run deleted. It may be killed at any moment and run again.

    Args:
        results: The results folder.
        sweep: One sweep, or None for all.
        tracking_uri: Where MLflow is; by default ``mlflow.db`` and ``mlartifacts`` in the results folder.
        rebuild: Delete this folder's runs and write all of them again.
        running: Whether more rows of `sweep` will come; None to look whether anybody runs it.

    Returns:
        What was done; a server that is down or refuses is reported in ``error``, not raised.

    Raises:
        StoreError: no results or no such sweep; another mirror of this folder is at work; or the database at
            `tracking_uri` needs a driver that is not installed.
    """
    store = Store(results, create=False)
    if sweep is not None:
        require_sweep(store, sweep)
    report = MirrorReport(tracking_uri=tracking_uri or local_tracking_uri(store.root))
    with exclusive(store.root / ".mirror.lock", f"MLflow mirror of {store.name}", wait_s=5):
        quiet_mlflow()
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if tracking_uri is None:
                ensure_local_database(store.root)
            reach_database(report.tracking_uri)
            client = MlflowClient(report.tracking_uri)
            for name in store.sweeps() if sweep is None else [sweep]:
                experiment_id = _experiment(client, store, name, is_local=tracking_uri is None)
                with one_moment(store.root):
                    for change in _mirror_sweep(
                        client, store, name, experiment_id, rebuild=rebuild, running=running
                    ):
                        report = replace(report, **{change: getattr(report, change) + 1})
        except (MlflowException, SQLAlchemyError, OSError) as error:
            return replace(report, error=" ".join(str(error).split())[:500])
    return report


def _mirror_sweep(
    client: "MlflowClient",
    store: Store,
    sweep: str,
    experiment_id: str,
    *,
    rebuild: bool,
    running: bool | None,
) -> Iterator[str]:
    """Mirror one sweep and yield, for every run of a curve, the field of MirrorReport that counts it."""
    from hushsweep.dashboards import runs as mlflow_runs
    from hushsweep.dashboards.sweep_run import SWEEP_TAG, SweepRun, link_models

    curves = read_curves(store.root, sweep)
    existing = mlflow_runs.find_runs(client, experiment_id, store.store_id)
    planned = [point["fields"] for point in (store.plan(sweep) or {}).get("points", ())]
    whole = SweepRun.of(client, store, sweep, experiment_id, [] if rebuild else existing)
    place = mlflow_runs.Place(
        experiment_id=experiment_id,
        store_id=store.store_id,
        parent=whole.run_id,
        telling=mlflow_runs.telling_fields([*planned, *(curve.fields for curve in curves)]),
        models=link_models(client, experiment_id, store, whole.run_id, curves),
    )
    mirrors = {} if rebuild else mlflow_runs.by_rows(existing)
    mine = {curve.curve_id: mirrors.get((curve.curve_id, place.digest(curve))) for curve in curves}
    kept = {whole.run_id, *(run.info.run_id for run in mine.values() if run is not None)}
    shown, attacks = None, dict[str, str]()
    for curve in curves:
        run = mine[curve.curve_id]
        if run is not None and mlflow_runs.is_finished(run):
            yield "unchanged"
            continue
        if shown is None:
            shown = [_by_curve(view(store.root, sweep)) for view in (tradeoff, privacy, overview)]
            attacks = _attacks(store, sweep)
        of_tradeoff, of_privacy, of_overview = (rows[curve.curve_id] for rows in shown)
        views = mlflow_runs.Views(
            tradeoff=of_tradeoff, privacy=of_privacy, overview=of_overview, attacks=attacks
        )
        mlflow_runs.write_run(client, place, curve, views, unfinished=run)
        yield "written"
    for run in existing:  # last, so that a curve is never missing from MLflow
        if run.info.run_id not in kept:
            client.delete_run(run.info.run_id)
            if SWEEP_TAG not in run.data.tags:
                yield "deleted"
    whole.update(curves, running=running)


def _attacks(store: Store, sweep: str) -> dict[str, str]:
    """What the attacks of measures are called, by measure id."""
    rows = ask(store.root, "SELECT measure_id, label FROM attack_names WHERE sweep = $sweep", sweep=sweep)
    return {row["measure_id"]: row["label"] for row in rows.to_pylist()}


def _by_curve(rows: pa.Table) -> defaultdict[str, list[dict[str, Any]]]:
    found = defaultdict[str, list[dict[str, Any]]](list)
    for row in rows.to_pylist():
        found[row["curve_id"]].append(row)
    return found


def _experiment(client: "MlflowClient", store: Store, sweep: str, *, is_local: bool) -> str:
    """Id of the sweep's experiment; in our own database its artifacts lie in the results folder."""
    artifacts = (store.root / "mlartifacts" / sweep).as_uri() if is_local else None
    experiment = client.get_experiment_by_name(sweep)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    if experiment is not None and artifacts not in (None, experiment.artifact_location):
        # The results folder was moved: MLflow keeps artifact locations as they were, so begin anew.
        client.rename_experiment(
            experiment.experiment_id, f"{sweep} (before move {experiment.experiment_id})"
        )
        client.delete_experiment(experiment.experiment_id)
        experiment = None
    if experiment is None:
        return str(client.create_experiment(sweep, artifact_location=artifacts))
    return str(experiment.experiment_id)


def follow(
    results: Path | str,
    sweep: str,
    *,
    ended: threading.Event,
    tracking_uri: str | None = None,
    patience_s: float = 60.0,
) -> MirrorReport:
    """Mirror `sweep` again and again until `ended` is set, and then until all of it is mirrored.

    An MLflow that is down is tried again, after 4 seconds at first, then less often.

    Args:
        results: The results folder.
        sweep: The sweep.
        ended: Set when no more rows will come.
        tracking_uri: As for :func:`mirror`.
        patience_s: Seconds to go on trying after `ended`.

    Returns:
        Report of the last pass, with the reason in ``error`` if not everything could be mirrored.
    """
    quiet_mlflow()
    from hushsweep.dashboards.system_metrics import SystemMetrics

    store = Store(results, create=False)
    report = MirrorReport(tracking_uri=tracking_uri or local_tracking_uri(store.root))
    machine = SystemMetrics()
    mirrored = None
    pause = _POLL_S
    deadline = None
    while True:
        machine.sample()
        is_last = ended.is_set()  # looked at first, so that the last pass sees the last row
        if is_last and deadline is None:
            deadline = time.monotonic() + patience_s
        started = time.monotonic()  # looking takes its time as well: 0.15 s for 20,000 files
        files = _files(store, sweep)
        if files != mirrored or is_last:
            try:
                report = mirror(results, sweep, tracking_uri=tracking_uri, running=not is_last)
            except StoreError as error:
                report = replace(report, error=str(error))
        if report.error is None:
            mirrored = files
            _send(machine, store, sweep, report.tracking_uri)
            pause = max(_POLL_S, _SHARE * (time.monotonic() - started))
        else:
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        if deadline is None:
            _wait(ended, pause, machine)
        elif report.error is None or time.monotonic() + pause > deadline:
            return report
        else:
            time.sleep(pause)


def _wait(ended: threading.Event, pause: float, machine: "SystemMetrics") -> None:
    """Wait for the end of the sweep or of the pause, and watch the machine meanwhile."""
    until = time.monotonic() + pause
    while not ended.is_set() and (left := until - time.monotonic()) > 0:
        ended.wait(min(left, machine.seconds_left))
        machine.sample()


def _send(machine: "SystemMetrics", store: Store, sweep: str, tracking_uri: str) -> None:
    """Pass the machine's numbers on; no pass of the mirror fails by them."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    from hushsweep.dashboards.sweep_run import find_run_id

    with contextlib.suppress(MlflowException, SQLAlchemyError, OSError):
        client = MlflowClient(tracking_uri)
        run_id = find_run_id(client, store, sweep)
        if run_id is not None:
            machine.send(client, run_id)


def _files(store: Store, sweep: str) -> frozenset[tuple[str, float]]:
    """Name and time of every file that the mirror of `sweep` depends on."""
    plan = times(store.root / "sweeps" / sweep).get("plan.json", 0.0)
    return frozenset({("plan.json", plan), *times(store.root / "measurements").items()})


def _end_of_input() -> threading.Event:
    """Event that is set when standard input ends: its writer closed it or died, however it died."""
    ended = threading.Event()

    def wait() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mirror as a process: 0 if all is mirrored, 1 if MLflow could not be reached, 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m hushsweep.dashboards.tracking", description=__doc__)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--sweep")
    parser.add_argument("--tracking-uri")
    parser.add_argument("--rebuild", action="store_true", help="delete this folder's runs first")
    parser.add_argument("--follow", action="store_true", help="mirror --sweep until standard input is closed")
    options = parser.parse_args(arguments)
    if options.follow and options.sweep is None:
        parser.error("--follow needs --sweep")
    try:
        if options.follow:
            os.nice(10)
            report = follow(
                options.results, options.sweep, ended=_end_of_input(), tracking_uri=options.tracking_uri
            )
        else:
            report = mirror(
                options.results, options.sweep, tracking_uri=options.tracking_uri, rebuild=options.rebuild
            )
    except StoreError as error:
        print(error, file=sys.stderr)
        return 2
    print(report, flush=True)
    return 0 if report.error is None else 1


if __name__ == "__main__":
    sys.exit(main())
