"""Planning 100,000 points: without a store, against one that holds half of them, and at the beginning of a run.

python benchmarks/planning.py [--seeds 50]

Every case is a process of its own; memory is the kernel's high-water mark of what it had resident.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import print_machine, scratch
from rows import write_rows

from hushsweep.datasets.results import Store
from hushsweep.sweeps import plan, run
from hushsweep.sweeps.planner import Plan

SWEEP = """
name: many
seed: {seeds}
dataset: {{name: digits}}
model:
  - {{name: digits_mlp, weights: random, seed: [0, 1]}}
  - {{name: conv5, weights: random}}
mechanism:
  - {{name: none}}
  - {{name: gaussian, noise_scale: {levels}}}
  - {{name: laplace, noise_scale: {levels}}}
  - {{name: ani, penalty: {penalties}, epochs: 1}}
measures:
  - {{name: accuracy, draws: 5}}
  - {{name: bounds}}
"""
TARGET = "target < 30 s and < 2 GiB"
COMMAND = [sys.executable, "-m", "hushsweep.sweeps", "plan"]


class Cost(NamedTuple):
    """What a process took: wall-clock seconds, seconds of CPU, GiB resident at most."""

    seconds: float
    cpu: float
    memory: float


def sweep_text(seeds: int) -> str:
    """A sweep of 3 * (seeds * 667 + 1) points, of which 51 per seed learn and are trials of their own."""
    levels, penalties = (
        [float(f"{level:.6g}") for level in np.geomspace(0.01, 100, count)] for count in (325, 17)
    )
    return SWEEP.format(seeds=list(range(seeds)), levels=levels, penalties=penalties)


def cost(command: list[str], output: Path) -> Cost:
    """Run a command with its output in a file."""
    started = time.perf_counter()
    with output.open("wb") as stream:
        child = os.posix_spawn(
            command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, stream.fileno(), 1)]
        )
        _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed; its output is in {output}")
    return Cost(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)


def fill_half(spec: Path, results: Path) -> tuple[int, int]:
    """Write the rows of every other point; return how many files and rows."""
    store, files, rows = Store(results), 0, 0
    for number, trial in enumerate(plan(spec, results=results).shard_trials()):
        chosen = trial.points[number % 2 :: 2]
        if chosen:
            more_files, more_rows = write_rows(store, trial, chosen)
            files, rows = files + more_files, rows + more_rows
    return files, rows


def record(spec: Path, results: Path) -> None:
    """Begin a run, and interrupt it as soon as its points are recorded."""
    started = time.perf_counter()

    @contextlib.contextmanager
    def stop(planned: Plan) -> Iterator[None]:
        print(f"{time.perf_counter() - started:.1f}")
        raise KeyboardInterrupt
        yield

    run(spec, results=results, local=True, mirror=False, watch=stop)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=50, help="1 is 2,004 points")
    parser.add_argument("--record", nargs=2, type=Path)
    options = parser.parse_args()
    if options.record:
        record(*options.record)
        return
    print_machine()
    with scratch() as name:
        folder = Path(name)
        spec, results, output = folder / "many.yaml", folder / "results", folder / "output"
        spec.write_text(sweep_text(options.seeds))

        def show(what: str, command: list[str]) -> None:
            found = cost([*command], output)
            print(
                f"{what}: {found.seconds:.1f} s ({found.cpu:.1f} of CPU), {found.memory:.2f} GiB ({TARGET})"
            )

        show("importing alone", [sys.executable, "-c", "import hushsweep.sweeps.session"])
        show("plan, no store", [*COMMAND, str(spec), "--results", str(results)])
        show("plan --json, no store", [*COMMAND, str(spec), "--results", str(results), "--json"])
        planned = json.loads(output.read_text())
        points, trials = len(planned["points"]), len(planned["trials"])
        print(f"  {points:,} points, {trials:,} trials, {output.stat().st_size / 1e6:.0f} MB")
        del planned
        show("begin of a run, no store", [sys.executable, __file__, "--record", str(spec), str(results)])
        kept = (results / "sweeps" / "many" / "plan.json").stat().st_size
        print(f"  {output.read_text().strip()} s until its trials were known; plan.json {kept / 1e6:.0f} MB")
        files, rows = fill_half(spec, results)
        print(f"store with half of them: {files:,} files, {rows:,} rows")
        show("plan, half there", [*COMMAND, str(spec), "--results", str(results)])
        show("begin of a run, half there", [sys.executable, __file__, "--record", str(spec), str(results)])
        print(f"  {output.read_text().strip()} s until its trials were known")


if __name__ == "__main__":
    main()
