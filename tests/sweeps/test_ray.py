"""The same sweep on Ray: real workers, real kills, two nodes; rows always those of a run in one process."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from rows_support import assert_same_rows

from hushsweep.dashboards import run_query
from hushsweep.datasets.results import Store
from hushsweep.sweeps.driver import token_file

SWEEP = """
name: cluster
dataset: {name: digits, limit: 60}
model: {name: digits_mlp, weights: random, seed: [0, 1, 2, 3]}
mechanism: {name: gaussian, noise_scale: [0.5, 2]}
measures:
  - {name: accuracy, draws: 2}
  - {name: hcr, images: 12, restarts: 4, rounds: 4, low_frequency: 3}
"""
PATIENCE = 400


def start(sweep: Path, results: Path, *options: str, **environment: str) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "hushsweep.sweeps",
        "run",
        str(sweep),
        "--results",
        str(results),
        *options,
    ]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        cwd=results.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    output, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, output


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, f"ended too soon:\n{process.communicate()[0]}"
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


def commits(results: Path) -> int:
    return len(list(results.glob("measurements/[!.]*.parquet")))


def slow(sweep: Path, folder: Path) -> Path:
    """The same sweep with one shard more per trial, in pieces that leave time to kill something."""
    path = folder / "cluster.yaml"
    path.write_text(SWEEP + "execution: {shards: 3, cpus_per_trial: 1, max_failures: 3}\n")
    return path


def test_workers_shards_and_mlflow_give_the_rows_of_one_process(
    sweep: Path, reference: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    code, output = finish(start(slow(sweep, tmp_path), results))
    assert code == 0, output
    assert "Traceback" not in output
    assert "8 computed" not in output
    assert "16 computed, 0 there before, 0 missing" in output
    assert_same_rows(reference, results)
    workers = run_query(results, "SELECT DISTINCT worker, ray_trial_id FROM measurements").to_pylist()
    assert all(row["ray_trial_id"] for row in workers)
    check_mlflow(results, "cluster")
    again, output = finish(start(slow(sweep, tmp_path), results, "--no-mlflow"))
    assert again == 0
    assert "0 computed, 16 there before, 0 missing" in output


def check_mlflow(results: Path, name: str) -> None:
    """Every run's artifact equals the rows by point id, and its metrics equal them to 1e-6."""
    import mlflow
    import pyarrow.parquet as pq
    from mlflow import MlflowClient

    uri = f"sqlite:///{results}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    runs = mlflow.search_runs(experiment_names=[name])
    runs = runs[runs["tags.mlflow.parentRunId"].notna()]
    rows = run_query(results, "FROM measurements WHERE status = 'complete'").to_pylist()
    assert len(runs) == len({row["curve_id"] for row in rows})
    seen = set()
    for run_id in runs["run_id"]:
        file = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path="rows.parquet", tracking_uri=uri
        )
        artifact = pq.read_table(file).to_pylist()
        mine = {
            (r["point_id"], r["measure_id"], r["statistic"]): r
            for r in rows
            if r["curve_id"] == artifact[0]["curve_id"]
        }
        assert {(r["point_id"], r["measure_id"], r["statistic"]) for r in artifact} == mine.keys()
        for row in artifact:
            expected = mine[row["point_id"], row["measure_id"], row["statistic"]]
            assert {k: expected[k] for k in row} == row
        seen |= mine.keys()
        levels = sorted({row["level"] for row in mine.values()})
        for statistic in {row["statistic"] for row in mine.values()}:
            history = {m.step: m.value for m in client.get_metric_history(run_id, statistic)}
            by_level = {row["level"]: row["value"] for row in mine.values() if row["statistic"] == statistic}
            assert history == {
                levels.index(level): pytest.approx(value, rel=1e-6) for level, value in by_level.items()
            }
        assert {m.step: m.value for m in client.get_metric_history(run_id, "level")} == dict(
            enumerate(levels)
        )
    assert seen == {(r["point_id"], r["measure_id"], r["statistic"]) for r in rows}


def test_a_killed_worker_costs_nothing_but_time(sweep: Path, reference: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    process = start(slow(sweep, tmp_path), results, "--no-mlflow")
    wait_for(lambda: commits(results) > 0 and bool(ray_workers(process.pid)), process)
    victim = ray_workers(process.pid)[0]
    victim.kill()
    code, output = finish(process)
    assert code == 0, output
    assert not victim.is_running()
    assert_same_rows(reference, results)


def test_a_trial_that_keeps_dying_leaves_a_row_per_point(tmp_path: Path) -> None:
    (tmp_path / "dying_plugin.py").write_text(DYING)
    allowed = ("--no-mlflow", "--allow-plugins", "dying_plugin")
    path, results = tmp_path / "cluster.yaml", tmp_path / "results"
    path.write_text(DYING_SWEEP)
    code, output = finish(start(path, results, *allowed, PYTHONPATH=str(tmp_path)))
    assert code == 1, output
    assert "failed: the worker died on every attempt" in " ".join(output.split())
    rows = run_query(results, "SELECT point_id, status FROM measurements").to_pylist()
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert len({row["point_id"] for row in rows}) == 2
    path.write_text(DYING_SWEEP.replace("[1, 2]", "[3, 4]"))
    code, output = finish(start(path, results, *allowed, PYTHONPATH=str(tmp_path)))
    assert code == 0, output


DYING_SWEEP = """
name: dying
dataset: {name: digits, limit: 20}
model: {name: digits_mlp, weights: random, seed: 0}
mechanism: {name: "dying_plugin:Dying", noise_std: [1, 2], at: input}
measures: {name: accuracy}
execution: {max_failures: 1}
"""
DYING = """
import contextlib
import os
import signal
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Fatal:
    noise_std: float

    def apply(self, activations, noise):
        if self.noise_std < 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return activations


@dataclass(frozen=True, kw_only=True)
class Dying:
    VERSION: ClassVar[int] = 1
    LEVELS: ClassVar[tuple[str, ...]] = ("noise_std",)
    noise_std: float

    def fit(self, statistics):
        return Fatal(self.noise_std)
"""


def test_a_killed_driver_is_taken_up_where_it_stopped(sweep: Path, reference: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    for _ in range(2):
        before = commits(results)
        process = start(slow(sweep, tmp_path), results, "--no-mlflow")
        wait_for(lambda before=before: commits(results) > before, process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
    done = commits(results)
    assert 0 < done < 8, "killed in the middle"
    code, output = finish(start(slow(sweep, tmp_path), results, "--no-mlflow"))
    assert code == 0, output
    assert " 0 missing" in output
    assert_same_rows(reference, results)
    assert not [path for path in results.rglob("*.tmp") if "cache" not in path.parts]


def test_an_interrupt_ends_cleanly_and_says_how_to_go_on(sweep: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    process = start(slow(sweep, tmp_path), results, "--no-mlflow")
    wait_for(lambda: commits(results) > 0, process)
    process.send_signal(signal.SIGINT)
    code, output = finish(process)
    assert code == 130, output
    assert "Traceback" not in output
    assert "Interrupted." in output
    assert "to go on, run the same command again" in " ".join(output.split())


def test_a_second_run_of_a_running_sweep_is_refused(sweep: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    with Store(results).lock("cluster"):
        code, output = finish(start(sweep, results, "--no-mlflow"))
    assert code == 2
    assert output.startswith("error: ")
    assert f"process {os.getpid()}" in " ".join(output.split())


@pytest.mark.parametrize(
    ("execution", "options", "said"),
    [
        ("{gpus_per_trial: 64}", [], "execution.gpus_per_trial: 64 asked for, but no node"),
        ("{cpus_per_trial: 4096}", [], "execution.cpus_per_trial: 4096 asked for, but no node"),
        ("{}", ["--address", "127.0.0.9:1"], "no Ray token is set"),
        ("{}", ["--local", "--address", "auto"], "expected one of them, got both"),
    ],
)
def test_what_the_cluster_lacks_is_refused_at_once(
    tmp_path: Path, execution: str, options: list[str], said: str
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(SWEEP + f"execution: {execution}\n")
    code, output = finish(start(path, tmp_path / "results", "--no-mlflow", *options))
    assert code == 2, output
    assert "Traceback" not in output
    assert said in " ".join(output.split())


CLUSTER = """
import sys

from hushsweep.sweeps.driver import prepare_ray

prepare_ray(None)
from ray.cluster_utils import Cluster

node = {"num_cpus": 1, "num_gpus": 1}
cluster = Cluster(
    initialize_head=True,
    head_node_args={**node, "node_ip_address": "127.0.0.2", "include_dashboard": False},
)
cluster.add_node(**node, node_ip_address="127.0.0.3")
print("address", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture
def two_nodes() -> Iterator[str]:
    """Two Ray nodes on this machine, each with a logical GPU; each needs a loopback address of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # else other tests leave a node that still imports torch no processor, and the first does all the work
        env={**os.environ, "RAY_worker_niceness": "0"},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    lines = iter(process.stdout.readline, "")
    yield next(line.split()[1] for line in lines if line.startswith("address "))
    process.stdin.close()
    process.wait(timeout=60)


def test_two_nodes_with_a_gpu_each_share_a_sweep(
    reference: Path, sweep: Path, tmp_path: Path, two_nodes: str
) -> None:
    path = tmp_path / "cluster.yaml"
    # so many parts that one node is not done with all of them while the other's worker is still starting
    path.write_text(SWEEP + "execution: {shards: 12, cpus_per_trial: 1, gpus_per_trial: 1}\n")
    results = tmp_path / "results"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file())}
    code, output = finish(start(path, results, "--no-mlflow", "--address", two_nodes, **token))
    assert code == 0, output
    rows = run_query(results, "SELECT DISTINCT node, ray_trial_id, device FROM measurements").to_pylist()
    nodes = {row["node"].split("(")[1].rstrip(")") for row in rows}
    assert nodes == {"127.0.0.2", "127.0.0.3"}
    assert all(row["ray_trial_id"] and row["device"] for row in rows)
    assert_same_rows(reference, results)


def ray_workers(driver: int) -> list[psutil.Process]:
    """Processes of the driver's cluster that run a trial."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end while we look
            if "ray::ImplicitFunc" in " ".join(process.cmdline()):
                found.append(process)
    return found
