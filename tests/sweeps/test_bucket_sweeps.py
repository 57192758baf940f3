"""Sweeps whose results lie in S3: killed and taken up, and computed by two machines that share nothing else."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster_support import PATIENCE, cluster
from rows_support import assert_same_rows

from hushsweep.dashboards import run_query
from hushsweep.datasets.results import Store, is_store
from hushsweep.sweeps import run
from hushsweep.sweeps.verify import verify

HEAD, WORKER = "127.0.0.2", "127.0.0.3"
SWEEP = """
name: shared
dataset: {name: digits, limit: 80}
model: {name: digits_mlp, weights: [train, random], seed: [0, 1]}
mechanism: {name: gaussian, noise_scale: [0.5, 2]}
measures:
  - {name: accuracy, draws: 2}
  - {name: hcr, images: 32, restarts: 8, rounds: 4, low_frequency: 3}
device: cpu
execution: {shards: 2, cpus_per_trial: 1, threads: 1, max_failures: 3}
"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "shared.yaml"
    path.write_text(SWEEP)
    return path


@pytest.fixture(scope="module")
def reference(sweep: Path) -> Path:
    """The same sweep in one process, on a disk."""
    summary = run(sweep, results=sweep.parent / "reference", local=True, mirror=False)
    assert summary.exit_code == 0
    return summary.results


def start(*words: object, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "hushsweep.sweeps", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "160", **environment},
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.1)


def test_a_killed_run_is_taken_up_where_it_stopped(sweep: Path, reference: Path, bucket: str) -> None:
    killed = start("run", sweep, "--local", "--no-mlflow", "--results", bucket)
    wait_for(lambda: is_store(bucket) and len(Store(bucket, create=False).completed()) >= 4)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    done = Store(bucket, create=False).completed()
    again = start("run", sweep, "--local", "--results", bucket)  # at once: its lock is a dead process's
    output = again.communicate(timeout=PATIENCE)[0]
    assert again.returncode == 0, output
    assert f"--results {bucket}" in output
    assert f"{bucket}/measurements/*.parquet" in output
    assert len(done) < len(Store(bucket).completed())
    assert_same_rows(reference, Store(bucket).root)
    assert verify(bucket).faults == ()


def test_two_nodes_that_share_nothing_but_the_bucket(
    sweep: Path, reference: Path, bucket: str, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a cache of its own; what one trained the other fetches; one is killed, and the rows are the same."""
    with cluster(**s3) as nodes:
        nodes.start_node(WORKER)
        job = start(
            *("submit", sweep, "--results", bucket, "--no-mlflow", "--follow", "--address", nodes.dashboard),
            **nodes.secrets,
        )
        try:
            wait_for(lambda: is_store(bucket) and len(_nodes(bucket)) == 2)
            nodes.kill(WORKER)
            output = job.communicate(timeout=PATIENCE)[0]
        finally:
            job.kill()
            job.communicate()
    assert job.returncode == 0, output
    found = run_query(bucket, "SELECT DISTINCT weights_digest FROM measurements").column(0).to_pylist()
    expected = run_query(reference, "SELECT DISTINCT weights_digest FROM measurements").column(0).to_pylist()
    assert set(found) == set(expected)
    assert_same_rows(reference, Store(bucket).root)
    assert verify(bucket).faults == ()


def _nodes(results: str) -> set[str]:
    rows = Store(results, create=False).read("measurements", columns=["node"])
    return set(rows.column("node").drop_null().to_pylist())
