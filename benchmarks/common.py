"""What the benchmarks share: the data root, trials from the text of a sweep, and the machine in a line."""

import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import torch

from hushsweep.sweeps.planner import make_plan
from hushsweep.sweeps.resolve import resolve
from hushsweep.sweeps.source import parse_source
from hushsweep.sweeps.spec import SweepSpec
from hushsweep.workers.devices import device_name
from hushsweep.workers.trial import Trial


def data_root() -> Path:
    """Return the folder with real data sets; end with the reason where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("HUSHSWEEP_DATA", beside))
    if not root.is_dir():
        sys.exit(f"skipped: no real data sets at {root}; set HUSHSWEEP_DATA")
    return root


def trials_of(text: str) -> list[Trial]:
    """Plan the text of a sweep against an empty store."""
    source = parse_source(text, folder=Path("/"))
    spec = SweepSpec.from_source(source)
    return make_plan(spec.name, resolve(spec, source), set(), shards=spec.execution.shards).shard_trials()


def scratch() -> "tempfile.TemporaryDirectory[str]":
    """Return a temporary folder for results."""
    return tempfile.TemporaryDirectory(prefix="hushsweep-benchmark-")


def print_machine() -> None:
    """Say what the numbers were measured on."""
    load = os.getloadavg()[0]
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {device_name('cpu')}, {os.cpu_count()} cores, torch {torch.__version__}, "
        f"Python {platform.python_version()}, load {load:.1f}"
    )
