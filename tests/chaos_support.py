"""A sweep on a real cluster whose processes are killed at random, and what of its rows is wrong afterwards.

Only processes of the cluster and the driver that were started here are ever killed: each is found by its parent.
"""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from cluster_support import Cluster
from rows_support import DIAGNOSTICS, VIEWS, same

from hushsweep.dashboards import run_query
from hushsweep.datasets.results import PROVENANCE_COLUMNS

SWEEP = """
name: chaos
dataset: {name: digits, limit: 60}
model: {name: digits_mlp, weights: random, seed: [0, 1, 2]}
mechanism:
  - {name: none}
  - {name: gaussian, noise_scale: [0.5, 2]}
  - {name: laplace, noise_scale: [0.5, 2]}
  - {name: trained_gaussian, noise_scale: 1, epochs: 2}
measures:
  - {name: accuracy, draws: 2}
  - {name: hcr, images: 12, restarts: 4, rounds: 4, low_frequency: 3}
device: cpu
execution: {shards: 2, cpus_per_trial: 1, threads: 1, max_failures: 3}
"""
KINDS = ("worker", "worker", "node", "driver", "mirror")
"""Every so many kills, in a random order, have so many of each kind."""
RAW = ("measurements", "per_image_accuracy", "per_image_hcr")
PATIENCE = 900


@dataclass(frozen=True)
class Kill:
    """One process, or all of a node, that was killed."""

    kind: str
    pid: int
    seconds: float
    """Since the beginning."""


@dataclass
class Findings:
    """What differs from the rows of an undisturbed run; counts of rows."""

    expected: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    runs_doubled: int = 0
    """MLflow runs of a curve that has another one."""
    runs_lost: int = 0
    examples: list[Any] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        return self.lost + self.doubled + self.different + self.runs_doubled + self.runs_lost


class Chaos:
    """Runs a sweep again and again on a cluster, killing what it can find of it."""

    def __init__(
        self, cluster: Cluster, sweep: Path, seed: int, say: Callable[[str], None] = lambda text: None
    ):
        self._cluster, self._sweep, self._say = cluster, sweep, say
        self._random = random.Random(seed)
        self._kinds = self._sequence()
        self._kind = next(self._kinds)
        self._hosts = [f"127.0.0.{number}" for number in (3, 4)]
        self._started, self._next_host = time.monotonic(), 5
        self.kills: list[Kill] = []

    def start_nodes(self) -> None:
        """Beside the head."""
        for host in self._hosts:
            self._cluster.start_node(host)

    def run(self, results: Path, kills: int) -> None:
        """Run the sweep once with up to so many kills, resubmitting it; then undisturbed to its end."""
        driver, done = self._drive(results), len(self.kills) + kills
        while len(self.kills) < done and driver.poll() is None:
            if not self._victims(self._kind, driver):
                time.sleep(0.05)
                continue
            time.sleep(self._random.uniform(0.2, 2.0))
            if driver.poll() is not None or not self._kill(self._kind, driver):
                continue
            if self._kind == "driver":
                driver.wait()
                driver = self._drive(results)
            self._kind = next(self._kinds)
        code = driver.wait(PATIENCE)
        assert code in (0, 1), f"the driver ended with {code}:\n{self._log(results)}"
        code = self._drive(results).wait(PATIENCE)
        assert code == 0, self._log(results)

    def _sequence(self) -> Iterator[str]:
        while True:
            yield from self._random.sample(KINDS, len(KINDS))

    def _drive(self, results: Path) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "hushsweep.sweeps", "run", str(self._sweep)]
        command += ["--results", str(results), "--address", self._cluster.address]
        with results.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=results.parent,
                env={**os.environ, **self._cluster.secrets, "OMP_NUM_THREADS": "1"},
            )

    def _victims(self, kind: str, driver: "subprocess.Popen[bytes]") -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            if kind == "driver":
                return [psutil.Process(driver.pid)] if self._at_work() else []
            if kind == "mirror":
                children = psutil.Process(driver.pid).children()
                return [child for child in children if "hushsweep.dashboards.tracking" in child.cmdline()]
            if kind == "worker":
                return self._at_work()
            busy = [host for host in self._hosts if self._cluster.runs_trial(host)]
            hosts = busy or (self._hosts if self._at_work() else [])
            return [process for host in hosts for process in self._cluster.processes(host)[:1]]
        return []

    def _at_work(self) -> list[psutil.Process]:
        """Processes that run a trial, on any node."""
        found = []
        for host in ("127.0.0.2", *self._hosts):
            for process in self._cluster.processes(host):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "ray::ImplicitFunc" in " ".join(process.cmdline()):
                        found.append(process)
        return found

    def _kill(self, kind: str, driver: "subprocess.Popen[bytes]") -> bool:
        victims = self._victims(kind, driver)
        if not victims:
            return False
        victim = self._random.choice(victims)
        if kind == "node":
            host = next(host for host in self._hosts if self._cluster.processes(host)[:1] == [victim])
            self._cluster.kill(host)
            self._hosts[self._hosts.index(host)] = new = f"127.0.0.{self._next_host}"
            self._next_host += 1
            self._cluster.start_node(new)
        else:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.send_signal(signal.SIGKILL)
        self.kills.append(Kill(kind, victim.pid, time.monotonic() - self._started))
        self._say(f"{self.kills[-1].seconds:7.1f} s  killed {kind} {victim.pid}")
        return True

    @staticmethod
    def _log(results: Path) -> str:
        return results.with_suffix(".log").read_text(errors="replace")[-4000:]


def compare(reference: Path, results: Path) -> Findings:
    """Hold all rows that count, and the MLflow runs, against those of an undisturbed run."""
    found = Findings()
    for view, key in VIEWS.items():
        expected, there = _keyed(reference, view, key), _keyed(results, view, key)
        found.expected += sum(map(len, expected.values()))
        for identity in expected.keys() | there.keys():
            mine, theirs = expected.get(identity, []), there.get(identity, [])
            found.lost += max(0, len(mine) - len(theirs))
            found.doubled += max(0, len(theirs) - len(mine))
            if mine and theirs and not all(same(mine[0][name], theirs[0][name]) for name in mine[0]):
                found.different += 1
                found.examples.append((view, identity))
    found.doubled += sum(_doubled_on_disk(results, table) for table in RAW)
    curves = run_query(results, "SELECT count(DISTINCT curve_id) AS n FROM measurements").to_pylist()[0]["n"]
    runs, different = _mlflow_runs(results)
    found.runs_doubled, found.runs_lost = runs - different, curves - different
    return found


def _keyed(results: Path, view: str, key: tuple[str, ...]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    table = run_query(results, f"FROM {view}")
    left_out = {*PROVENANCE_COLUMNS, *DIAGNOSTICS, "sweep"}
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in table.select([name for name in table.column_names if name not in left_out]).to_pylist():
        rows.setdefault(tuple(row[name] for name in key), []).append(row)
    return rows


def _doubled_on_disk(results: Path, table: str) -> int:
    """Rows of one computation that stand twice in the files as they lie on the disk."""
    key = ["computed_by", *VIEWS[table]]
    rows = run_query(
        results, f"SELECT {', '.join(key)} FROM raw_{table} WHERE status <> 'failed'"
    ).to_pylist()
    return sum(count - 1 for count in Counter(tuple(row.values()) for row in rows).values())


def _mlflow_runs(results: Path) -> tuple[int, int]:
    """Runs that are there and not deleted, and the different curves among them."""
    with closing(sqlite3.connect(f"file:{results}/mlflow.db?mode=ro", uri=True)) as database:
        count = (
            "SELECT count(*), count(DISTINCT value) FROM runs JOIN tags USING (run_uuid) "
            "WHERE key = 'hushsweep.curve_id' AND lifecycle_stage = 'active'"
        )
        runs, different = database.execute(count).fetchone()
    return int(runs), int(different)
