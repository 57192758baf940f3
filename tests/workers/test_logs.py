"""Lines of trials' logs: what they say, where they go, and what they cost."""

import json
import logging
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from hushsweep.sweeps import run
from hushsweep.workers.logs import LOGGER, TrialLog, logged_to
from hushsweep.workers.measures.accuracy import Accuracy

SWEEP = """
name: logged
dataset: {name: digits, limit: 40}
model: {name: digits_mlp, weights: random, seed: 0}
mechanism: {name: gaussian, noise_scale: [0.5, 1, 2]}
measures: [{name: accuracy}, {name: hcr, images: 2, restarts: 2, rounds: 2, low_frequency: 3}]
device: cpu
"""


class FakeTrial:
    """What a log wants to know of a trial."""

    trial_id, shard, shards = "t" * 20, 1, 3


def lines(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()
    ]


def test_a_run_in_one_process_leaves_a_file(tmp_path: Path) -> None:
    (tmp_path / "logged.yaml").write_text(SWEEP)
    results = tmp_path / "results"
    done = run(tmp_path / "logged.yaml", results=results, local=True, mirror=False)
    assert done.exit_code == 0
    found = lines(results / "cache" / "logs")
    assert [line["event"] for line in found] == [
        "trial began",
        "weights ready",
        "features done",
        "measure complete",
        "measure complete",
        "trial ended",
    ]
    assert all(line["points"] == 3 and len(set(line["point_ids"])) == 3 for line in found)
    assert [line.get("measure") for line in found[3:5]] == ["accuracy", "hcr"]
    assert found[3]["rows"] > 3
    assert (found[-1]["complete"], found[-1]["failed"]) == (6, 0)
    assert found[-1]["images"] >= found[2]["images"] == 40
    assert [line["seconds"] for line in found] == sorted(line["seconds"] for line in found)
    assert run(tmp_path / "logged.yaml", results=results, local=True, mirror=False).existing == 6
    assert lines(results / "cache" / "logs") == found, "nothing to do, nothing to say"
    assert LOGGER.level == logging.NOTSET


def test_failures_name_their_points_and_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Accuracy, "measure", fail)
    results = tmp_path / "results"
    (tmp_path / "logged.yaml").write_text(
        SWEEP.replace(
            "{name: gaussian, noise_scale: [0.5, 1, 2]}",
            "[{name: gaussian, noise_scale: [0.5, 1]}, {name: gaussian, target_accuracy_loss: 0.9999}]",
        )
    )
    done = run(tmp_path / "logged.yaml", results=results, local=True, mirror=False)
    found = lines(results / "cache" / "logs")
    whole, one = [line for line in found if line["event"] == "point failed"]
    assert {whole["level"], one["level"]} == {"warning"}
    assert (whole["measure"], whole["points"], one["measure"], one["points"]) == (None, 1, "accuracy", 2)
    assert "target_accuracy_loss 0.9999: no level" in whole["reason"]
    assert "out of memory" in one["reason"]
    assert not set(whole["point_ids"]) & set(one["point_ids"])
    assert (found[-1]["event"], found[-1]["complete"], found[-1]["failed"]) == ("trial ended", 2, 4)
    assert len(done.failures) == 2


def test_hundreds_of_points_are_listed_once(tmp_path: Path) -> None:
    points = [f"{number:020x}" for number in range(300)]
    with logged_to(tmp_path / "a.jsonl"):
        log = TrialLog(FakeTrial(), {"node": "a", "worker": "7"})  # type: ignore[arg-type]
        log("trial began", points, all_ids=True)
        log("measure complete", points, measure="accuracy", rows=1500)
        log.failed({**dict.fromkeys(points[:200], "x"), points[200]: "y"}, "hcr")
    began, complete, *failed = lines(tmp_path)
    assert began["point_ids"] == points
    assert (complete["points"], complete["point_ids"]) == (300, points[:10])
    assert [(line["reason"], len(line["point_ids"])) for line in failed] == [("x", 200), ("y", 1)]
    assert (began["shard"], began["shards"], began["node"], began["worker"]) == (1, 3, "a", "7")


def test_a_log_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "a.jsonl", Path("/dev/full")):
        with logged_to(place):
            TrialLog(FakeTrial(), {})("trial began", ["a"])  # type: ignore[arg-type]


def test_a_trial_of_a_hundred_points_logs_in_a_millisecond(tmp_path: Path) -> None:
    points = [f"{number:020x}" for number in range(100)]
    spent = []
    with logged_to(tmp_path / "a.jsonl"):
        for _ in range(50):
            began = time.thread_time()
            log = TrialLog(FakeTrial(), {"node": "a", "worker": "7"})  # type: ignore[arg-type]
            log("trial began", points, all_ids=True)
            for event in ("weights ready", "features done", "accuracy", "hcr", "trial ended"):
                log(event, points, rows=500)
            spent.append(time.thread_time() - began)
    assert statistics.median(spent) < 1e-3


def test_without_a_place_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    TrialLog(FakeTrial(), {}).failed({"a": "reason"})  # type: ignore[arg-type]
    assert capfd.readouterr() == ("", "")
