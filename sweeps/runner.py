"""What the local runner and the Ray driver have in common."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hushsweep.sweeps.search.judge import Judge
from hushsweep.sweeps.spec import ExecutionSpec
from hushsweep.workers.progress import Report
from hushsweep.workers.trial import Trial


@dataclass(frozen=True, kw_only=True)
class RunnerOptions:
    """How a sweep's trials are to run."""

    execution: ExecutionSpec
    address: str | None = None
    """Of a running Ray cluster; None starts one on this machine."""
    git_commit: str | None = None
    judge: Judge | None = None
    """Stops trainings early; None lets all of them run to their ends."""


class Runner(Protocol):
    """Runs trials; returns when all ended or an interrupt stopped them. Rows are in the store, nowhere else."""

    def __call__(
        self, trials: Sequence[Trial], *, results: Path, options: RunnerOptions, report: Report
    ) -> None:
        """Run them."""
        ...


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
        return None
    return commit.stdout.strip() + ("+" if changes.stdout.strip() else "")
