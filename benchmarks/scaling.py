"""Weak scaling: as many times more work for as many times more workers should take the same time.

python benchmarks/scaling.py [passes | tasks] [--images 2048] [--repeats 3] [--workers 1 8 64] [--seconds 30]

``passes`` evaluates ResNet-18 with random weights on CIFAR-10 images enlarged, one thread per worker: one worker on n
images, two workers on 2n, by turns. A shard is a block of 1,024 images, below which workers do not share the passes.
``tasks`` gives 1, 8 and 64 workers two tasks each that sleep, on a cluster of up to eight simulated nodes of eight
CPUs: the machine needs no cores for the work, so what is lost is lost by scheduling.

Ours in ``tasks``: the driver as it is (``run_on_ray``, its rounds, its use of Tune, its watcher and its trainable with
reports at its own rate) and a durable row per task. Not ours: ``evaluate`` sleeps, and PyTorch, for which 64 workers
have no memory, is not there, so that the memory of a device is reported as 0; the trainable comes to the workers by
value, since its module imports PyTorch through others. In both parts a worker waits at its first task until all are
there: the time of starting them is reported by itself, and the clock runs from there to the end of the last task.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # the same cluster

from cluster_support import cluster
from common import data_root, print_machine, scratch, trials_of

from hushsweep.datasets.results import Store
from hushsweep.sweeps import driver
from hushsweep.sweeps.runner import RunnerOptions
from hushsweep.sweeps.spec import ExecutionSpec
from hushsweep.workers.trial import Trial

PASSES = """
name: passes
dataset: {{name: cifar10, root: {root}/cifar10, limit: {images}, input_size: 32}}
model: {{name: torchvision/resnet18, weights: random, network_size: {side}}}
mechanism: {{name: gaussian, noise_scale: 1}}
measures: {{name: accuracy}}
device: cpu
execution: {{shards: {shards}}}
"""
TASKS = """
name: tasks
seed: {seeds}
dataset: {{name: digits, limit: 10}}
model: {{name: digits_mlp, weights: random}}
mechanism: {{name: gaussian, noise_scale: 1}}
measures: {{name: accuracy}}
device: cpu
"""
PER_WORKER = 2
"""Tasks or shards."""
SIDE = 96
"""Pixels to which an image is enlarged before the network."""
CPUS_PER_NODE = 8
SMALLEST_EFFICIENCY = 0.9
PATIENCE = 900.0


class Run(NamedTuple):
    """Seconds of one run."""

    start: float
    """Until the last worker was at its first task."""
    work: float
    """From then to the end of the last task."""
    end: float
    """Until the driver returned."""


def time_run(trials: Sequence[Trial], results: Path, workers: int) -> Run:
    """Let so many workers of the cluster that is connected run trials; times come from the workers' clocks."""
    store = Store(results)
    (results / "clock").mkdir()
    options = RunnerOptions(
        execution=ExecutionSpec(
            threads=1, cpus_per_trial=1, gpus_per_trial=0, max_failures=0, max_concurrent_trials=workers
        )
    )
    began = time.time()
    driver.run_on_ray(trials, results=store.root, options=options, report=lambda progress: None)
    returned = time.time()
    seen = [json.loads(file.read_text()) for file in (results / "clock").glob("*.json")]
    assert len(seen) == len(trials), "not every task ran, or one ran twice"
    assert len({task["worker"] for task in seen}) == workers, "not every worker had a task"
    assert len(store.completed()) == len({point.point_id for trial in trials for point in trial.points})
    released = max(task["arrived"] for task in seen if task["first"])
    last = max(task["ended"] for task in seen)
    return Run(released - began, last - released, returned - last)


def hook(workers: int, seconds: float | None) -> Callable[[], None]:
    """Return what a worker does before it runs anything: put a clock around ``evaluate``, or around sleeping."""

    def count(results: Path, begin: Callable[[], None]) -> None:
        """Wait at a worker's first task until all workers are there; then run it, and write down when it was what."""
        folder, name = Path(results) / "clock", f"{os.getpid()}-{time.time_ns()}"
        first = not hasattr(sys, "_hushsweep_began")
        sys._hushsweep_began = True
        arrived = time.time()
        if first:
            (folder / f"{name}.here").touch()
            deadline = time.monotonic() + PATIENCE
            while len(list(folder.glob("*.here"))) < workers and time.monotonic() < deadline:
                time.sleep(0.05)
        begin()
        times = {"worker": os.getpid(), "first": first, "arrived": arrived, "ended": time.time()}
        (folder / f"{name}.json").write_text(json.dumps(times))

    def sleep(trial, *, results, execution, provenance, report) -> None:
        """Report once a second, as a trial with fast batches would, and leave a row."""
        from hushsweep.datasets.results import Store
        from hushsweep.workers.progress import Progress

        def task() -> None:
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0:
                time.sleep(min(1.0, left))
                report(Progress(images=1))
            (point,) = trial.points
            (measure,) = point.measures
            ids = {
                "point_id": point.point_id,
                "measure_id": measure.measure_id,
                "computed_by": point.point_id,
            }
            row = {**ids, "curve_id": "-", "measure": measure.name, "statistic": "top1", "value": 0.0}
            Store(results, create=False).write(
                "measurements", point.point_id, [{**row, "status": "complete"}]
            )
            report(Progress(complete=1))

        count(results, task)

    def prepare() -> None:
        import types

        if seconds is None:
            from hushsweep.workers import evaluate as module

            evaluate = module.evaluate
            module.evaluate = lambda trial, *, results, **how: count(
                results, lambda: evaluate(trial, results=results, **how)
            )
            return
        standing_in = types.ModuleType("hushsweep.workers.evaluate")
        standing_in.evaluate = sleep
        sys.modules[standing_in.__name__] = standing_in
        devices = types.ModuleType("hushsweep.workers.devices")
        devices.resolve_device, devices.peak_memory = str, lambda device: 0.0
        sys.modules[devices.__name__] = devices

    return prepare


@contextlib.contextmanager
def connected(address: str, prepare: Callable[[], None], *, by_value: bool) -> Iterator[None]:
    """Be a driver whose workers are prepared; ``run_on_ray`` then uses this connection."""
    driver.prepare_ray(address)
    import ray

    if by_value:
        ray.cloudpickle.register_pickle_by_value(driver)
    ray.init(
        address=address,
        runtime_env={"worker_process_setup_hook": prepare},
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        yield
    finally:
        ray.shutdown()
        if by_value:
            ray.cloudpickle.unregister_pickle_by_value(driver)


def timed_on_nodes(trials: Sequence[Trial], workers: int, seconds: float | None) -> Run:
    """Start a cluster with a CPU per worker, run trials there, and end it."""
    cpus = min(workers, CPUS_PER_NODE)
    with cluster(cpus=cpus) as nodes, scratch() as folder:
        for number in range(1, -(-workers // cpus)):
            nodes.start_node(f"127.0.0.{number + 2}")
        # the token itself: this process reads it once, from whatever cluster was its first, and all have the same
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=nodes.token.read_text())
        with connected(nodes.address, hook(workers, seconds), by_value=seconds is not None):
            wait_for_cpus(workers)
            return time_run(trials, Path(folder) / "results", workers)


def wait_for_cpus(count: int) -> None:
    """Wait until all nodes are there."""
    import ray

    deadline = time.monotonic() + PATIENCE
    while ray.cluster_resources().get("CPU", 0) < count:
        assert time.monotonic() < deadline, "the nodes do not come up"
        time.sleep(0.5)


def passes(images: int, repeats: int) -> None:
    """One worker on n images against two workers on 2n, by turns."""
    root, times = data_root(), []
    for _ in range(repeats):
        pair = []
        for workers in (1, 2):
            shards = PER_WORKER * workers
            trials = trials_of(PASSES.format(root=root, images=workers * images, shards=shards, side=SIDE))
            assert len(trials) == shards
            pair.append(timed_on_nodes(trials, workers, None).work)
        times.append(pair)
        print(f"  {pair[0]:.2f} s and {pair[1]:.2f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    efficiency = statistics.median(one / two for one, two in times)
    print(
        f"ResNet-18 at {SIDE}x{SIDE}, {PER_WORKER} shards per worker: 1 worker on {images} images against 2 workers on "
        f"{2 * images}, one thread each: efficiency {efficiency:.2f} (median of {repeats}; "
        f"target >= {SMALLEST_EFFICIENCY})"
    )


def tasks(counts: Sequence[int], seconds: float) -> None:
    """Sleeping tasks on simulated nodes."""
    (all_points,) = trials_of(TASKS.format(seeds=list(range(PER_WORKER * max(counts)))))
    print("| workers | tasks | workers started after | tasks took | driver ended after | efficiency |")
    print("| --- | --- | --- | --- | --- | --- |")
    for workers in counts:
        points = all_points.points[: PER_WORKER * workers]
        trials = [replace(all_points, points=(point,)) for point in points]
        run = timed_on_nodes(trials, workers, seconds)
        print(
            f"| {workers} | {len(trials)} of {seconds:g} s | {run.start:.1f} s | {run.work:.2f} s | {run.end:.1f} s "
            f"| {PER_WORKER * seconds / run.work:.3f} |",
            flush=True,
        )
    print(f"(target >= {SMALLEST_EFFICIENCY}; load {os.getloadavg()[0]:.1f})")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", choices=["passes", "tasks"])
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    print_machine()
    if options.what in (None, "tasks"):
        tasks(options.workers, options.seconds)
    if options.what in (None, "passes"):
        passes(options.images, options.repeats)


if __name__ == "__main__":
    main()
