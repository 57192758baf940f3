"""What the local runner and the Ray driver have in common."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hushsweep.sweeps.search.judge import Judge
from hushsweep.sweeps.spec import ExecutionSpec
from hushsweep.workers.progress import Report
from hushsweep.workers.trial import Trial

COMMIT_VARIABLE = "HUSHSWEEP_COMMIT"
"""Names the commit where hushsweep came along with a job, out of the checkout that it was submitted from."""


@dataclass(frozen=True, kw_only=True)
class RunnerOptions:
    """How a sweep's trials are to run."""

    execution: ExecutionSpec
    address: str | None = None
    """Of a running Ray cluster; None starts one on this machine."""
    git_commit: str | None = None
    sweep: str = ""
    """Its name, for metrics."""
    judge: Judge | None = None
    """Stops trainings early; None lets all of them run to their ends."""


class Runner(Protocol):
    """Runs trials; returns when all ended or an interrupt stopped them. Rows are in the store, nowhere else."""

    def __call__(
        self, trials: Sequence[Trial], *, results: Path, options: RunnerOptions, report: Report
    ) -> None:
        """Run them."""
        ...


def places_of(execution: ExecutionSpec, cpus: float, gpus: float) -> float:
    """Return how many trials so many CPUs and GPUs run at once."""
    asked = execution.gpus_per_trial
    if asked == "auto":
        asked = 1.0 if gpus else 0.0
    each = 1.0 if execution.cpus_per_trial == "auto" else execution.cpus_per_trial
    places = gpus / asked if asked else cpus / each
    return min(places, execution.max_concurrent_trials or places)


def places_here(execution: ExecutionSpec) -> float:
    """Return how many trials this machine runs at once."""
    import torch

    return places_of(execution, float(os.cpu_count() or 1), float(torch.cuda.device_count()))


def git_commit() -> str | None:
    """Return the commit of the checkout that hushsweep runs from, with ``+`` where it has changes; else None."""
    file = Path(__file__)
    git = ["git", "-C", str(file.parent)]
    try:
        # installed into somebody else's checkout, this file is not one that git tracks
        subprocess.run([*git, "ls-files", "--error-unmatch", file.name], capture_output=True, check=True)  # noqa: S603
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)  # noqa: S603
        changes = subprocess.run(  # noqa: S603
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get(COMMIT_VARIABLE)
    return commit.stdout.strip() + ("+" if changes.stdout.strip() else "")
