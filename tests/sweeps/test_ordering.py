"""Trials in an order in which nothing starves, and as many on a GPU as its memory was seen to hold."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushsweep.datasets.results import Store
from hushsweep.sweeps import SweepSpec
from hushsweep.sweeps.ordering import in_turn
from hushsweep.sweeps.packing import measured_share, scouts
from hushsweep.sweeps.planner import make_plan
from hushsweep.sweeps.resolve import resolve
from hushsweep.sweeps.shared_trials import SharedTrials
from hushsweep.sweeps.source import parse_source
from hushsweep.workers.trial import Trial

SWEEP = """
name: mixed
dataset: {name: digits, limit: 50}
model: {name: digits_mlp, weights: [random, train], seed: [0, 1, 2, 3]}
mechanism: {name: gaussian, noise_scale: [0.5, 1]}
measures: {name: accuracy}
execution: {shards: 3}
"""


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    """Four networks that are trained and four that are not, in three parts each."""
    source = parse_source(SWEEP, folder=Path("/"))
    spec = SweepSpec.from_source(source)
    return make_plan("mixed", resolve(spec, source, device="cpu"), set(), shards=3).shard_trials()


def trains(trial: Trial) -> bool:
    return trial.model.weights == "train"


def test_trainings_take_half_the_places_while_there_is_anything_else(trials: list[Trial]) -> None:
    ordered = in_turn(trials, places=4)
    assert [trains(trial) for trial in ordered[:4]] == [True, True, False, False]
    assert {trial.model.seed for trial in ordered[:2]} == {0, 1}
    assert not any(map(trains, ordered[2:14]))
    # then the other trainings, and last the parts that need one of them
    assert [trial.model.seed for trial in ordered[14:16]] == [2, 3]
    assert all(map(trains, ordered[16:]))


@given(places=st.floats(0.5, 100), seed=st.randoms())
def test_nothing_is_lost_or_doubled(trials: list[Trial], places: float, seed) -> None:
    shuffled = seed.sample(trials, len(trials))
    ordered = in_turn(shuffled, places)
    assert sorted(map(id, ordered)) == sorted(map(id, shuffled))
    kept = [trial for trial in shuffled if not trains(trial)]
    assert [trial for trial in ordered if not trains(trial)] == kept


def test_a_sweep_without_trainings_stays_as_it_is(trials: list[Trial]) -> None:
    short = [trial for trial in trials if not trains(trial)]
    assert in_turn(short, places=4) == short


def test_a_mechanism_is_learned_before_those_that_need_it_have_a_place() -> None:
    text = SWEEP.replace("[random, train]", "random").replace(
        "gaussian, noise_scale: [0.5, 1]", "ani, penalty: [1, 2]"
    )
    source = parse_source(text, folder=Path("/"))
    points = resolve(SweepSpec.from_source(source), source, device="cpu")
    ordered = in_turn(make_plan("mixed", points, set(), shards=3).shard_trials(), places=2)
    learned = [(trial.model.seed, trial.points[0].stages) for trial in ordered]
    assert len(ordered) == 4 * 2 * 3
    assert all(learned.index(one) < 8 for one in learned)


def test_one_of_every_kind_goes_first_and_every_gpu_has_one(trials: list[Trial]) -> None:
    assert [trains(trials[position]) for position in scouts(trials, 1)] == [False, True]
    assert len(scouts(trials, 8)) == 8
    assert scouts(trials, 1000) == list(range(len(trials)))


@pytest.mark.parametrize(
    ("peak", "memory", "expected"),
    [(1.0, 80, 8), (20.0, 80, 3), (20.0, 79, 3), (50.0, 80, 1), (100.0, 80, 1)],
)
def test_as_many_share_a_gpu_as_fit_the_largest_of_them(
    trials: list[Trial], peak: float, memory: float, expected: int
) -> None:
    small, large = (trials[position] for position in scouts(trials, 1))
    peaks = [(small, 0.1), (large, peak), (large, 0.5)]
    assert measured_share(peaks, trials, memory) == pytest.approx(1 / expected)
    others = [trial for trial in trials if not trains(trial)]
    assert measured_share(peaks, others, memory) == pytest.approx(1 / 8)


def test_a_worker_reads_the_trial_that_it_was_given_and_no_other(trials: list[Trial]) -> None:
    shared = SharedTrials.of(trials)
    assert [shared[position] for position in range(len(trials))] == trials
    broken = SharedTrials(shared.content.copy(), shared.ends)
    broken.content[: shared.ends[-2]] = 0
    assert broken[len(trials) - 1] == trials[-1]
    assert len(SharedTrials.of([]).ends) == 0


PACKED = """
import sys
from dataclasses import replace
from pathlib import Path

import ray
from hushsweep.datasets.results import Store
from hushsweep.sweeps import SweepSpec, driver
from hushsweep.sweeps.planner import make_plan
from hushsweep.sweeps.resolve import resolve
from hushsweep.sweeps.runner import RunnerOptions
from hushsweep.sweeps.source import parse_source

text, results = Path(sys.argv[1]).read_text(), Path(sys.argv[2])
source = parse_source(text, folder=Path("/"))
spec = SweepSpec.from_source(source)
trials = make_plan("mixed", resolve(spec, source, device="cpu"), set(), shards=3).shard_trials()
driver.prepare_ray(None)
ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
driver._gpu_gib = lambda: 80.0  # the one thing that this machine does not have
Store(results)
options = RunnerOptions(execution=spec.execution)
fit = driver.fit


def fit_and_say(trials, watcher, resources, *rest, **more):
    print("resources", *resources, "of", len(trials), flush=True)
    return fit(trials, watcher, resources, *rest, **more)


driver.fit = fit_and_say
anywhere = [replace(trial, device="auto") for trial in trials]
driver.run_on_ray(anywhere, results=results, options=options, report=lambda progress: None)
"""


def test_trials_share_a_gpu_once_their_memory_was_seen(tmp_path: Path) -> None:
    """A real Ray with one GPU that only Ray sees: one trial of each kind alone, then as many as their memory allows."""
    (tmp_path / "mixed.yaml").write_text(
        SWEEP.replace("shards: 3", "shards: 3, threads: 1, cpus_per_trial: 1")
    )
    command = [sys.executable, "-c", PACKED, str(tmp_path / "mixed.yaml"), str(tmp_path / "results")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    store = Store(tmp_path / "results")
    found = store.read("per_image/accuracy", columns=["point_id", "computed_by"])
    assert len(found) == 8 * 2 * 50
    assert len(store.listing("per_image/accuracy").on_disk) == 24
    said = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("resources ")]
    assert said == [["1.0", "1.0", "of", "2"], ["1.0", "0.125", "of", "22"]]


def test_a_kind_that_nobody_measured_has_a_gpu_alone(trials: list[Trial]) -> None:
    assert measured_share([(trials[0], 0.1)], [replace(trials[0], input_size=64)], 80) == 1.0
