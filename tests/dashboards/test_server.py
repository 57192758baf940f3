"""The MLflow UI as it is really started: on loopback, for those alone who call it by a name of this machine."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import psutil
import pytest

from hushsweep.dashboards.server import ui_command
from hushsweep.datasets.results import Store

TRAP = "from pathlib import Path\nPath(__file__).with_name('imported').touch()\n"


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, port: int) -> "Iterator[subprocess.Popen[bytes]]":
    folder = tmp_path_factory.mktemp("server")
    Store(folder / "results")
    for name in ("mlflow", "uvicorn"):
        (folder / f"{name}.py").write_text(TRAP)
    command, environment = ui_command(folder / "results", port)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while answer_to(port, f"127.0.0.1:{port}") is None:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.3)
        yield process
        assert not (folder / "imported").exists(), "something was imported from the working folder"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answer_to(port: int, host: str, origin: str | None = None) -> int | None:
    """Status of a request for the experiments; None while nothing answers."""
    headers = {"Host": host, "Content-Type": "application/json"} | ({"Origin": origin} if origin else {})
    address = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search"
    request = urllib.request.Request(address, data=b'{"max_results": 1}', headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def test_the_ui_answers_this_machine_alone(server: "subprocess.Popen[bytes]", port: int) -> None:
    assert answer_to(port, f"127.0.0.1:{port}") == 200
    assert answer_to(port, f"localhost:{port}") == 200
    for host in ("evil.example", f"evil.example:{port}", "192.168.0.7", "127.0.0.1.evil.example"):
        assert answer_to(port, host) == 403, f"a page whose name leads here: {host}"
    assert answer_to(port, f"127.0.0.1:{port}", origin="http://evil.example") == 403
    everything = [server.pid, *(child.pid for child in psutil.Process(server.pid).children(recursive=True))]
    listening = [
        connection.laddr.ip
        for pid in everything
        for connection in psutil.Process(pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}
