"""A sweep as a job of a Ray cluster: checked here, computed there."""

import secrets
import shlex
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from hushsweep.datasets.results import bucket_address, results_name
from hushsweep.sweeps.errors import Problem, RunError
from hushsweep.sweeps.jobs import STOP_PATIENCE, SWEEP_KEY, Jobs
from hushsweep.sweeps.runner import COMMIT_VARIABLE, git_commit
from hushsweep.sweeps.shipping import ship
from hushsweep.sweeps.source import Source, read_source
from hushsweep.sweeps.spec import SweepSpec
from hushsweep.workers.models.files import is_path


def check_sweep(path: Path, results: Path, *, allow_plugins: Collection[str] = ()) -> SweepSpec:
    """Check what can be checked without the cluster: the data lie there.

    Raises:
        RunError: the results folder is relative.
        SpecError: the sweep file is wrong, names code that is not allowed, or a file by a relative path.
    """
    if bucket_address(results) is None and not results.is_absolute():
        raise RunError(
            f"--results {results}: expected an absolute path, since the folder has to be one and the same on every "
            "node; give a folder of a shared file system that is mounted there, or s3://BUCKET/PREFIX"
        )
    source = read_source(path)
    spec = SweepSpec.from_source(source, allow_plugins=allow_plugins)
    _check_paths(spec, source)
    return spec


def submit(
    spec: SweepSpec,
    path: Path,
    jobs: Jobs,
    *,
    results: Path,
    mirror: bool = True,
    allow_plugins: Collection[str] = (),
) -> str:
    """Start a sweep that was checked as a job.

    Args:
        spec: the sweep.
        path: its file, which travels with the job, as does hushsweep.
        jobs: of the cluster.
        results: the results folder, absolute, on every node.
        mirror: also keep MLflow up to date.
        allow_plugins: packages or modules whose code the sweep may name; they have to be installed on every node.

    Returns:
        The job's id.

    Raises:
        RunError: the cluster does not take the job.
    """
    variables = {
        "RAY_JOB_STOP_SIGNAL": "SIGINT",  # stop as Ctrl-C would, and leave the time that it takes
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_PATIENCE),
    }
    if commit := git_commit():
        variables[COMMIT_VARIABLE] = commit
    with tempfile.TemporaryDirectory(prefix="hushsweep-") as folder:
        place = ship(path, Path(folder))
        with jobs.asking():
            job: str = jobs.client.submit_job(
                entrypoint=_command(place, results, mirror, allow_plugins),
                submission_id=f"{spec.name}-{secrets.token_hex(4)}",
                metadata={SWEEP_KEY: spec.name},
                runtime_env={"working_dir": folder, "env_vars": variables},
            )
    return job


def _command(place: Path, results: Path, mirror: bool, allow_plugins: Collection[str]) -> str:
    words = ["python", "-m", "hushsweep.sweeps", "run", str(place), "--results", results_name(results)]
    words += ["--address", "auto", *([] if mirror else ["--no-mlflow"])]
    words += [word for name in allow_plugins for word in ("--allow-plugins", name)]
    return "exec " + shlex.join(words)  # in place of the shell, so that the exit code is ours


def _check_paths(spec: SweepSpec, source: Source) -> None:
    problems = [
        Problem(
            place, f"expected an absolute path, got {path!r}, which is another file on the cluster; {mend}"
        )
        for place, path, mend in _paths(spec)
        if not Path(path).is_absolute()
    ]
    if problems:
        raise source.report(problems)


def _paths(spec: SweepSpec) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """Where a sweep names files: the place in it, the path, and what else may be done."""
    data = "write the one that all nodes have, or leave root out and set HUSHSWEEP_DATA on every node"
    file = "put the file on the shared file system and write its place there"
    for number, dataset in enumerate(spec.dataset):
        if dataset.root is not None:
            yield ("dataset", number, "root"), dataset.root, data
    for number, model in enumerate(spec.model):
        for position, weights in enumerate(model.weights):
            if is_path(weights):
                yield ("model", number, "weights", position), weights, file
    for number, chain in enumerate(spec.mechanism):
        for position, stage in enumerate(chain):
            for which, weights in enumerate(_listed(getattr(stage, "weights", None))):
                chained = ("chain", position) if len(chain) > 1 else ()
                yield ("mechanism", number, *chained, "weights", which), weights, file


def _listed(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str)]
