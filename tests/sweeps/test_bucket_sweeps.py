"""Sweeps whose results lie in S3: killed and taken up, and computed by two machines that share nothing else."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from cluster_support import PATIENCE, Cluster, cluster, wait_for
from rows_support import assert_same_rows

from hushsweep.dashboards import run_query
from hushsweep.datasets.heartbeat import locked
from hushsweep.datasets.results import Store, is_store
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


def start(*words: object, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "hushsweep.sweeps", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "160", **environment},
    )


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
    sweep: Path, reference: Path, bucket: str, s3: dict[str, str]
) -> None:
    """Each has a cache of its own; what one trained the other fetches; one is killed, and the rows are the same."""
    with cluster(**s3) as nodes:
        nodes.start_node(WORKER)
        nodes.wait_for_node(WORKER)
        with ExitStack() as held:
            # no training ends before both are at work: the first alone might be done with all of it
            for weights in (reference / "models").glob("*.safetensors"):
                held.enter_context(locked(Store(bucket).models_dir / f".{weights.stem}.lock"))
            job = start(
                *(
                    "submit",
                    sweep,
                    "--results",
                    bucket,
                    "--no-mlflow",
                    "--follow",
                    "--address",
                    nodes.dashboard,
                ),
                **nodes.secrets,
            )
            wait_for(
                lambda: job.poll() is not None or (bool(nodes.events(WORKER)) and bool(nodes.events(HEAD)))
            )
        try:
            wait_for(lambda: job.poll() is not None or _completed(nodes, WORKER))
            assert job.poll() is None, job.communicate()[0]
            nodes.kill(WORKER)
            output = job.communicate(timeout=PATIENCE)[0]
        finally:
            job.kill()
            job.communicate()
        assert job.returncode == 0, output
        assert _completed(nodes, HEAD)
        assert any(nodes.cache(WORKER).glob("images/*/*"))
    found = run_query(bucket, "SELECT DISTINCT weights_digest FROM measurements").column(0).to_pylist()
    expected = run_query(reference, "SELECT DISTINCT weights_digest FROM measurements").column(0).to_pylist()
    assert set(found) == set(expected)
    assert_same_rows(reference, Store(bucket).root)
    assert verify(bucket).faults == ()


def _completed(nodes: Cluster, host: str) -> bool:
    """Whether a node has computed a part of a trial."""
    return any(event["event"] in ("shard complete", "measure complete") for event in nodes.events(host))
