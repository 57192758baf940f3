"""The Ray Tune driver: schedules trials over the workers of this machine or of a cluster.

Tune is a scheduler here and nothing more: its folder is scratch, resuming is planning again against the store.
"""

import contextlib
import io
import logging
import math
import os
import secrets
import shutil
import socket
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from hushsweep.datasets.results import Store, StoreError, results_name
from hushsweep.sweeps.errors import RunError
from hushsweep.sweeps.metrics import SweepMetrics, TrialMetrics
from hushsweep.sweeps.ordering import in_turn
from hushsweep.sweeps.packing import measured_share, scouts
from hushsweep.sweeps.runner import RunnerOptions, places_of
from hushsweep.sweeps.shared_trials import SharedTrials
from hushsweep.sweeps.spec import ExecutionSpec
from hushsweep.workers.commit import commit_failures
from hushsweep.workers.devices import peak_memory, resolve_device
from hushsweep.workers.logs import log_to_stderr
from hushsweep.workers.progress import Progress, Report
from hushsweep.workers.trial import Execution, Trial

_REPORT_EVERY = 1.0
"""Least seconds between two reports of a trial; epochs do not wait."""
_REPORT_COST = 0.02
"""Seconds that a report takes of the driver at most: a round through Tune's loop."""
_SCRATCH = "tune"


def run_on_ray(trials: Sequence[Trial], *, results: Path, options: RunnerOptions, report: Report) -> None:
    """Run trials on Ray workers.

    Workers are kept between trials, so that a model is loaded once per worker. Where it is left to us how many share a
    GPU, one trial of each kind goes first and shows what it needs. A trial whose worker died is repeated up to
    ``max_failures`` times, after the others; then its points get failed rows.

    Raises:
        RunError: the cluster cannot be reached or does not have what a trial asks for.
        StoreError: a worker could not write the results folder.
        KeyboardInterrupt: the run was interrupted; what was complete stays complete.
    """
    with ray_cluster(options.address):
        cpus, gpus = choose_resources(options.execution, trials)
        ordered = in_turn(trials, _at_once(options.execution, cpus, gpus))
        gib = _gpu_gib() if options.execution.gpus_per_trial == "auto" else 0.0
        first, rest = _scouts_first(ordered, gib)
        peaks = _run_rounds(first, (cpus, gpus), results, options, report) if first else []
        if first and rest:
            share = measured_share(peaks, rest, gib)
            execution = options.execution.model_copy(update={"gpus_per_trial": share})
            cpus, gpus = choose_resources(execution, rest)
        if rest:
            _run_rounds(rest, (cpus, gpus), results, options, report)


def _scouts_first(trials: Sequence[Trial], gib: float) -> tuple[list[Trial], list[Trial]]:
    """Divide trials into those that show what a GPU has to hold, and the others."""
    import ray

    gpus = ray.cluster_resources().get("GPU", 0.0)
    if not gib or len(trials) <= gpus or any(trial.device == "cpu" for trial in trials):
        return [], list(trials)
    chosen = set(scouts(trials, gpus))
    rest = [trial for position, trial in enumerate(trials) if position not in chosen]
    return [trials[position] for position in sorted(chosen)], rest


def _gpu_gib() -> float:
    """Memory of the smallest GPU of the cluster, GiB; 0 where Ray has GPUs that torch does not see."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    # none is reserved, so that this does not wait for other sweeps; then Ray has to be told to leave all visible
    visible = {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}}
    probe = ray.remote(num_cpus=0, runtime_env=visible)(_smallest_gpu)
    places = [NodeAffinitySchedulingStrategy(node, soft=True) for node in nodes]
    found: list[float] = ray.get([probe.options(scheduling_strategy=place).remote() for place in places])
    return min(found, default=0.0)


def _smallest_gpu() -> float:
    import torch

    sizes = (torch.cuda.get_device_properties(n).total_memory for n in range(torch.cuda.device_count()))
    return min(sizes, default=0) / 2**30


def _run_rounds(
    trials: Sequence[Trial],
    resources: tuple[float, float],
    results: Path,
    options: RunnerOptions,
    report: Report,
) -> list[tuple[Trial, float]]:
    """Run trials, and again those whose worker died; return how much memory each took, GiB."""
    pending, peaks = list(trials), list[tuple[Trial, float]]()
    for _ in range(options.execution.max_failures + 1):
        watcher = Watcher(report, sweep=options.sweep, trials=len(pending))
        _run_round(pending, watcher, resources, results, options)
        peaks += [(pending[index], peak) for index, peak in watcher.peaks.items()]
        if watcher.store_error:
            raise StoreError(watcher.store_error)
        if len(watcher.ended | watcher.died) < len(pending):
            raise KeyboardInterrupt
        pending = [pending[index] for index in sorted(watcher.died - watcher.ended)]
        if not pending:
            return peaks
    fail_dead_trials(pending, results, report, watcher.attempts, sweep=options.sweep)
    return peaks


def _run_round(
    trials: Sequence[Trial],
    watcher: "Watcher",
    resources: tuple[float, float],
    results: Path,
    options: RunnerOptions,
) -> None:
    """Let Tune run every trial once. It repeats none: it would not repeat one whose worker died between two trials."""
    from ray import tune

    space = {"trial": tune.grid_search(list(range(len(trials))))}
    fit(trials, watcher, resources, results, options, param_space=space)


def fit(
    trials: Sequence[Trial],
    watcher: "Watcher",
    resources: tuple[float, float],
    results: Path,
    options: RunnerOptions,
    *,
    param_space: dict[str, Any] | None = None,
    **tune_config: Any,
) -> None:
    """Let Tune run what ``param_space`` or a search algorithm names: positions in ``trials``, or trials themselves.

    Args:
        trials: known beforehand.
        watcher: told what comes back.
        resources: CPUs and GPUs of a trial.
        results: the results folder.
        options: how to run.
        param_space: of ``Tuner``.
        tune_config: more of ``TuneConfig``.
    """
    from ray import tune

    if options.judge is not None:
        from hushsweep.sweeps.search.on_ray import scheduler_of

        tune_config["scheduler"] = scheduler_of(options.judge, watcher, trials)
    cpus, gpus = resources
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what fails, we say ourselves
    settings: dict[str, Any] = {
        "results": results_name(results),
        "execution": execution_of(options.execution, cpus),
        "git_commit": options.git_commit,
        "sweep": options.sweep,
        "report_every": max(_REPORT_EVERY, _REPORT_COST * _at_once(options.execution, cpus, gpus)),
    }
    trainable = tune.with_parameters(partial(_run_trial, **settings), shared=SharedTrials.of(trials))
    trainable.__name__ = _run_trial.__name__
    scratch = results / "cache" / _SCRATCH
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{secrets.token_hex(2)}"
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": cpus, "gpu": gpus}),
        param_space=param_space or {},
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=options.execution.max_concurrent_trials,
            **tune_config,
        ),
        run_config=tune.RunConfig(
            storage_path=str(scratch),
            name=name,
            stop=watcher.stopper(),
            callbacks=[watcher.callback()],
            verbose=0,
        ),
    )
    with contextlib.redirect_stdout(io.StringIO()):  # Tune prints two lines even when asked to be silent
        tuner.fit()
    shutil.rmtree(scratch / name, ignore_errors=True)


def prepare_ray(address: str | None) -> None:
    """Set Ray's environment, which it reads when it is imported: a token of our own, no telemetry, no loggers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    if "ray" in sys.modules:
        return  # it has read its settings already, and starts its clusters with a token by itself
    if address is None and not given:
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file())
    if address is None or given:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


@contextlib.contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine, with token authentication and nothing sent anywhere.

    Raises:
        RunError: no cluster answers at ``address``.
    """
    prepare_ray(address)
    import ray

    already = ray.is_initialized()
    if not already:
        try:
            with _elsewhere():
                ray.init(
                    address=address or "local",  # else Ray would join whatever RAY_ADDRESS names
                    include_dashboard=False if address is None else None,
                    log_to_driver=False,
                    logging_level="ERROR",
                    configure_logging=True,
                )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            text = " ".join(str(error).split())[:300]
            raise RunError(
                f"--address {address}: no Ray cluster answers there: {text}; start one with 'ray start --head', "
                "or leave --address out to use this machine"
            ) from error
    try:
        yield
    finally:
        if not already:
            ray.shutdown()


def _elsewhere() -> contextlib.AbstractContextManager[None]:
    """Be in a folder of our own, unless Python imports from the working folder anyway.

    Ray lets its workers import from the folder in which it is started, before anything that is installed. Beside a
    stranger's sweep file may lie a stranger's torch.py.
    """
    here = Path.cwd()
    if any(Path(entry).absolute() == here for entry in sys.path):
        return contextlib.nullcontext()
    return contextlib.chdir(token_file().parent)


def look_at_cluster(address: str, execution: ExecutionSpec) -> tuple[str, float]:
    """Ask a worker of a cluster which type of device it computes on; return that and the trials that run at once."""
    with ray_cluster(address):
        import ray

        total = ray.cluster_resources()
        gpus = 0 if execution.gpus_per_trial == 0 or not total.get("GPU") else 0.01
        probe = ray.remote(num_cpus=0.01, num_gpus=gpus)(_probe_device)
        found: str = ray.get(probe.remote())
    return found, places_of(execution, total.get("CPU", 0.0), total.get("GPU", 0.0))


def _probe_device() -> str:
    return resolve_device("auto").type


def token_file() -> Path:
    """Return our own token file, readable by this user alone: whoever has the token can run code as us."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "hushsweep"
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = state / "ray_token"
    if not file.exists():
        partial = file.with_suffix(f".{os.getpid()}.tmp")
        partial.touch(mode=0o600)
        partial.write_text(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(partial)  # the first of several starting drivers wins, with a whole token
        partial.unlink()
    return file


def choose_resources(execution: ExecutionSpec, trials: Sequence[Trial]) -> tuple[float, float]:
    """Choose a trial's CPUs and GPUs, and refuse what no node of the cluster has."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    most_cpus = max(node.get("CPU", 0.0) for node in nodes)
    most_gpus = max(node.get("GPU", 0.0) for node in nodes)
    total_cpus, total_gpus = (sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU"))
    gpus = execution.gpus_per_trial
    if gpus == "auto":
        gpus = 1.0 if total_gpus else 0.0
    places = places_of(execution, total_cpus, total_gpus)
    if execution.cpus_per_trial != "auto":
        cpus = execution.cpus_per_trial
    else:  # a trial alone on a machine takes all of it; GPUs share the cores among them
        cpus = max(1.0, float(math.floor(min(most_cpus, total_cpus / max(1, min(places, len(trials)))))))
        trained = [trial.model.training_threads for trial in trials if trial.model.weights == "train"]
        cpus = max(cpus, float(min(max(trained, default=1), most_cpus)))
    for name, asked, most in (("cpus_per_trial", cpus, most_cpus), ("gpus_per_trial", gpus, most_gpus)):
        if asked > most:
            raise RunError(
                f"execution.{name}: {asked:g} asked for, but no node of the cluster has more than {most:g}; "
                "ask for less, or start a larger node"
            )
    return cpus, gpus


def execution_of(spec: ExecutionSpec, cpus: float) -> Execution:
    """Return how a trial with so many CPUs runs."""
    threads = spec.threads or max(1, math.floor(cpus))
    return Execution(
        batch_size=spec.batch_size,
        threads=threads,
        decode_threads=threads,
        feature_cache_gb=spec.feature_cache_gb,
        timeout_s=spec.timeout_s,
    )


def _run_trial(
    config: dict[str, Any],
    *,
    shared: SharedTrials,
    results: str,
    execution: Execution,
    git_commit: str | None,
    sweep: str,
    report_every: float,
) -> None:
    """Run one trial in a worker and pass its progress on."""
    import ray
    from ray import tune

    from hushsweep.workers.evaluate import evaluate

    log_to_stderr()
    reporter, trial = _Reporter(report_every), trial_of(config, shared)
    metrics = TrialMetrics(trial, sweep, reporter)
    try:
        with metrics.timed():
            evaluate(
                trial,
                results=results,
                execution=execution,
                provenance={
                    "node": f"{socket.gethostname()} ({ray.util.get_node_ip_address()})",
                    "worker": str(os.getpid()),
                    "ray_trial_id": tune.get_context().get_trial_id(),
                    "git_commit": git_commit,
                },
                report=metrics,
            )
    except StoreError as error:  # repeating the trial would not mend a full disk
        tune.report({**reporter.flush(), "ended": True, "store_error": str(error)})
        return
    peak = peak_memory(resolve_device(trial.device))
    tune.report({**reporter.flush(), "ended": True, "peak_memory": peak})


def _at_once(execution: ExecutionSpec, cpus: float, gpus: float) -> float:
    """Return how many trials of these resources the cluster runs at once."""
    import ray

    chosen = execution.model_copy(update={"cpus_per_trial": cpus, "gpus_per_trial": gpus})
    total = ray.cluster_resources()
    return places_of(chosen, total.get("CPU", 0.0), total.get("GPU", 0.0))


def trial_of(config: dict[str, Any], trials: "Sequence[Trial] | SharedTrials") -> Trial:
    """Return the trial that a configuration of Tune stands for: one known beforehand, or one that was asked for."""
    asked: Trial | None = config.get("asked")
    return asked or trials[config["trial"]]


class _Reporter:
    """Adds up a trial's progress and passes it to Tune now and then; an epoch at once.

    Tune may end the trial instead of returning from a report: the process goes on, the trial's code does not.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._sum = {"images": 0, "complete": 0, "failed": 0}
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        from ray import tune

        for name in self._sum:
            self._sum[name] += getattr(progress, name)
        if progress.epoch is not None and progress.score is not None:
            epoch = {"epoch": progress.epoch, "epochs": progress.epochs, "score": progress.score}
            tune.report({**self.flush(), **epoch})
        elif time.monotonic() - self._last > self._every:
            tune.report(self.flush())

    def flush(self) -> dict[str, int]:
        found, self._sum = self._sum, dict.fromkeys(self._sum, 0)
        self._last = time.monotonic()
        return found


class Watcher:
    """Takes progress from Tune's results; nothing that goes wrong here may end the sweep."""

    def __init__(self, report: Report, *, sweep: str = "", trials: int | None = None) -> None:
        self._report, self._trials = report, trials
        self.sweep, self.metrics = sweep, SweepMetrics(sweep)
        self.ended, self.died = set[int](), set[int]()
        self.attempts = set[str]()
        """Of those that died, as Ray calls them in the rows that they left."""
        self.peaks = dict[int, float]()
        """Most memory of its device that each trial's worker has had in use, GiB."""
        self.store_error: str | None = None
        self._tell()

    def _tell(self) -> None:
        if self._trials is not None:
            self.metrics.left(self._trials - len(self.ended))

    def stopped(self, trial: int, rows: int) -> None:
        """Count a trial that ended early, and the rows that it left."""
        self.ended.add(trial)
        self._tell()
        self._report(Progress(complete=rows))

    def callback(self) -> Any:
        """Return the Tune callback."""
        from ray import tune

        watcher = self

        class Callback(tune.Callback):  # type: ignore[misc]
            def __reduce__(self) -> Any:
                return tune.Callback, ()  # Tune keeps a copy for restoring, which we never do

            def on_trial_result(
                self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any
            ) -> None:
                with contextlib.suppress(Exception):
                    watcher.see(trial.config["trial"], result)

            def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                watcher.died.add(trial.config["trial"])
                watcher.attempts.add(trial.trial_id)
                watcher.metrics.died()

        return Callback()

    def stopper(self) -> Any:
        """Return what ends all trials once a worker could not write."""
        from ray import tune

        watcher = self

        class Stopper(tune.Stopper):  # type: ignore[misc]
            def __reduce__(self) -> Any:
                return tune.stopper.NoopStopper, ()

            def __call__(self, trial_id: str, result: Any) -> bool:
                return False

            def stop_all(self) -> bool:
                return watcher.store_error is not None

        return Stopper()

    def see(self, trial: int, result: dict[str, Any]) -> None:
        """Count one report of a trial."""
        if result.get("ended") and not result.get("done"):
            self.ended.add(trial)
            self._tell()
            self.store_error = self.store_error or result.get("store_error")
            if "peak_memory" in result:
                self.peaks[trial] = float(result["peak_memory"])
        if not result.get("done"):
            told = {name: int(result.get(name, 0)) for name in ("images", "complete", "failed")}
            self._report(Progress(told["images"], told["complete"], told["failed"]))


def fail_dead_trials(
    trials: Sequence[Trial], results: Path, report: Report, attempts: Collection[str], *, sweep: str = ""
) -> None:
    """Give every point of a trial whose worker kept dying a row that says so, unless it is complete.

    Rows of its last attempt, one of ``attempts``, say more and stay: a worker that got nowhere tells where it stood.
    """
    store = Store(results)
    completed, told = store.completed(), _failed_in(store, attempts)
    reason = "the worker died on every attempt (out of memory, or killed); dmesg or Ray's logs may say why"
    for trial in trials:
        pairs = {(point.point_id, measure.measure_id) for point in trial.points for measure in point.measures}
        failures = dict.fromkeys(pairs - completed - told, reason)
        commit_failures(store, trial, failures, {"computed_at": datetime.now(UTC)})
        counted = TrialMetrics(trial, sweep, report)
        names = {measure.measure_id: measure.name for point in trial.points for measure in point.measures}
        for measure_id, failed in Counter(measure for _, measure in pairs - completed).items():
            counted(Progress(failed=failed, measure=names[measure_id]))


def _failed_in(store: Store, attempts: Collection[str]) -> set[tuple[str, str]]:
    """(point_id, measure_id) of the failed rows that these attempts left."""
    columns = ["point_id", "measure_id", "status", "ray_trial_id"]
    rows = store.read("measurements", columns=columns).to_pylist()
    return {
        (row["point_id"], row["measure_id"])
        for row in rows
        if row["status"] == "failed" and row["ray_trial_id"] in attempts
    }
