"""What is seen of a sweep on a real cluster of two nodes: logs of its trials, metrics, use of its nodes."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster_support import PATIENCE, Cluster, cluster

from hushsweep.dashboards import run_query

COMMAND = (sys.executable, "-m", "hushsweep.sweeps")
HEAD, WORKER = "127.0.0.2", "127.0.0.3"
SWEEP = """
name: seen
dataset: {name: digits, limit: 60}
model: {name: digits_mlp, weights: random, seed: [0, 1, 2]}
mechanism: {name: gaussian, noise_scale: [0.5, 2]}
measures:
  - {name: accuracy, draws: 2}
  - {name: hcr, images: 60, restarts: 8, rounds: 4, low_frequency: 3}
device: cpu
execution: {shards: 12, cpus_per_trial: 1, threads: 1}
"""
TRIALS = 3 * 12


@dataclass(frozen=True)
class Seen:
    """A cluster on which a sweep has run."""

    nodes: Cluster
    results: Path
    output: str
    left: float | None


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("seen")
    (folder / "seen.yaml").write_text(SWEEP)
    results = folder / "results"
    with cluster() as nodes:
        nodes.start_node(WORKER)
        nodes.wait_for_node(WORKER)
        done = subprocess.run(
            [*COMMAND, "run", "seen.yaml", "--results", results, "--no-mlflow", "--address", nodes.address],
            cwd=folder,
            env={**os.environ, **nodes.secrets},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout
        yield Seen(nodes, results, done.stdout, left_of(nodes))


def left_of(nodes: Cluster) -> float | None:
    """How many trials are left as the driver told: gone soon after the driver, unlike what is counted."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for (name, _), value in samples(nodes).items():
            if name == "hushsweep_trials_left":
                return value
        time.sleep(0.5)
    return None


def samples(nodes: Cluster) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Our metrics by name and labels, summed over nodes and workers."""
    found = Counter[tuple[str, tuple[tuple[str, str], ...]]]()
    for target in nodes.targets():
        with urllib.request.urlopen(f"http://{target}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        for name, labels, value in re.findall(r"^ray_(hushsweep_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
            own = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            tags = tuple((key, own[key]) for key in ("sweep", "model", "measure", "le") if key in own)
            found[name, tags] += float(value)
    return found


def test_logs_name_points_on_every_node(seen: Seen) -> None:
    assert "trial_id" not in seen.output
    found = seen.nodes.events()
    assert Counter(line["event"] for line in found if line["event"].startswith("trial")) == {
        "trial began": TRIALS,
        "trial ended": TRIALS,
    }
    rows = run_query(
        seen.results,
        "SELECT point_id, measure, node, worker, count(*) AS rows FROM measurements GROUP BY ALL",
    )
    for row in rows.to_pylist():
        mine = [line for line in found if row["point_id"] in line["point_ids"]]
        assert {line["shard"] for line in mine if line["event"] == "trial began"} == set(range(12))
        done = [line for line in mine if line["event"] == "measure complete"]
        assert (row["measure"], row["node"], row["worker"], 2 * row["rows"]) in {
            (line["measure"], line["node"], line["worker"], line["rows"]) for line in done
        }
    for line in found:
        assert {"time", "level", "event", "trial_id", "shard", "shards", "worker", "seconds"} <= line.keys()


def test_metrics_of_the_nodes_equal_the_rows(seen: Seen) -> None:
    rows = run_query(
        seen.results,
        "SELECT measure, count(DISTINCT point_id) AS points FROM measurements WHERE status = 'complete' GROUP BY ALL",
    ).to_pylist()
    trial = (("sweep", "seen"), ("model", "digits_mlp"))
    wanted = {
        ("hushsweep_measures_complete_total", (*trial, ("measure", row["measure"]))): row["points"]
        for row in rows
    }
    wanted["hushsweep_trial_seconds_count", trial] = TRIALS
    deadline = time.monotonic() + 60
    while not wanted.items() <= (found := samples(seen.nodes)).items():
        assert time.monotonic() < deadline, {
            name: value for name, value in found.items() if "le" not in dict(name[1])
        }
        time.sleep(1)
    assert found["hushsweep_images_total", trial] >= 3 * 60
    assert seen.left == 0


def test_status_says_what_the_nodes_did(seen: Seen) -> None:
    """Without the cluster's address or token."""
    command = [*COMMAND, "status", "seen", "--results", seen.results]
    shown = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"})
    assert shown.returncode == 0, shown.stderr
    assert max(map(len, shown.stdout.splitlines())) <= 80
    (found,) = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True).stdout)
    rows = run_query(
        seen.results,
        "SELECT node, count(DISTINCT (point_id, measure)) AS done, count(DISTINCT worker) AS workers "
        "FROM measurements GROUP BY node",
    ).to_pylist()
    assert {(use["node"], use["done"], use["workers"]) for use in found["nodes"]} == {
        tuple(row.values()) for row in rows
    }
    for use in found["nodes"]:
        assert f"({HEAD})" in use["node"] or f"({WORKER})" in use["node"]
        assert use["images_per_second"] > 0
        assert f"{use['images_per_second']:.0f}" in shown.stdout
