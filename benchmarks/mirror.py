"""Mirroring 10,000 points to MLflow: into its database, again with nothing new, and through a server that is killed.

python benchmarks/mirror.py [--seeds 100] [--levels 50]
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from common import print_machine, scratch
from mlflow import MlflowClient
from planning import cost, record
from rows import write_rows

from hushsweep.dashboards import ui_command
from hushsweep.dashboards.server import local_tracking_uri, quiet_mlflow
from hushsweep.datasets.results import Store
from hushsweep.sweeps import plan

SWEEP = """
name: many
seed: {seeds}
dataset: {{name: digits}}
model: {{name: digits_mlp, weights: random}}
mechanism:
  - {{name: gaussian, noise_scale: {levels}}}
  - {{name: laplace, noise_scale: {levels}}}
measures: {{name: accuracy}}
"""
MIRROR = [sys.executable, "-m", "hushsweep.sweeps", "mirror", "--results"]
FOLLOW = [sys.executable, "-m", "hushsweep.dashboards.tracking", "--sweep", "many", "--follow", "--results"]


def fill(folder: Path, seeds: int, levels: int) -> Store:
    """Record a sweep and write the rows of all its points, a file per curve."""
    spec, results = folder / "many.yaml", folder / "results"
    scales = [float(f"{level:.6g}") for level in np.geomspace(0.01, 100, levels)]
    spec.write_text(SWEEP.format(seeds=list(range(seeds)), levels=scales))
    record(spec, results)
    store = Store(results)
    for trial in plan(spec, results=results).shard_trials():
        curves = {}
        for point in trial.points:
            curves.setdefault(point.curve_id, []).append(point)
        for points in curves.values():
            write_rows(store, trial, points)
    return store


def passed(store: Store, folder: Path) -> str:
    """Run ``hushsweep mirror`` to its end and say what it took and did."""
    output = folder / "output"
    found = cost([*MIRROR, str(store.root)], output)
    return f"{found.seconds:.1f} s ({found.cpu:.1f} of CPU), {output.read_text().strip().rpartition(': ')[2]}"


def stored(uri: str) -> tuple[int, int, int, int]:
    """Count what MLflow has: runs, finished ones, different curves, metrics of all steps."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("many")
    found = [] if experiment is None else client.search_runs([experiment.experiment_id], max_results=10_000)
    runs = [run for run in found if "hushsweep.curve_id" in run.data.tags]
    metrics = sum(
        len(client.get_metric_history(run.info.run_id, name)) for run in runs for name in run.data.metrics
    )
    finished = sum(run.info.status == "FINISHED" for run in runs)
    return len(runs), finished, len({run.data.tags["hushsweep.curve_id"] for run in runs}), metrics


@contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    """An MLflow server with a database of its own, killed at the end of the block."""
    folder.mkdir(exist_ok=True)
    command, environment = ui_command(folder, port)
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def outage(store: Store, folder: Path, curves: int) -> None:
    """Follow the rows with a server that is killed after a third of the curves and comes back ten seconds later."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    started = time.perf_counter()
    with subprocess.Popen(
        [*FOLLOW, str(store.root), "--tracking-uri", uri],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as follower:
        with server(folder, port):
            while written(uri) < curves // 3:
                time.sleep(2)
        print(f"server killed after {time.perf_counter() - started:.0f} s")
        time.sleep(10)
        with server(folder, port):
            print(
                f"  and there again at {time.perf_counter() - started:.0f} s with {stored(uri)[:2]} runs, finished"
            )
            while written(uri) < curves:
                assert follower.poll() is None, "the mirror gave up"
                time.sleep(2)
            follower.stdin.close()
            code = follower.wait()
            seconds = time.perf_counter() - started
            print(
                f"  caught up at {seconds:.0f} s, exit code {code}: runs, finished, curves, metrics {stored(uri)}"
            )


def written(uri: str) -> int:
    """Count finished runs."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("many")
    if experiment is None:
        return 0
    finished = client.search_runs(
        [experiment.experiment_id], "attributes.status = 'FINISHED'", max_results=10_000
    )
    return sum("hushsweep.curve_id" in run.data.tags for run in finished)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--levels", type=int, default=50)
    options = parser.parse_args()
    print_machine()
    quiet_mlflow()
    with scratch() as name:
        store = fill(Path(name), options.seeds, options.levels)
        curves = 2 * options.seeds
        print(f"{curves} curves x {options.levels} levels, 5 statistics each")
        print(f"first pass: {passed(store, Path(name))} (target < 300 s)")
        print(f"  runs, finished, curves, metrics {stored(local_tracking_uri(store.root))}")
        print(f"second pass: {passed(store, Path(name))}")
        outage(store, Path(name) / "server", curves)


if __name__ == "__main__":
    main()
