"""``hushsweep doctor`` on a real cluster: healthy nodes, and one with everything wrong."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from cluster_support import PATIENCE, Cluster, cluster

HEAD, WORKER, STRANGER, REACHING = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("nodes")
    (made / "data").mkdir()
    return made


@pytest.fixture(scope="module")
def nodes(folder: Path) -> Iterator[Cluster]:
    with cluster(HUSHSWEEP_DATA=str(folder / "data")) as started:
        started.start_node(WORKER)
        yield started


def doctor(nodes: Cluster, results: Path | str, *options: str, rows: int) -> tuple[int, str]:
    """Ask until so many nodes have joined."""
    deadline = time.monotonic() + PATIENCE
    while True:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "hushsweep.sweeps", "doctor"),
                *("--address", nodes.address, "--results", str(results), *options),
            ],
            env={**os.environ, **nodes.secrets, "COLUMNS": "600"},
            cwd=nodes.folder,  # which Ray puts before all else where the nodes import from
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        if len(set(re.findall(r"127\.0\.0\.\d", done.stdout))) >= rows or time.monotonic() > deadline:
            return done.returncode, done.stdout


def test_healthy_nodes_have_a_row_each_and_nothing_to_mend(nodes: Cluster, folder: Path) -> None:
    code, output = doctor(nodes, folder / "results", rows=2)
    assert code == 0, output
    assert "Traceback" not in output
    for host in (HEAD, WORKER):
        row = next(line for line in output.splitlines() if host in line)
        assert f"{folder}/data" in row
        assert re.search(r"shared, \d+ GB free", row)
    for name in ("torch", "ray", "hushsweep"):
        assert output.count(f"{name} {version(name)}") == 2
    assert not list(folder.glob(".hushsweep-*")), "the mark is gone"


def test_nodes_that_do_not_reach_a_bucket_are_told_what_they_lack(
    nodes: Cluster, folder: Path, bucket: str, s3: dict[str, str]
) -> None:
    nodes.start_node(REACHING, **s3)
    code, output = doctor(nodes, bucket, rows=3)
    assert code == 1, output
    lines = output.splitlines()
    assert any(REACHING in line and "shared" in line for line in lines), output
    for host in (HEAD, WORKER):
        row = next(line for line in lines if host in line)
        assert "cannot be written" in row
        assert "set AWS_... before 'ray start'" in row
    nodes.kill(REACHING)


def test_a_node_that_differs_is_named_with_its_mends(nodes: Cluster, folder: Path) -> None:
    shadow = folder / "shadow" / "hushsweep-0.0.9.dist-info"
    shadow.mkdir(parents=True)
    (shadow / "METADATA").write_text("Metadata-Version: 2.1\nName: hushsweep\nVersion: 0.0.9\n")
    nodes.start_node(STRANGER, PYTHONPATH=str(shadow.parent), HUSHSWEEP_DATA=str(folder / "nowhere"))
    code, output = doctor(nodes, folder / "results", rows=3)
    assert code == 1, output
    row = " ".join(" ".join(line.split()) for line in output.split(STRANGER)[1].splitlines())
    assert f"pip install 'hushsweep=={version('hushsweep')}' there: 0.0.9 differs" in row
    assert f"{folder}/nowhere: cannot be read" in row
    assert "set HUSHSWEEP_DATA to a readable folder before 'ray start'" in row
    assert "pip install" not in output.split(STRANGER)[0]


def test_no_cluster_and_no_token_are_refused_in_a_sentence(folder: Path) -> None:
    command = [sys.executable, "-m", "hushsweep.sweeps", "doctor", "--address", "127.0.0.9:1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"error: --address: no Ray token is set.*\n", done.stderr)
