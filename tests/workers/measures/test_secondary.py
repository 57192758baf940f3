"""What attackers reach: all of it without noise, nothing in pure noise, more when they may ask again."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from attacks_support import DIGITS, attack_subject, noisy
from rows_support import assert_same_rows
from torch import Tensor

from hushsweep.dashboards import run_query
from hushsweep.datasets.tasks import blind_floor
from hushsweep.sweeps import Summary, run
from hushsweep.workers.attacks import training
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.measures import Secondary, Statistic, Subject
from hushsweep.workers.measures.base import FittedPoint, FittedStage
from hushsweep.workers.testing import check_measure

QUICK = Secondary(epochs=8)


@dataclass(frozen=True)
class HalfHidden:
    """Every image keeps another half of its pixels, and noise stands in the place of the others."""

    def apply(self, activations: Tensor, noise: Callable[[str], Tensor]) -> Tensor:
        return torch.where(self.mask(activations) > 0, activations, 2 * noise("gaussian"))

    def mask(self, activations: Tensor) -> Tensor:
        seeds = (1000 * activations.flatten(1).sum(1)).round().long() % 97
        place = torch.arange(activations[0].numel())
        kept = (place[None] * 37 + seeds[:, None] * 61) % 5 < 2
        return kept.reshape(activations.shape).to(activations.dtype)


HALF_HIDDEN = FittedPoint(
    point_id="half", seed=0, stages=(FittedStage("input/0", "input", HalfHidden()),), leaves="input"
)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return attack_subject(tmp_path_factory.mktemp("cache"))


def rows_of(options: Secondary, subject: Subject, point: FittedPoint) -> pa.Table:
    (table,) = options.measure(subject, [point]).per_image
    return table


def statistics(options: Secondary, subject: Subject, point: FittedPoint) -> dict[str, Statistic]:
    return {found.name: found for found in options.summarise(rows_of(options, subject, point))}


def top1(options: Secondary, subject: Subject, point: FittedPoint) -> float:
    value = statistics(options, subject, point)["top1"].value
    assert value is not None
    return value


def test_without_noise_everything_is_read(subject: Subject) -> None:
    found = statistics(QUICK, subject, noisy("input", 0.0))
    assert found["top1"].value > 0.93
    assert found["top1"].reason is None
    images = subject.activations.images
    assert found["floor"].value == blind_floor(images.labels, images.secondary)
    assert found["entropy"].value == pytest.approx(np.log2(10), abs=0.01)
    assert found["information_floor"].value == pytest.approx(1, abs=0.01)
    assert 2.8 < found["information"].value < found["entropy"].value
    assert (found["validation_top1"].n, found["top1"].n) == (119, 599)


def test_in_pure_noise_an_attacker_guesses(subject: Subject) -> None:
    counts = np.bincount(subject.activations.images.secondary)
    for options in (replace(QUICK, draws=5), Secondary(epochs=8, attacker="average", draws=5)):
        found = statistics(options, subject, noisy("input", 1000.0))
        # guesses that know nothing: 599 images, 5 draws each, of 10 classes; 4 standard errors
        assert found["top1"].value < counts.max() / counts.sum() + 4 * (0.09 / 599) ** 0.5
        assert found["information"].value == pytest.approx(0, abs=0.05)


def test_asking_again_helps_against_noise(subject: Subject) -> None:
    for at in ("input", "cut"):
        point = noisy(at, 2.0 if at == "input" else 1.0)
        assert (
            top1(Secondary(epochs=8, attacker="average"), subject, point) > top1(QUICK, subject, point) + 0.2
        )


def test_a_larger_network_reads_more_at_a_linear_head(subject: Subject) -> None:
    linear = statistics(QUICK, subject, noisy("cut", 0.0))
    assert "linear, and so is this attacker; network: mlp" in str(linear["top1"].reason)
    larger = statistics(replace(QUICK, network="mlp"), subject, noisy("cut", 0.0))
    assert larger["top1"].reason is None
    assert larger["top1"].value > linear["top1"].value


def test_a_mask_helps_who_is_given_it(subject: Subject) -> None:
    single = top1(replace(QUICK, epochs=20), subject, HALF_HIDDEN)
    masked = Secondary(epochs=20, attacker="mask")
    assert masked.inapplicable(HALF_HIDDEN) is None
    assert top1(masked, subject, HALF_HIDDEN) > single + 0.05
    at_cut = replace(HALF_HIDDEN, leaves="cut", stages=(FittedStage("cut/0", "cut", HalfHidden()),))
    for network in ("server", "mlp"):
        rows = rows_of(replace(masked, network=network, epochs=2), subject, at_cut)
        assert rows["status"].unique().to_pylist() == ["complete"]


def test_what_cannot_be_asked_is_not_applicable() -> None:
    assert "no mask" in str(Secondary(attacker="mask").inapplicable(noisy("input", 1.0)))
    assert "every query gets the same" in str(Secondary(attacker="average").inapplicable(noisy("cut", 0.0)))
    assert QUICK.inapplicable(noisy("cut", 0.0)) is None


@pytest.mark.parametrize("cuts", [(0, 599), (0, 200, 400, 599), (0, 1, 598, 599)])
def test_shards_and_batches_change_no_bit(subject: Subject, cuts: tuple[int, ...]) -> None:
    options = Secondary(epochs=2, attacker="average", draws=2)
    whole = rows_of(options, subject, noisy("cut", 1.0))
    other = replace(subject, activations=replace(subject.activations, batch_size=7))
    parts = [
        rows_of(options, replace(other, positions=range(*ends)), noisy("cut", 1.0))
        for ends in itertools.pairwise(cuts)
    ]
    assert pa.concat_tables(parts).equals(whole)


def test_shards_begin_at_different_points_and_train_each_attacker_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, trained = attack_subject(tmp_path), []
    train = training._train

    def counted(attack: training.Attack, **options: object) -> training.Trained:
        trained.append(attack.view.point.point_id)
        return train(attack, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "_train", counted)
    points = [noisy("input", std) for std in (1.0, 2.0, 3.0)]
    last = replace(subject, positions=range(400, 599))
    tables = list(Secondary(epochs=1).measure(last, points).per_image)
    assert trained == [points[place].point_id for place in (2, 0, 1)]
    assert [table["point_id"][0].as_py() for table in tables] == [point.point_id for point in points]
    list(Secondary(epochs=1).measure(replace(subject, positions=range(400)), points).per_image)
    assert len(trained) == 3


def test_a_training_that_diverges_leaves_the_other_points_alone(subject: Subject) -> None:
    broken, good = noisy("input", float("inf")), noisy("input", 0.0)
    tables = list(replace(QUICK, epochs=1).measure(subject, [broken, good]).per_image)
    with pytest.raises(ValueError, match="not finite"):
        QUICK.summarise(tables[0])
    assert QUICK.summarise(tables[1])[0].value > 0.3
    with pytest.raises(PlugInError, match="not finite"):
        replace(QUICK, epochs=1).measure(subject, [broken])
    with pytest.raises(PlugInError, match=r"diverged in epoch .* choose a smaller one"):
        replace(QUICK, learning_rate=1e30).measure(subject, [good])


def test_labels_are_needed(tmp_path: Path) -> None:
    plain = attack_subject(tmp_path, dataset=replace(DIGITS, task=None))
    with pytest.raises(PlugInError, match="no secondary labels"):
        QUICK.measure(plain, [noisy("cut", 1.0)])


def test_half_of_the_images_may_be_reported(subject: Subject) -> None:
    rows = rows_of(replace(QUICK, epochs=1), subject, replace(noisy("cut", 1.0), step=2))
    assert rows["image_index"].to_pylist() == subject.activations.images.indices[1::2].tolist()


def test_contract() -> None:
    assert Secondary(attacker="average") == Secondary(attacker="average", queries=10)
    check_measure(Secondary(attacker="average", queries=3))
    with pytest.raises(ValueError, match="queries: only attacker average asks more than once, not mask"):
        Secondary(attacker="mask", queries=2)
    with pytest.raises(ValueError, match="draws: expected a number >= 1, got 0"):
        Secondary(draws=0)


SWEEP = """
name: attacked
dataset: {name: digits, task: less_than_5, limit: 100, train_limit: 400}
model: {name: digits_mlp, weights: train, epochs: 2}
mechanism:
  - {name: gaussian, at: input, noise_scale: [1, 2]}
  - {name: gaussian, noise_scale: 1}
measures:
  - {name: accuracy}
"""


def run_text(text: str, folder: Path) -> Summary:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.yaml").write_text(text)
    return run(folder / "sweep.yaml", results=folder / "results", local=True, mirror=False)


def test_adding_attackers_trains_no_mechanism_and_no_server_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_text(SWEEP, tmp_path).exit_code == 0
    models = {file: file.stat().st_mtime_ns for file in (tmp_path / "results" / "models").iterdir()}
    assert models
    monkeypatch.setattr("hushsweep.workers.training.train", None)
    more = SWEEP + "  - {name: secondary, attacker: [single, average, mask], epochs: 2}\n"
    summary = run_text(more, tmp_path)
    assert (summary.exit_code, summary.computed) == (0, 3 * 3)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "results" / "models").iterdir()} == models
    files = list((tmp_path / "results" / "cache" / "attackers").glob("*.safetensors"))
    assert len(files) == 2 * 3
    rows = run_query(
        tmp_path / "results",
        "SELECT status, reason, count(DISTINCT point_id) AS points FROM measurements WHERE measure = 'secondary' "
        "AND (statistic IS NULL OR statistic = 'floor') GROUP BY ALL ORDER BY status",
    ).to_pylist()
    assert [(row["status"], row["points"]) for row in rows] == [("complete", 3), ("not_applicable", 3)]
    assert "no mask" in rows[1]["reason"]


def test_the_rows_of_a_sweep_do_not_depend_on_shards_or_batches(tmp_path: Path) -> None:
    text = SWEEP + "  - {name: secondary, attacker: [single, average], epochs: 2, draws: 2}\n"
    assert run_text(text, tmp_path / "one").exit_code == 0
    assert run_text(text + "execution: {shards: 3, batch_size: 7}\n", tmp_path / "three").exit_code == 0
    assert_same_rows(tmp_path / "one" / "results", tmp_path / "three" / "results")
