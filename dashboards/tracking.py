"""MLflow mirror: an experiment per sweep and a run per curve, derived from the rows and rebuilt at any time.

``python -m hushsweep.dashboards.tracking --results DIR --follow PID`` runs beside a driver and ends after it.
"""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hushsweep.dashboards.curves import read_curves
from hushsweep.dashboards.queries import tradeoff
from hushsweep.dashboards.server import local_tracking_uri, quiet_mlflow
from hushsweep.datasets.results import Store, StoreError
from hushsweep.datasets.results.files import exclusive

if TYPE_CHECKING:
    from mlflow import MlflowClient

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
        if self.error is None:
            return f"MLflow {self.tracking_uri}: {done}"
        return f"MLflow {self.tracking_uri}: {done}, then {self.error}; the rows are safe, mirror again later"


def mirror(
    results: Path | str, sweep: str | None = None, *, tracking_uri: str | None = None, rebuild: bool = False
) -> MirrorReport:
    """Make MLflow show the rows of `sweep`, or of every sweep, and nothing else.

    Curves whose rows are mirrored already are left alone; one that gained a level is written anew as a whole
    and its old run deleted. It may be killed at any moment and run again.

    Args:
        results: The results folder.
        sweep: One sweep, or None for all.
        tracking_uri: Where MLflow is; by default ``mlflow.db`` and ``mlartifacts`` in the results folder.
        rebuild: Delete this folder's runs and write all of them again.

    Returns:
        What was done; a server that is down or refuses is reported in ``error``, not raised.

    Raises:
        StoreError: no results or no such sweep; or another mirror of this folder is at work.
    """
    store = Store(results, create=False)
    report = MirrorReport(tracking_uri=tracking_uri or local_tracking_uri(store.root))
    with exclusive(store.root / ".mirror.lock", f"MLflow mirror of {store.root}", wait_s=5):
        quiet_mlflow()
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        try:
            client = MlflowClient(report.tracking_uri)
            for name in store.sweeps() if sweep is None else [sweep]:
                for change in _mirror_sweep(
                    client, store, name, is_local=tracking_uri is None, rebuild=rebuild
                ):
                    report = replace(report, **{change: getattr(report, change) + 1})
        except (MlflowException, OSError) as error:
            return replace(report, error=" ".join(str(error).split())[:500])
    return report


def _mirror_sweep(
    client: "MlflowClient", store: Store, sweep: str, *, is_local: bool, rebuild: bool
) -> Iterator[str]:
    """Mirror one sweep and yield, for every run, the field of MirrorReport that counts it."""
    from hushsweep.dashboards import runs as mlflow_runs

    curves = read_curves(store.root, sweep)
    experiment_id = _experiment(client, store, sweep, is_local=is_local)
    existing = mlflow_runs.find_runs(client, experiment_id, store.store_id)
    kept = set()
    if not rebuild:
        for curve in curves:
            same = [run for run in existing if mlflow_runs.is_mirror_of(run, curve)]
            same.sort(key=mlflow_runs.is_finished, reverse=True)
            kept |= {run.info.run_id for run in same[:1]}
    figure_rows = tradeoff(store.root, sweep).to_pylist()
    for curve in curves:
        mine = [run for run in existing if run.info.run_id in kept and mlflow_runs.is_mirror_of(run, curve)]
        if mine and mlflow_runs.is_finished(mine[0]):
            yield "unchanged"
            continue
        mlflow_runs.write_run(
            client,
            experiment_id,
            curve,
            figure_rows,
            store_id=store.store_id,
            unfinished=mine[0] if mine else None,
        )
        yield "written"
    for run in existing:  # last, so that a curve is never missing from MLflow
        if run.info.run_id not in kept:
            client.delete_run(run.info.run_id)
            yield "deleted"


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
    parent_pid: int,
    tracking_uri: str | None = None,
    patience_s: float = 60.0,
) -> MirrorReport:
    """Mirror `sweep` while the process `parent_pid` computes it, and until all of it is mirrored afterwards.

    Meant for a process of its own. An MLflow that is down is tried again, after 4 seconds, then less often.

    Args:
        results: The results folder.
        sweep: The sweep.
        parent_pid: The process to follow.
        tracking_uri: As for :func:`mirror`.
        patience_s: Seconds to go on trying after `parent_pid` has ended.

    Returns:
        Report of the last pass, with the reason in ``error`` if not everything could be mirrored.
    """
    is_parent = os.getppid() == parent_pid
    store = Store(results, create=False)
    report = MirrorReport(tracking_uri=tracking_uri or local_tracking_uri(store.root))
    mirrored: frozenset[tuple[str, int]] | None = None
    pause = _POLL_S
    deadline = None
    while True:
        ended = not _is_alive(
            parent_pid, is_parent=is_parent
        )  # looked at first: the pass then sees its last row
        deadline = time.monotonic() + patience_s if ended and deadline is None else deadline
        files = _files(store, sweep)
        started = time.monotonic()
        if files != mirrored:
            try:
                report = mirror(results, sweep, tracking_uri=tracking_uri)
            except StoreError as error:
                report = replace(report, error=str(error))
        if report.error is None:
            mirrored = files
            pause = max(_POLL_S, _SHARE * (time.monotonic() - started))
        else:
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        if deadline is not None and (report.error is None or time.monotonic() + pause > deadline):
            return report
        wake = time.monotonic() + pause
        while time.monotonic() < wake and (ended or _is_alive(parent_pid, is_parent=is_parent)):
            time.sleep(0.25)


def _files(store: Store, sweep: str) -> frozenset[tuple[str, int]]:
    """Name and time of every file that the mirror of `sweep` depends on."""
    paths = [store.root / "sweeps" / sweep / "plan.json", *(store.root / "measurements").glob("*.parquet")]
    return frozenset((path.name, path.stat().st_mtime_ns) for path in paths if path.exists())


def _is_alive(pid: int, *, is_parent: bool) -> bool:
    if is_parent:  # sees through a recycled id and a parent that nobody has waited for
        return os.getppid() == pid
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mirror as a process: 0 if all is mirrored, 1 if MLflow could not be reached, 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m hushsweep.dashboards.tracking", description=__doc__)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--sweep")
    parser.add_argument("--tracking-uri")
    parser.add_argument("--rebuild", action="store_true", help="delete this folder's runs first")
    parser.add_argument(
        "--follow", type=int, metavar="PID", help="mirror until that process has ended; needs --sweep"
    )
    options = parser.parse_args(arguments)
    if options.follow is not None and options.sweep is None:
        parser.error("--follow needs --sweep")
    try:
        if options.follow is None:
            report = mirror(
                options.results, options.sweep, tracking_uri=options.tracking_uri, rebuild=options.rebuild
            )
        else:
            signal.signal(
                signal.SIGINT, signal.SIG_IGN
            )  # Ctrl-C is for the driver; what it stored is mirrored
            os.nice(10)
            report = follow(
                options.results, options.sweep, parent_pid=options.follow, tracking_uri=options.tracking_uri
            )
    except StoreError as error:
        print(error, file=sys.stderr)
        return 2
    print(report, flush=True)
    return 0 if report.error is None else 1


if __name__ == "__main__":
    sys.exit(main())
