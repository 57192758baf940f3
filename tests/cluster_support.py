"""A Ray cluster of real processes on this machine: every node has a loopback address and a folder of its own."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

PATIENCE = 400


class Cluster:
    """Nodes with so many CPUs each, a token, and the dashboard on loopback."""

    def __init__(self, python: str, cpus: int = 1, **environment: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hs"))  # short: the names of Ray's sockets have to fit
        self.token = self.folder / "token"
        self.token.touch(mode=0o600)
        self.token.write_text("0123456789abcdef" * 4)
        self._python, self._cpus, self._environment = python, cpus, environment
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._port, self._dashboard = free_port("127.0.0.2"), free_port("127.0.0.1")
        self.address = f"127.0.0.2:{self._port}"
        self.dashboard = f"http://127.0.0.1:{self._dashboard}"

    @property
    def secrets(self) -> dict[str, str]:
        """What a user of the cluster has in the environment."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}

    def start_head(self) -> None:
        self._start(
            "127.0.0.2",
            *("--head", f"--port={self._port}", f"--ray-client-server-port={free_port('127.0.0.2')}"),
            *(
                "--include-dashboard=true",
                "--dashboard-host=127.0.0.1",
                f"--dashboard-port={self._dashboard}",
            ),
        )
        self._wait(lambda: answers(self.dashboard))

    def start_node(self, host: str, **environment: str) -> None:
        self._start(host, f"--address={self.address}", **environment)

    def _start(self, host: str, *options: str, **environment: str) -> None:
        outside = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self._nodes[host] = subprocess.Popen(
            [
                *(self._python, "-m", "ray.scripts.scripts", "start", "--block", *options),
                *(f"--node-ip-address={host}", f"--num-cpus={self._cpus}", "--object-store-memory=157286400"),
                *(f"--temp-dir={self.folder / host}", "--min-worker-port=0", "--max-worker-port=0"),
                f"--dashboard-agent-listen-port={free_port(host)}",
            ],
            stdout=(self.folder / f"{host}.log").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **outside,
                "PATH": f"{Path(self._python).parent}:{os.environ['PATH']}",
                "RAY_USAGE_STATS_ENABLED": "0",
                # else other tests leave a node that still imports torch no processor, and the first does all the work
                "RAY_worker_niceness": "0",
                "OMP_NUM_THREADS": "1",
                "HUSHSWEEP_CACHE": str(self.cache(host)),
                **self.secrets,
                **self._environment,
                **environment,
            },
        )

    def wait_for_node(self, host: str) -> None:
        """Wait until a node has joined."""
        self._wait(lambda: any(target.startswith(f"{host}:") for target in self.targets()))

    def targets(self) -> list[str]:
        """Where the nodes' metrics are, as Ray writes it for Prometheus."""
        file = self.folder / self.address.split(":")[0] / "prom_metrics_service_discovery.json"
        file = file if file.exists() else file.parent / "session_latest" / file.name
        if not file.exists():
            return []
        return [target for job in json.loads(file.read_text()) for target in job["targets"]]

    def events(self, host: str = "*") -> list[dict[str, Any]]:
        """What trials told the logs of Ray's workers, on one node or on all; a line that is being written is left."""
        files = self.folder.glob(f"{host}/session_latest/logs/worker-*.err")
        lines = [line for file in files for line in file.read_text().splitlines(keepends=True)]
        return [json.loads(line) for line in lines if '"trial_id"' in line and line.endswith("\n")]

    def cache(self, host: str) -> Path:
        """What a node keeps on a disk of its own."""
        return self.folder / f"{host}-cache"

    def processes(self, host: str) -> list[psutil.Process]:
        """Processes of a node; those that end while we look are left out."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._nodes[host].pid)
            return [root, *root.children(recursive=True)]
        return []

    def trials(self, host: str) -> list[psutil.Process]:
        """The node's workers that are at a trial."""
        found = []
        for process in self.processes(host):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "ray::ImplicitFunc" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def runs_trial(self, host: str) -> bool:
        """Whether a worker of the node is at a trial."""
        return bool(self.trials(host))

    def hold(self, host: str) -> bool:
        """Let the node's workers at trials stand still, so that another node gets work; say whether there are any."""
        found = self.trials(host)
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        return bool(found)

    def release(self, host: str) -> None:
        """Let them go on."""
        for process in self.trials(host):
            process.resume()

    def kill(self, host: str) -> None:
        """Kill all processes of a node, as a power cut would."""
        for process in self.processes(host):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._nodes.pop(host).wait(timeout=60)

    def _wait(self, condition) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            for host, process in self._nodes.items():
                log = self.folder / f"{host}.log"
                assert process.poll() is None, f"{host} ended:\n{log.read_text()}"
            assert time.monotonic() < deadline, "the cluster does not come up"
            time.sleep(0.2)

    def close(self) -> None:
        for host in list(self._nodes):
            self.kill(host)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def cluster(python: str = sys.executable, *, cpus: int = 1, **environment: str) -> Iterator[Cluster]:
    """A head; nodes are added, and all is killed at the end, whatever happens."""
    started = Cluster(python, cpus, **environment)
    try:
        started.start_head()
        yield started
    finally:
        started.close()


def wait_for(condition: Callable[[], bool]) -> None:
    """Look until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


def free_port(host: str) -> int:
    """A port that is free now."""
    with socket.socket() as listening:
        listening.bind((host, 0))
        port: int = listening.getsockname()[1]
    return port


def answers(address: str) -> bool:
    """Whether the dashboard answers, if only that it wants a token."""
    try:
        urllib.request.urlopen(f"{address}/api/version", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
