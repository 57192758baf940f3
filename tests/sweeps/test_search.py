"""Searched levels and early stopping: ordinary points, told once, never computed twice, in one process and on Ray."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import pytest
from rows_support import assert_same_rows

from hushsweep.dashboards import run_query
from hushsweep.datasets.images import DatasetConfig
from hushsweep.datasets.results import Store
from hushsweep.sweeps import SpecError, SweepSpec, run
from hushsweep.sweeps import plan as make_plan
from hushsweep.sweeps.resolve import resolve_sweep
from hushsweep.sweeps.search import Bisection, Judge, Outcome, Sampling
from hushsweep.sweeps.search.bisection import reachable
from hushsweep.sweeps.search.fields import EarlyStoppingSpec, LogUniformLevels, TargetLevel, UniformLevels
from hushsweep.sweeps.search.judge import comparable
from hushsweep.sweeps.source import parse_source
from hushsweep.workers.models import ModelConfig
from hushsweep.workers.trial import MeasureConfig, PointConfig, StageConfig, Trial

HEAD = """
name: searched
seed: [0, 1]
dataset: {name: digits, task: less_than_5, train_limit: 200, limit: 100}
model: {name: conv5, weights: train, epochs: 2}
"""
MEASURES = """
measures:
  - {name: accuracy}
  - {name: secondary, network: mlp, epochs: 1, learning_rate: 0.02}
execution: {threads: 1, cpus_per_trial: 1}
"""
SAMPLED = "{log_uniform: [0.1, 10], samples: 3}"
TARGET = "{target_accuracy_loss: 0.05, low: 0.05, high: 20, steps: 3}"


def sweep_of(penalty: str, *, more: str = "", measures: str = MEASURES) -> str:
    mechanism = (
        f"mechanism:\n  - {{name: none, at: input}}\n  - {{name: ani, penalty: {penalty}, epochs: 1}}\n"
    )
    return HEAD + mechanism + more + measures


def run_text(text: str, folder: Path, *, results: str = "results") -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.yaml").write_text(text)
    return run(folder / "sweep.yaml", results=folder / results, local=True, mirror=False)


def points_of(results: Path, sweep: str = "searched") -> list[dict[str, Any]]:
    plan = Store(results, create=False).plan(sweep)
    assert plan is not None
    return list(plan["points"])


def levels_of(results: Path) -> list[float]:
    found = [point["fields"]["level"] for point in points_of(results)]
    return list(dict.fromkeys(level for level in found if level is not None))


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sampled")
    summary = run_text(sweep_of(SAMPLED), folder)
    assert (summary.exit_code, summary.missing) == (0, 0)
    return folder


# --- the sweep file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("penalty", "said"),
    [
        ("{log_unform: [0.1, 10], samples: 3}", "log_unform: unknown key; did you mean 'log_uniform'?"),
        (
            "{log_uniform: [0, 10], samples: 3}",
            "penalty.log_uniform: expected [low, high] with 0 < low < high",
        ),
        (
            "{uniform: [3, 1], samples: 3}",
            "penalty.uniform: expected [low, high] with low < high, got [3.0, 1.0]",
        ),
        ("{uniform: [1, 2, 3], samples: 3}", "expected [low, high] with low < high"),
        ("{uniform: [1, 2], samples: 0}", "penalty.samples: expected a number >= 1, got 0"),
        ("{uniform: [-1, 2], samples: 2}", "penalty: expected a finite number > 0, got -1.0"),
        ("{target_accuracy_loss: 0.1, low: 1}", "penalty.high: is missing"),
        ("{target_accuracy_loss: 0.1, low: 2, high: 1}", "penalty: expected low < high, got 2 and 1"),
        ("{target_accuracy_loss: 0, low: 1, high: 2}", "target_accuracy_loss: expected a number > 0, got 0"),
        ("[0.1, x]", "penalty[1]: expected a number, got 'x'"),
        ("-1", "penalty: expected a number > 0, got -1"),
    ],
)
def test_each_mistake_has_its_sentence(penalty: str, said: str) -> None:
    assert any(said in line for line in refused(sweep_of(penalty))), refused(sweep_of(penalty))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("task: less_than_5, ", "", "mechanism[1].penalty: a search judges by validation images"),
        (
            "  - {name: secondary, network: mlp, epochs: 1, learning_rate: 0.02}\n",
            "",
            "add {name: secondary}",
        ),
        ("name: ani, penalty", "name: dpfe, noise_scale", "acts after dpfe has learned"),
        ("threads: 1", "threads: 1, shards: 2", "expected 1 with early_stopping, got 2"),
        (
            "grace_period",
            "grace_perod",
            "early_stopping.grace_perod: unknown key; did you mean 'grace_period'?",
        ),
    ],
)
def test_what_a_search_needs_is_asked_for(old: str, new: str, said: str) -> None:
    text = sweep_of(SAMPLED, more="early_stopping: {name: asha, grace_period: 1}\n")
    assert old in text
    found = refused(text.replace(old, new))
    assert any(said in line for line in found), found


def test_early_stopping_without_anything_that_learns_is_refused() -> None:
    text = HEAD + "mechanism: {name: none}\nearly_stopping: {name: asha}\nmeasures: {name: accuracy}\n"
    assert any("no mechanism learns" in line for line in refused(text))


def refused(text: str) -> tuple[str, ...]:
    source = parse_source(text, folder=Path("/"))
    with pytest.raises(SpecError) as caught:
        resolve_sweep(SweepSpec.from_source(source), source, device="cpu")
    return caught.value.lines


# --- choosing levels -----------------------------------------------------------------------------------------------


def test_sampling_asks_for_as_many_as_are_missing_and_for_none_twice() -> None:
    levels = LogUniformLevels(log_uniform=[0.1, 10], samples=8)
    search, asked = Sampling(levels, {}, seed="a"), list[float]()
    while not search.finished:
        level = search.ask()
        assert level is not None
        asked.append(level)
        search.tell(level, None if len(asked) == 3 else Outcome(1 - level / 20, 1 / (1 + level)))
    assert search.ask() is None
    assert len(set(asked)) == 8
    assert all(0.1 <= level <= 10 and level == float(f"{level:.4g}") for level in asked)
    known = {level: Outcome(1 - level / 20, 0.5) for level in asked[:5]}
    later = Sampling(levels, known, seed="a")
    more = [later.ask() for _ in range(3)]
    assert later.finished
    assert not set(more) & set(known)
    assert Sampling(levels, dict.fromkeys(asked), seed="a").finished


def test_sampling_ends_where_a_range_has_no_other_levels() -> None:
    search = Sampling(UniformLevels(uniform=[1.0001, 1.0004], samples=9), {}, seed="a")
    asked = [search.ask() for _ in range(9)]
    assert search.finished
    assert len({level for level in asked if level is not None}) < 9


def test_bisection_closes_in_on_the_largest_allowed_level() -> None:
    levels = TargetLevel(target_accuracy_loss=0.01, low=0.05, high=20, steps=8)
    search, asked = Bisection(levels, reference=0.98), list[float]()
    while not search.finished:
        level = search.ask()
        assert level is not None
        assert search.ask() is None, "one at a time"
        asked.append(level)
        search.tell(level, Outcome(0.98 - 0.01 * level / 0.7, None))  # 0.7 costs exactly one point
    assert set(asked) <= set(reachable(levels))
    assert search.chosen == max(level for level in asked if level <= 0.7)
    assert abs(log(search.chosen / 0.7)) < 2 * log(20 / 0.05) / 2**8
    assert f"{search.chosen:g} is the largest level tried" in search.conclusion


def test_bisection_says_when_the_range_is_wrong() -> None:
    levels = TargetLevel(target_accuracy_loss=0.01, low=1, high=2, steps=2)
    for outcome, chosen, said in (
        (Outcome(0.5, None), None, "smaller low"),
        (Outcome(1, None), 1.681, "larger high"),
    ):
        search = Bisection(levels, reference=0.98)
        while (level := search.ask()) is not None:
            search.tell(level, outcome)
        assert search.chosen == chosen or search.chosen == pytest.approx(chosen, abs=1e-3)
        assert said in search.conclusion


# --- whole searches ------------------------------------------------------------------------------------------------


def test_searched_points_are_those_of_a_list(sampled: Path) -> None:
    results, levels = sampled / "results", levels_of(sampled / "results")
    assert len(levels) == 3
    source = parse_source(sweep_of(str(levels)), folder=Path("/"))
    listed = resolve_sweep(SweepSpec.from_source(source), source, device="cpu").points
    assert {point.point_id for point in listed} == {point["point_id"] for point in points_of(results)}
    seeds = {(p["fields"]["level"], p["fields"]["seed"]) for p in points_of(results) if p["fields"]["level"]}
    assert seeds == {(level, seed) for level in levels for seed in (0, 1)}, "all seeds share each level"
    again = run_text(sweep_of(str(levels)), sampled)
    assert (again.computed, again.missing) == (0, 0)
    run_text(sweep_of(SAMPLED), sampled)  # for the tests that follow


def test_going_on_asks_only_for_what_is_missing(sampled: Path, tmp_path: Path) -> None:
    planned = make_plan(sampled / "sweep.yaml", results=sampled / "results")
    assert [(len(s.known), s.asking) for s in planned.searches] == [(3, 0)]
    again = run_text(sweep_of(SAMPLED), sampled)
    assert (again.computed, again.images, again.missing) == (0, 0, 0)
    before = levels_of(sampled / "results")
    more = sweep_of(SAMPLED.replace("samples: 3", "samples: 4"))
    (tmp_path / "more.yaml").write_text(more)
    planned = make_plan(tmp_path / "more.yaml", results=sampled / "results")
    assert [(len(s.known), s.asking, s.pairs) for s in planned.searches] == [(3, 1, 4)]
    grown = run_text(more, sampled)
    assert grown.computed == 2 * 2  # seeds x measures
    assert len(levels_of(sampled / "results")) == 4
    assert set(before) < set(levels_of(sampled / "results"))
    other = run_text(more.replace("name: searched", "name: other"), sampled)
    assert (other.computed, other.missing) == (0, 0), "what another sweep computed counts"


def test_a_target_marks_the_level_that_it_found(tmp_path: Path) -> None:
    summary = run_text(sweep_of(TARGET), tmp_path)
    assert summary.exit_code == 0
    results = tmp_path / "results"
    points = points_of(results)
    assert len({p["fields"]["level"] for p in points if p["fields"]["level"]}) == 3
    chosen = {p["fields"]["level"] for p in points if p.get("chosen")}
    assert len([p for p in points if p.get("chosen")]) == 2 * len(chosen)
    plan = Store(results).plan("searched")
    assert plan is not None
    assert [found["chosen"] for found in plan["searches"]] == (list(chosen) or [None])
    [reference] = results.glob("cache/references/*")
    clean = json.loads(reference.read_text())["accuracy"]
    rows = run_query(
        results, "SELECT level, avg(validation_top1) AS top1 FROM measurements WHERE level > 0 GROUP BY level"
    ).to_pylist()
    allowed = [row["level"] for row in rows if clean - row["top1"] <= 0.05]
    assert chosen == ({max(allowed)} if allowed else set())
    assert summary.searches[0].startswith("conv5 · ani@input: penalty: ")
    again = run_text(sweep_of(TARGET), tmp_path)
    assert (again.computed, again.images) == (0, 0)
    assert again.searches == summary.searches


# --- early stopping ------------------------------------------------------------------------------------------------


def trial_of(name: str, *, seed: int, **parameters: Any) -> Trial:
    stage = StageConfig(name="ani", at="input", parameters=parameters)
    measures = (MeasureConfig(measure_id="m", name="accuracy"),)
    point = PointConfig(
        point_id=name, curve_id=name, stages=(stage,), seed=seed, measures=measures, fields={}
    )
    return Trial(
        dataset=DatasetConfig(name="digits"),
        input_size=None,
        model=ModelConfig(name="conv5", weights="train", seed=seed),
        cut="features",
        precision="float32",
        device="cpu",
        points=(point,),
    )


def test_only_trainings_of_equal_level_are_compared(tmp_path: Path) -> None:
    first = comparable(trial_of("a", seed=0, penalty=1.0, learning_rate=0.1))
    assert first == comparable(trial_of("b", seed=1, penalty=1.0, learning_rate=0.01))
    assert first != comparable(trial_of("c", seed=0, penalty=2.0, learning_rate=0.1))
    assert first != comparable(trial_of("d", seed=0, penalty=1.0, server="frozen"))
    settings = EarlyStoppingSpec(name="asha", grace_period=2, reduction_factor=2)
    judge = Judge(settings, Store(tmp_path))
    good, bad = trial_of("a", seed=0, penalty=1.0), trial_of("b", seed=1, penalty=1.0)
    private = trial_of("c", seed=0, penalty=9.0)
    for epoch, score in ((1, 0.5), (2, 0.9), (3, 0.9), (4, 0.95)):
        assert judge.decide(good, epoch, 8, score) is None
    assert judge.decide(private, 2, 8, 0.1) is None, "nothing of equal penalty is better"
    assert judge.decide(bad, 1, 8, 0.1) is None, "within the grace period"
    reason = judge.decide(bad, 2, 8, 0.3)
    assert reason is not None
    assert "after epoch 2: 30.00 %" in reason
    assert "best 1/2 of 1 other trainings with equal level had at least 90.00 %" in reason
    late = trial_of("e", seed=2, penalty=1.0)
    assert judge.decide(late, 2, 2, 0.3) is None, "its training is over"


STOPPING = HEAD.replace(", train_limit: 200", "") + (
    "early_stopping: {name: asha, reduction_factor: 2}\n"
    "mechanism: {name: ani, penalty: [0.1, 5], epochs: 3, learning_rate: [0.1, 0.0001]}\n"
    "measures: {name: accuracy}\nexecution: {threads: 1, cpus_per_trial: 1}\n"
)
STATES = """
    SELECT point_id, level, status, any_value(reason) AS reason FROM measurements GROUP BY ALL
"""


def test_what_was_stopped_leaves_a_row_and_can_go_on(tmp_path: Path) -> None:
    summary = run_text(STOPPING, tmp_path)
    results = tmp_path / "results"
    rows = run_query(results, STATES).to_pylist()
    stopped = [row for row in rows if row["status"] == "stopped"]
    assert len(rows) == 8
    assert summary.stopped == len(stopped) > 0
    assert (summary.exit_code, summary.computed) == (0, 8 - len(stopped))
    assert {row["level"] for row in rows if row["status"] == "complete"} == {0.1, 5}, "the private ones live"
    assert all(row["reason"].startswith("stopped early after epoch ") for row in stopped)
    assert len(list(results.glob("cache/checkpoints/[!.]*"))) == len(stopped)
    assert run_query(results, "SELECT count(*) AS n FROM frontier").to_pylist()[0]["n"] <= 2
    again = run_text(STOPPING, tmp_path)
    assert (again.computed, again.images, again.exit_code) == (0, 0, 0)
    plain = run_text(STOPPING.replace("early_stopping: {name: asha, reduction_factor: 2}\n", ""), tmp_path)
    assert (plain.computed, plain.stopped, plain.missing) == (len(stopped), 0, 0)
    assert {row["status"] for row in run_query(results, STATES).to_pylist()} == {"complete"}
    assert not list(results.glob("cache/checkpoints/[!.]*"))


# --- other processes -----------------------------------------------------------------------------------------------


def start(folder: Path, results: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "hushsweep.sweeps", "run", str(folder / "sweep.yaml")]
    return subprocess.Popen(
        [*command, "--results", str(results), "--no-mlflow", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"ended too soon:\n{process.communicate()[0]}"
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def test_a_killed_search_goes_on_and_computes_nothing_twice(tmp_path: Path) -> None:
    text = sweep_of("{log_uniform: [0.1, 10], samples: 4}").replace("epochs: 1}", "epochs: 6}", 1)
    (tmp_path / "sweep.yaml").write_text(text)
    results = tmp_path / "results"
    process = start(tmp_path, results, "--local")
    wait_for(lambda: len(list(results.glob("cache/checkpoints/[!.]*"))) > 0 and _asked(results) == 2, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    before = levels_of(results)
    done = {path.name: path.stat().st_mtime_ns for path in results.glob("measurements/[!.]*.parquet")}
    models = {path.name: path.stat().st_mtime_ns for path in results.glob("models/*.safetensors")}
    assert len(before) == 2, "the level that was being tried is in the plan"
    assert done
    summary = run_text(text, tmp_path)
    assert (summary.exit_code, summary.missing) == (0, 0)
    assert levels_of(results)[:2] == before
    assert len(levels_of(results)) == 4
    for path in (*results.glob("measurements/[!.]*.parquet"), *results.glob("models/*.safetensors")):
        assert path.stat().st_mtime_ns == {**done, **models}.get(path.name, path.stat().st_mtime_ns)
    count = """
        SELECT count(*) AS n FROM (SELECT DISTINCT point_id, measure_id, computed_by FROM raw_measurements)
    """
    assert run_query(results, count).to_pylist() == [{"n": summary.wanted}]


def _asked(results: Path) -> int:
    if not (results / "sweeps/searched/plan.json").exists():
        return 0
    return len(levels_of(results))


def test_on_ray_it_is_the_same_search(tmp_path: Path) -> None:
    mechanism = f"  - {{name: cloak, penalty: {TARGET.replace('steps: 3', 'steps: 2')}, epochs: 1}}\n"
    text = sweep_of(SAMPLED.replace("samples: 3", "samples: 2"), more=mechanism)
    text = "early_stopping: {name: asha}\n" + text.replace("seed: [0, 1]", "seed: 0")
    (tmp_path / "sweep.yaml").write_text(text)
    results = tmp_path / "results"
    output, _ = (process := start(tmp_path, results)).communicate(timeout=240)
    assert process.returncode == 0, output
    assert "search: conv5 · ani@input: penalty: 2 levels tried of 2" in output
    assert "10 computed, 0 there before, 0 missing" in output
    rows = run_query(results, "SELECT DISTINCT ray_trial_id FROM measurements").to_pylist()
    assert len(rows) == 1 + 2 + 2
    again = run(
        tmp_path / "sweep.yaml", results=results, mirror=False
    )  # finds nothing to do, so starts no Ray
    assert (again.computed, again.images, again.missing) == (0, 0, 0)
    assert all(sentence in output for sentence in again.searches)
    local = run_text(text, tmp_path / "local")
    assert {p["point_id"] for p in points_of(results)} == {
        p["point_id"] for p in points_of(tmp_path / "local" / "results")
    }
    assert local.searches == again.searches
    assert_same_rows(results, tmp_path / "local" / "results")
