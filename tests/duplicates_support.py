"""Evaluates trials in a process of its own, at the same moment as another one does."""

from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch

from hushsweep.sweeps.planner import make_plan
from hushsweep.sweeps.resolve import resolve
from hushsweep.sweeps.source import parse_source
from hushsweep.sweeps.spec import SweepSpec
from hushsweep.workers import evaluate as module
from hushsweep.workers.trial import Execution, Trial

SWEEP = """
name: twice
dataset: {{name: digits, limit: 24}}
model: {{name: digits_mlp, weights: random}}
mechanism: {{name: gaussian, noise_scale: [0.5, 2]}}
measures:
  - {{name: accuracy, draws: 2}}
  - {{name: hcr, images: 4, restarts: 2, rounds: 1, low_frequency: 3}}
device: cpu
execution: {{shards: {shards}}}
"""


def trials(shards: int) -> list[Trial]:
    """All shards of one trial."""
    source = parse_source(SWEEP.format(shards=shards), folder=Path("/"))
    spec = SweepSpec.from_source(source)
    return make_plan(spec.name, resolve(spec, source), set(), shards=shards).shard_trials()


def deliver(
    stores: list[Path], shards: list[int], backwards: bool, together: Barrier, computed: "Queue[list[bool]]"
) -> None:
    """Evaluate every shard into each store; tell which rows this process computed, in the order of the names."""
    torch.set_num_threads(1)
    noted: list[bool] = []
    original = module.write_shard

    def write_shard(*arguments: Any) -> bool:
        noted.append(original(*arguments))
        return noted[-1]

    module.write_shard = write_shard
    for store, count in zip(stores, shards, strict=True):
        together.wait(400)
        for trial in sorted(trials(count), key=lambda trial: trial.shard, reverse=backwards):
            module.evaluate(trial, results=store, execution=Execution())
    computed.put(noted)
