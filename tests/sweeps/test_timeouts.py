"""Data that cannot be read to its end: the trial is ended and says where it stood, the others go on."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hushsweep.dashboards import run_query
from tests.sweeps.test_ray import finish, start

SWEEP = """
name: stuck
dataset:
  - {name: imagefolder, root: good}
  - {name: imagefolder, root: stuck}
model: {name: digits_mlp, weights: random}
mechanism: {name: gaussian, noise_scale: [0.5, 2]}
measures: {name: accuracy}
execution: {cpus_per_trial: 1, max_failures: 1, timeout_s: 8}
"""
LOADER = """
import ctypes
import os
import time

import numpy as np

from hushsweep.datasets.images.source import ImageSource


def open_slow(config):
    def contents(positions):
        for position in positions:
            if position == 20:
                exec(os.environ["AT_IMAGE_20"])
            time.sleep(float(os.environ["SECONDS"]))
            yield np.full((8, 8), position, np.uint8)

    return ImageSource(
        split="test",
        fingerprint="0" * 64,
        labels=np.arange(30) % 2,
        contents=contents,
        name_of=str,
        classes=2,
        channels=1,
        height=8,
        width=8,
    )
"""


def make_images(folder: Path) -> None:
    """Two classes of 20 small images."""
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number:02}.png")


def test_a_pipe_that_nobody_writes_to_ends_its_trial_and_no_other(tmp_path: Path) -> None:
    make_images(tmp_path / "good")
    make_images(tmp_path / "stuck")
    hanging = tmp_path / "stuck" / "a" / "01.png"
    hanging.unlink()
    os.mkfifo(hanging)  # opening it waits for a writer for ever
    (tmp_path / "stuck.yaml").write_text(SWEEP)
    results = tmp_path / "results"
    code, output = finish(start(tmp_path / "stuck.yaml", results, "--no-mlflow"))
    assert code == 1, output
    assert "2 computed, 0 there before, 2 missing" in output
    rows = run_query(results, "SELECT status, reason, value FROM measurements").to_pylist()
    reasons = {row["reason"] for row in rows if row["status"] == "failed"}
    assert {row["status"] for row in rows} == {"complete", "failed"}
    (reason,) = reasons
    assert reason.startswith("no progress for 8 s (execution.timeout_s), last seen at decode.py:")
    assert " in _read" in reason
    attempts = run_query(results, "SELECT worker, ray_trial_id FROM raw_measurements WHERE status = 'failed'")
    assert all(attempts["ray_trial_id"].to_pylist())
    words = [sys.executable, "-m", "hushsweep.sweeps", "status", "stuck", "--results", str(results)]
    status = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "COLUMNS": "400"})
    assert "no progress for 8 s (execution.timeout_s), last seen at decode.py" in status.stdout


SLOW = """
name: slow
dataset: {name: "slow_loader:open_slow"}
model: {name: digits_mlp, weights: random}
mechanism: {name: gaussian, noise_scale: [0.5, 2]}
measures: {name: accuracy}
execution: {timeout_s: 4}
"""
RUN = """
import sys
from hushsweep.sweeps import run
from hushsweep.workers import watchdog

watchdog._WRITING_S = 1
run(sys.argv[1], results=sys.argv[2], local=True, mirror=False, allow_plugins=["slow_loader"])
"""


def run_slow(folder: Path, seconds: float, at_image_20: str) -> tuple[int, str]:
    (folder / "slow_loader.py").write_text(LOADER)
    (folder / "slow.yaml").write_text(SLOW)
    done = subprocess.run(
        [sys.executable, "-c", RUN, folder / "slow.yaml", folder / "results"],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(folder),
            "SECONDS": str(seconds),
            "AT_IMAGE_20": at_image_20,
        },
    )
    return done.returncode, done.stderr


def test_what_is_slow_and_gets_on_is_left_alone(tmp_path: Path) -> None:
    started = time.monotonic()
    code, output = run_slow(tmp_path, 0.3, "pass")
    assert code == 0, output
    assert time.monotonic() - started > 2 * 4
    statuses = run_query(tmp_path / "results", "SELECT DISTINCT status FROM measurements").to_pylist()
    assert statuses == [{"status": "complete"}]


def test_in_one_process_the_rows_are_written_before_it_ends(tmp_path: Path) -> None:
    code, output = run_slow(tmp_path, 0, "time.sleep(1000)")
    assert code == 1, output
    assert "ends: no progress for 4 s (execution.timeout_s), last seen at <string>:1 in <module>" in output
    rows = run_query(tmp_path / "results", "SELECT status, reason FROM measurements").to_pylist()
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert rows[0]["reason"].endswith("mend what it waits for, or allow more time")
    code, output = run_slow(tmp_path, 0, "pass")  # the mount is back
    assert code == 0, output
    statuses = run_query(tmp_path / "results", "SELECT DISTINCT status FROM measurements").to_pylist()
    assert statuses == [{"status": "complete"}]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="calls the C library of Linux")
def test_code_that_lets_no_thread_run_is_ended_too(tmp_path: Path) -> None:
    code, output = run_slow(tmp_path, 0, "ctypes.PyDLL(None).sleep(1000)")
    assert code == 1, output
    assert "slow_loader.py" in output, "where it stood"
