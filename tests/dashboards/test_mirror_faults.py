"""A real MLflow server is killed while two mirrors write to it at once: one run per curve, and every row in it."""

import subprocess
import time
from pathlib import Path

from tests.dashboards.conftest import fill_folder
from tests.dashboards.test_tracking import COMMAND, assert_equals_rows, free_port, runs_of, server


def test_two_mirrors_at_once_on_a_server_that_is_killed_double_no_run(tmp_path: Path) -> None:
    store, port = fill_folder(tmp_path / "results"), free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [*COMMAND, "--results", str(store.root), "--tracking-uri", uri]
    with server(tmp_path / "server", port):
        mirrors = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(2)
        ]
        deadline = time.monotonic() + 200
        while not runs_of(uri, "both"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    outputs = [mirror.communicate(timeout=200)[0] for mirror in mirrors]
    # the second waits some seconds for the first, and is refused or finds no server either
    said = {1: "the rows are safe, mirror again later", 2: "is in use by process"}
    assert {mirror.returncode for mirror in mirrors} in ({1}, {1, 2}), outputs
    for mirror, output in zip(mirrors, outputs, strict=True):
        assert said[mirror.returncode] in output
    with server(tmp_path / "server", port):
        again = subprocess.run(command, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        for sweep in ("both", "small"):
            assert_equals_rows(store, uri, sweep)
        assert subprocess.run(command, capture_output=True).returncode == 0
        assert sum(len(runs_of(uri, sweep)) for sweep in ("both", "small")) == 5
