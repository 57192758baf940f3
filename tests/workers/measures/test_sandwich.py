"""Attacks stay above the bounds that hold for every estimator, each on the quantity that it bounds."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from attacks_support import attack_subject, noisy
from torch import Tensor

from hushsweep.datasets.images import DatasetConfig
from hushsweep.workers.attacks.reconstruction import options as attack_options
from hushsweep.workers.measures import Sandwich, Statistic, Subject
from hushsweep.workers.measures.base import FittedPoint, FittedStage
from hushsweep.workers.mechanisms import AdditiveNoise
from hushsweep.workers.models import ModelConfig
from hushsweep.workers.testing import check_measure

LEVELS = [0.25, 0.5, 1.0, 2.0, 4.0]
LAWS = ["gaussian", "laplace"]
ATTACKS = [
    Sandwich(attack="blind", images=8, draws=16),
    Sandwich(attack="class_mean", images=8, draws=16),
    Sandwich(attack="ridge", images=8, draws=16),
    Sandwich(attack="decoder", epochs=2, images=8, draws=16),
    Sandwich(attack="map", prior="gaussian", steps=60, images=8, draws=16),
]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return attack_subject(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def mnist(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    dataset = DatasetConfig(
        name="mnist", root=str(data_root / "mnist"), task="less_than_5", train_limit=2000, limit=200
    )
    model = ModelConfig(name="mnist_mlp", weights="random")
    return attack_subject(tmp_path_factory.mktemp("cache"), dataset=dataset, model=model)


def rows_of(options: Sandwich, subject: Subject, point: FittedPoint) -> pa.Table:
    (table,) = options.measure(subject, [point]).per_image
    return table


def statistics(options: Sandwich, subject: Subject, point: FittedPoint) -> dict[str, Statistic]:
    return {found.name: found for found in options.summarise(rows_of(options, subject, point))}


def assert_holds(options: Sandwich, subject: Subject, law: str) -> None:
    scales = [level * subject.rms() for level in LEVELS]
    points = [noisy("cut", scale, law=law) for scale in scales]
    for point, table in zip(points, options.measure(subject, points).per_image, strict=True):
        found = {one.name: one for one in options.summarise(table)}
        for bound in ("two_point", "van_trees"):
            least, error = found[f"{bound}_mse_bound"], found[f"{bound}_attack_mse"]
            assert 0 < least.value <= error.value + 4 * error.stderr, (point.point_id, bound)
            assert found[f"{bound}_violated"].value == 0
            assert found[f"{bound}_gap"].value == pytest.approx(error.value / least.value)
            assert least.holds_for is not None


def test_it_keeps_the_contract_of_measures() -> None:
    check_measure(Sandwich(attack="ridge"))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("options", ATTACKS, ids=lambda options: options.attack)
def test_it_holds_on_digits(digits: Subject, options: Sandwich, law: str) -> None:
    assert_holds(options, digits, law)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("options", ATTACKS, ids=lambda options: options.attack)
def test_it_holds_on_mnist(mnist: Subject, options: Sandwich, law: str) -> None:
    assert_holds(replace(options, images=4, draws=8), mnist, law)


def test_it_holds_for_several_queries(digits: Subject) -> None:
    options = Sandwich(attack="ridge", queries=9, images=8, draws=16)
    point = noisy("cut", 3 * digits.rms())
    found = statistics(options, digits, point)
    assert found["two_point_violated"].value == 0
    # the bound is that of noise a third as large
    once = statistics(replace(options, queries=1), digits, noisy("cut", digits.rms()))
    assert found["van_trees_mse_bound"].value == pytest.approx(once["van_trees_mse_bound"].value)
    assert "Gaussian noise only" in str(options.inapplicable(noisy("cut", 1.0, law="laplace")))


def test_a_program_that_knows_the_image_is_caught(digits: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no attacker can do: it returns the truth; the flag is raised, and says so."""

    class Liar:
        digest = None

        @classmethod
        def fit(cls, target: object) -> "Liar":
            return cls()

        def reconstruct(self, seen: Tensor, inputs: Tensor) -> Tensor:
            return inputs

    monkeypatch.setattr(attack_options, "Blind", Liar)
    found = statistics(Sandwich(attack="blind", images=4, draws=4), digits, noisy("cut", digits.rms()))
    for bound in ("two_point", "van_trees"):
        assert found[f"{bound}_violated"].value == 1
        assert "one of the two programs is wrong" in str(found[f"{bound}_violated"].reason)


def test_a_guess_of_the_truth_is_no_contradiction_to_what_bounds_an_average(
    digits: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who always guesses the true image errs by nothing on it, but by the whole move on the image moved."""

    class Guess:
        digest = None

        def __init__(self, guess: Tensor) -> None:
            self.guess = guess

        @classmethod
        def fit(cls, target: object) -> "Guess":
            return cls(digits.activations.inputs([0]))

        def reconstruct(self, seen: Tensor, inputs: Tensor) -> Tensor:
            return self.guess.expand_as(inputs)

    monkeypatch.setattr(attack_options, "Blind", Guess)
    options = Sandwich(attack="blind", images=1, draws=4)
    found = statistics(options, digits, noisy("cut", digits.rms()))
    assert found["two_point_attack_mse"].value >= found["two_point_mse_bound"].value
    assert found["van_trees_attack_mse"].value == pytest.approx(0.25, rel=0.3)  # the prior's own variance
    assert found["two_point_violated"].value == found["van_trees_violated"].value == 0


def test_what_has_no_sandwich_says_why() -> None:
    assert "oracle" in str(Sandwich(attack="bayes").inapplicable(noisy("cut", 1.0)))
    assert "single additive noise at the cut" in str(
        Sandwich(attack="ridge").inapplicable(noisy("input", 1.0))
    )
    silent = replace(noisy("cut", 1.0), stages=(FittedStage("cut/0", "cut", AdditiveNoise("gaussian", 0.0)),))
    assert "without noise" in str(Sandwich(attack="ridge").inapplicable(silent))


def test_shards_share_the_images(digits: Subject) -> None:
    point, options = noisy("cut", digits.rms()), Sandwich(attack="ridge", images=40, draws=2)
    whole = rows_of(options, digits, point)
    halves = [
        rows_of(options, replace(digits, positions=part), point) for part in (range(200), range(200, 599))
    ]
    keys = ("image_index", "bound", "mse_bound", "attack_mse")
    assert sorted(map(tuple, whole.select(keys).to_pandas().to_numpy().tolist())) == sorted(
        map(tuple, pa.concat_tables(halves).select(keys).to_pandas().to_numpy().tolist())
    )
