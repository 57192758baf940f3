"""A whole sweep whose results folder fills up: a real small file system, a real command, and nothing harmed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rows_support import assert_same_rows

from hushsweep.sweeps.verify import verify

SWEEP = """
name: full
dataset: {name: digits, limit: 200}
model: {name: digits_mlp, weights: random, seed: [0, 1, 2]}
mechanism: {name: gaussian, noise_scale: [0.5, 2]}
measures: {name: accuracy, draws: 2}
device: cpu
execution: {threads: 1, cpus_per_trial: 1}
"""
ENOUGH_FOR_A_PART = "124k"
"""Plan, decoded images and, on Ray, Tune's folder fit; the rows of all three trials do not."""
ENOUGH_FOR_THE_ROWS = "500k"
"""MLflow's database does not fit beside them."""
PATIENCE = 300


class Disk:
    """A file system in memory, mounted where only a process of our own and what it starts see it."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        script = f"mount -t tmpfs -o size={size} tmpfs {folder} && echo mounted && exec cat"
        self._keeper = subprocess.Popen(
            ["unshare", "-Urm", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.readline().strip()
        if said != "mounted":
            self.close()
            pytest.skip(f"no file system can be mounted here: {said}")

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command that sees it."""
        enter = ["nsenter", f"--target={self._keeper.pid}", "--user", "--mount", "--preserve-credentials"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("HUSHSWEEP_CACHE", None)
        return subprocess.run(
            [*enter, *command], capture_output=True, text=True, timeout=PATIENCE, env=environment
        )

    def hushsweep(self, *arguments: str) -> tuple[int, str]:
        """Run our command on its folder of results; return the exit code and all that it printed."""
        module = [sys.executable, "-P", "-m", "hushsweep.sweeps"]
        done = self.run(*module, *arguments, "--results", str(self.folder / "results"))
        output = done.stdout + done.stderr
        assert "Traceback" not in output, output
        return done.returncode, output

    def grow(self) -> None:
        """Free space on it."""
        done = self.run("mount", "-o", "remount,size=64m", str(self.folder))
        assert done.returncode == 0, done.stderr

    def copied(self, to: Path) -> Path:
        """Copy its results to where this process sees them."""
        done = self.run("cp", "-r", str(self.folder / "results"), str(to))
        assert done.returncode == 0, done.stderr
        return to

    def close(self) -> None:
        """End the last process that sees it, and with that the file system."""
        self._keeper.communicate(timeout=60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("needs Linux's unshare and nsenter")
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


@pytest.fixture
def disk(folder: Path) -> Iterator[Disk]:
    """One on which a part of the sweep fits."""
    mounted = Disk(folder, ENOUGH_FOR_A_PART)
    yield mounted
    mounted.close()


@pytest.fixture
def roomy(folder: Path) -> Iterator[Disk]:
    """One on which all rows fit, and little beside them."""
    mounted = Disk(folder, ENOUGH_FOR_THE_ROWS)
    yield mounted
    mounted.close()


@pytest.mark.parametrize("where", [["--local"], []], ids=["local", "ray"])
def test_a_full_disk_ends_a_sweep_in_a_sentence_and_the_same_command_goes_on(
    sweep: Path, reference: Path, tmp_path: Path, disk: Disk, where: list[str]
) -> None:
    command = ["run", str(sweep), "--no-mlflow", *where]
    code, output = disk.hushsweep(*command)
    assert code == 2, output
    (sentence,) = [line for line in output.splitlines() if "error" in line.lower()]
    assert sentence.startswith(f"error: {disk.folder}/results/")
    assert "could not be written (No space left on device); free space there" in sentence
    assert "run again; what is stored already is kept" in sentence
    found = verify(disk.copied(tmp_path / "full"))
    assert (found.wanted, found.faults) == (6, ())
    assert found.answered < 6
    if where:
        commands_read(disk, found.answered)
    disk.grow()
    code, output = disk.hushsweep(*command)
    assert code == 0, output
    assert f"{6 - found.answered} computed, {found.answered} there before, 0 missing" in output
    assert verify(disk.copied(tmp_path / "complete")).faults == ()
    assert_same_rows(reference, tmp_path / "complete")


def commands_read(disk: Disk, done: int) -> None:
    """All commands that read a store do so on a full disk as ever, and count the same."""
    count = "SELECT count(DISTINCT point_id) AS n, bool_and(status = 'complete') AS all_so FROM measurements"
    code, output = disk.hushsweep("query", "--format", "json", count)
    assert (code, json.loads(output)) == (0, [{"n": done, "all_so": True}])
    code, output = disk.hushsweep("status", "--json")
    (row,) = json.loads(output)
    assert code == 0
    assert (row["points"], row["done"], row["failed"], row["missing"]) == (6, done, 0, 6 - done)
    code, output = disk.hushsweep("verify")
    assert code == 0, output
    assert f"{done} of 6 measures that sweeps ask for are answered; nothing is wrong" in output


def test_a_mirror_that_finds_no_space_harms_no_row_and_catches_up(
    reference: Path, tmp_path: Path, roomy: Disk
) -> None:
    assert roomy.run("cp", "-r", str(reference), str(roomy.folder / "results")).returncode == 0
    code, output = roomy.hushsweep("mirror", "full")
    assert code == 1, output
    assert "disk is full" in output
    assert "the rows are safe, mirror again later" in output
    assert_same_rows(reference, roomy.copied(tmp_path / "copy"))
    roomy.grow()
    code, output = roomy.hushsweep("mirror", "full")
    assert (code, "3 runs written, 0 unchanged" in output) == (0, True), output
