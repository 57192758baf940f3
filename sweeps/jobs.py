"""Our jobs on a Ray cluster: which there are, what they print, how one ends."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hushsweep.sweeps.address import check_token, has_token
from hushsweep.sweeps.errors import RunError

SWEEP_KEY = "hushsweep_sweep"
"""Key of a job's metadata under which the sweep's name stands."""
STOP_PATIENCE = 60
"""Seconds that a job gets to end by itself once it is to stop; after that Ray kills it."""
_ANSWER_PATIENCE = 15.0
"""Seconds in which a cluster has to answer at all; Ray itself would wait for minutes."""
_RETRY_PATIENCE = 60.0
"""Seconds for which a lost connection to a job's log is tried again."""
_ENDED = {"SUCCEEDED", "FAILED", "STOPPED"}
_CHATTY = (
    "ray.dashboard.modules.job.sdk",
    "ray.dashboard.modules.dashboard_sdk",
    "ray._private.runtime_env.packaging",
)
INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Job:
    """One of our jobs on a cluster."""

    job: str
    sweep: str
    state: str
    """Ray's word: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    since: datetime | None
    """When it was submitted, in local time."""
    exit_code: int | None
    """0 all done, 1 something failed or is missing, 2 the input was wrong, 130 stopped; None while it runs."""


class Jobs:
    """The jobs of one cluster.

    Raises:
        RunError: no token is set, the address is none, nothing answers there, the token is not accepted, or Ray lacks
            what speaks to its job server.
    """

    def __init__(self, address: str, *, insecure: bool = False) -> None:
        check_token(insecure=insecure)
        self.address = _check_address(address)
        if has_token():
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when Ray is imported
        _check_extra()
        _check_answer(self.address)
        from ray.job_submission import JobSubmissionClient

        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
            os.environ.pop(name, None)  # they would win over the address that was given
        with self.asking():
            self.client: Any = JobSubmissionClient(self.address)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Say in one sentence what the cluster refuses."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise RunError(
                f"--address {self.address}: the cluster does not accept this token; set RAY_AUTH_TOKEN_PATH to a copy "
                "of the token file that the cluster was started with"
            ) from error
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            text = " ".join(str(error).split())[:300].rstrip(".")
            raise RunError(
                f"--address {self.address}: the job server answers: {text}; is it the dashboard of a Ray cluster, and "
                "the job one of 'hushsweep jobs'?"
            ) from error

    def ours(self) -> list[Job]:
        """Return our jobs, the newest first; jobs of other programs are left out."""
        with self.asking():
            found = self.client.list_jobs()
        ours = [_job(details) for details in found if SWEEP_KEY in (details.metadata or {})]
        return sorted(ours, key=lambda job: job.since.timestamp() if job.since else 0.0, reverse=True)

    def get(self, job: str) -> Job:
        """Return one job."""
        with self.asking():
            return _job(self.client.get_job_info(job))

    def log(self, job: str) -> str:
        """Return what a job has printed."""
        with self.asking():
            text: str = self.client.get_job_logs(job)
        return text

    def follow(self, job: str, write: Callable[[str], None]) -> Job:
        """Pass on what a job prints until it ends; a connection that is lost is made again."""
        from aiohttp import ClientError

        log, lost = _Log(write), None
        while True:
            try:
                ended = self.get(job).state in _ENDED  # asked first: what is read afterwards is the whole log
                asyncio.run(log.read(self.client, job))
                if ended:
                    return self.get(job)
                lost = None
            except (ClientError, OSError, RuntimeError, RunError) as error:
                lost = lost or time.monotonic()
                if time.monotonic() - lost > _RETRY_PATIENCE:
                    raise RunError(
                        f"--address {self.address}: the connection to {job} is lost: {error}; the job may go on: "
                        f"hushsweep logs {job} --address {self.address}"
                    ) from error
            time.sleep(0.5)

    def stop(self, job: str) -> Job:
        """End a job as Ctrl-C would, and wait until it has ended."""
        with self.asking():
            self.client.stop_job(job)
        deadline = time.monotonic() + STOP_PATIENCE + 30
        while (found := self.get(job)).state not in _ENDED and time.monotonic() < deadline:
            time.sleep(0.5)
        return found


class _Log:
    """A job's log, which starts over with every connection: what was passed on is not passed on again."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._seen = 0

    async def read(self, client: Any, job: str) -> None:
        position = 0
        async for text in client.tail_job_logs(job):
            fresh = text[max(0, self._seen - position) :]
            position += len(text)
            self._seen = max(self._seen, position)
            if fresh:
                self._write(fresh)


def _check_address(address: str) -> str:
    if not address.startswith(("http://", "https://")):
        raise RunError(
            f"--address {address}: expected the dashboard of the cluster's head node, http://HEAD:8265; an address of "
            "Ray itself is for 'hushsweep run'"
        )
    return address.rstrip("/")


def _check_extra() -> None:
    """Refuse a Ray without what its job server is spoken to with."""
    if any(importlib.util.find_spec(name) is None for name in ("aiohttp", "aiohttp_cors", "requests")):
        raise RunError(
            "jobs need ray[default], and Ray is installed without it: pip install 'hushsweep[cluster]'"
        )


def _check_answer(address: str) -> None:
    try:
        with urlopen(f"{address}/api/version", timeout=_ANSWER_PATIENCE):  # noqa: S310  # http or https: checked
            pass
    except HTTPError:
        return  # it answers; what it wants is the client's business
    except (OSError, ValueError, HTTPException) as error:
        raise RunError(
            f"--address {address}: no Ray dashboard answers there: {getattr(error, 'reason', error)}; is the cluster "
            "up, started with --include-dashboard=true, and reachable (ssh -L 8265:127.0.0.1:8265 HEAD)?"
        ) from error


def _job(details: Any) -> Job:
    state = str(details.status.value)
    code = {"SUCCEEDED": 0, "STOPPED": INTERRUPTED, "FAILED": details.driver_exit_code}.get(state)
    if state == "FAILED" and code not in (1, 2, INTERRUPTED):
        code = 1  # it was killed, or never began
    return Job(
        job=details.submission_id or details.job_id,
        sweep=(details.metadata or {}).get(SWEEP_KEY, "-"),
        state=state,
        since=datetime.fromtimestamp(details.start_time / 1000).astimezone() if details.start_time else None,
        exit_code=code,
    )


def print_jobs(jobs: Sequence[Job], console: Console) -> None:
    """Print the jobs of a cluster."""
    table = Table("job", "sweep", "state", "since")
    for job in jobs:
        since = f"{job.since:%Y-%m-%d %H:%M}" if job.since else "-"
        table.add_row(escape(job.job), escape(job.sweep), job.state.lower(), since)
    console.print(table if jobs else "no sweep has been a job of this cluster")
