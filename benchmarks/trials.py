"""A thousand trivial trials: our driver beside Ray Tune's own loop over trials that do nothing, on one cluster.

python benchmarks/trials.py [--trials 1000]

Each trial evaluates one noise level on ten digits. The same trials in this process, one after another, say what the
evaluation itself takes. Starting workers is left out: a tenth of the trials is run first and taken off.
"""

import argparse
import contextlib
import io
import os
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from common import print_machine, scratch, trials_of

from hushsweep.datasets.results import Store
from hushsweep.sweeps.driver import ray_cluster, run_on_ray
from hushsweep.sweeps.local import run_local
from hushsweep.sweeps.runner import RunnerOptions
from hushsweep.sweeps.spec import ExecutionSpec
from hushsweep.workers.trial import Trial

SWEEP = """
name: trials
seed: {seeds}
dataset: {{name: digits, limit: 10}}
model: {{name: digits_mlp, weights: random}}
mechanism: {{name: gaussian, noise_scale: 1}}
measures: {{name: accuracy}}
"""
OPTIONS = RunnerOptions(execution=ExecutionSpec(threads=1, cpus_per_trial=1))


def resident() -> float:
    """Return the most memory that this process had resident, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def evaluated(runner: Callable[..., None], trials: Sequence[Trial], folder: Path) -> float:
    """Time our trials; end with the reason unless every one of them left its rows."""
    store = Store(folder)
    started = time.perf_counter()
    runner(trials, results=store.root, options=OPTIONS, report=lambda progress: None)
    seconds = time.perf_counter() - started
    assert len(store.completed()) == len(trials), "not every trial left its rows"
    return seconds


def empty(config: dict[str, int]) -> None:
    """Do nothing."""


def tune_alone(count: int, folder: Path) -> float:
    """Time Ray Tune over trials that do nothing, with the driver's settings."""
    from ray import tune

    tuner = tune.Tuner(
        tune.with_resources(empty, {"cpu": 1}),
        param_space={"trial": tune.grid_search(list(range(count)))},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(folder), name="empty", verbose=0),
    )
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        found = tuner.fit()
    assert len(found) == count
    assert not found.errors
    return time.perf_counter() - started


def per_trial(measure: Callable[[int], float], count: int) -> float:
    """Seconds per trial beyond what the first tenth of the trials takes."""
    few = count // 10
    first = measure(few)
    return (measure(count) - first) / (count - few)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1000)
    count = parser.parse_args().trials
    print_machine()
    (all_points,) = trials_of(SWEEP.format(seeds=list(range(count))))
    trials = [replace(all_points, points=(point,)) for point in all_points.points]
    with scratch() as name, ray_cluster(None):
        folder = Path(name)
        before = resident()
        ours = per_trial(lambda n: evaluated(run_on_ray, trials[:n], folder / f"ray-{n}"), count)
        after = resident()
        alone = per_trial(lambda n: tune_alone(n, folder / f"tune-{n}"), count)
        local = per_trial(lambda n: evaluated(run_local, trials[:n], folder / f"local-{n}"), count)
    print(
        f"{count} trials: ours {1000 * ours:.1f} ms, Tune's own {1000 * alone:.1f} ms, evaluation {1000 * local:.1f} ms"
    )
    workers = os.cpu_count() or 1
    print(f"(ours - evaluation) / Tune's own: {(ours - local) / alone:.2f}x (target <= 1.20x)")
    print(f"with evaluations side by side on {workers} workers: {(ours - local / workers) / alone:.2f}x")
    print(f"driver's memory: {before:.0f} MiB before, {after:.0f} MiB at most")


if __name__ == "__main__":
    main()
