"""Sweeps of mechanisms that learn: equal rows however they are run, and after a kill in the middle of a training."""

import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rows_support import assert_same_rows
from safetensors.torch import load_file

from hushsweep.dashboards import run_query
from hushsweep.sweeps import Summary, run

SWEEP = """
name: learned
dataset: {name: digits, limit: 120, task: less_than_5, train_limit: 300}
model: {name: conv5, weights: random}
mechanism:
  - {name: ani, penalty: 1, epochs: 2}
  - {name: shredder, penalty: 0.1, epochs: 1}
  - {name: dpfe, noise_scale: [0.5, 1], epochs: 1}
  - {name: bottleneck, noise_scale: 1, epochs: 1}
  - {name: trained_gaussian, noise_scale: 1, epochs: 1}
measures:
  - {name: accuracy, draws: 3}
"""
KILLED = """
name: killed
dataset: {name: mnist, limit: 200, task: less_than_5, train_limit: 2000}
model: {name: conv5, weights: random}
mechanism: {name: ani, penalty: 1, epochs: 6}
measures: {name: accuracy}
execution: {threads: 1}
"""


def run_text(text: str, folder: Path, *, local: bool = True, **options) -> Summary:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.yaml").write_text(text)
    summary = run(folder / "sweep.yaml", results=folder / "results", local=local, mirror=False, **options)
    assert summary.exit_code == 0
    return summary


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    run_text(SWEEP, folder)
    return folder / "results"


@pytest.mark.parametrize("execution", ["{batch_size: 7}", "{batch_size: 64, shards: 3}"])
def test_rows_do_not_depend_on_how_they_were_computed(
    reference: Path, tmp_path: Path, execution: str
) -> None:
    run_text(SWEEP + f"execution: {execution}\n", tmp_path)
    assert_same_rows(reference, tmp_path / "results")


def test_the_same_rows_on_ray(reference: Path, tmp_path: Path) -> None:
    run_text(SWEEP + "execution: {shards: 2, threads: 1}\n", tmp_path, local=False)
    assert_same_rows(reference, tmp_path / "results")


def test_what_rows_say_of_what_was_learned(reference: Path) -> None:
    rows = run_query(
        reference,
        "SELECT mechanism, level_name, level, penalty, noise_scale, mechanism_digest, validation_top1, client_flops, "
        "server_flops, weights_digest FROM measurements WHERE statistic = 'top1' ORDER BY mechanism, level",
    ).to_pylist()
    found = {(row["mechanism"], row["level"]): row for row in rows}
    ani = found["ani@input", 1.0]
    assert (ani["level_name"], ani["penalty"], ani["noise_scale"]) == ("penalty", 1.0, None)
    assert 0 < ani["client_flops"] < ani["server_flops"]
    assert 0 <= ani["validation_top1"] <= 1
    assert ani["weights_digest"] == ani["mechanism_digest"], "client and server were learned together"
    half, full = found["dpfe", 0.5], found["dpfe", 1.0]
    assert half["mechanism_digest"] == full["mechanism_digest"], "one training serves every noise"
    assert half["validation_top1"] != full["validation_top1"], "each under its own noise"
    assert len({row["mechanism_digest"] for row in rows}) == 5
    assert len(list((reference / "models").glob("*.safetensors"))) == 5


def test_a_measure_that_is_added_trains_nothing(
    reference: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import shutil

    shutil.copytree(reference, tmp_path / "results")
    more = SWEEP.replace("draws: 3}", "draws: 3}\n  - {name: accuracy, draws: 1}")
    with caplog.at_level(logging.INFO, "hushsweep.workers.learning.loop"):
        summary = run_text(more, tmp_path)
    assert summary.computed == 6
    assert "epoch" not in caplog.text


def test_killed_in_the_middle_of_a_training_it_goes_on_from_the_last_epoch(
    tmp_path: Path, data_root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of the whole command, at whatever moment; the rows and the weights are those of an unbroken run."""
    monkeypatch.setenv("HUSHSWEEP_DATA", str(data_root))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    broken.mkdir()
    (broken / "sweep.yaml").write_text(KILLED)
    command = [sys.executable, "-m", "hushsweep.sweeps", "run", "sweep.yaml"]
    command += ["--results", "results", "--local", "--no-mlflow"]
    with subprocess.Popen(
        command,
        cwd=broken,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        checkpoint = _wait_for_epoch(broken / "results" / "cache" / "checkpoints", process)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not list((broken / "results" / "models").glob("*.safetensors"))
    done = len(torch.load(checkpoint, weights_only=True)["losses"])
    assert 1 <= done < 6
    with caplog.at_level(logging.INFO, "hushsweep.workers.learning.loop"):
        run_text(KILLED, broken)
    epochs = [int(number) for number in re.findall(r"epoch (\d) of 6", caplog.text)]
    assert epochs == list(range(done + 1, 7)), "only the missing epochs"
    assert not checkpoint.exists()
    run_text(KILLED, whole)
    assert_same_rows(whole / "results", broken / "results")
    first, second = (_weights(folder) for folder in (whole, broken))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first), "to the last bit"


def _wait_for_epoch(folder: Path, process: "subprocess.Popen[bytes]") -> Path:
    """Wait for a checkpoint of a whole epoch."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        found = [path for path in folder.glob("*") if not path.name.startswith(".")]
        if found:
            return found[0]
        time.sleep(0.005)
    raise AssertionError(f"no checkpoint came; the process: {process.poll()}")


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = (folder / "results" / "models").glob("*.safetensors")
    return load_file(path)
