"""The head learns on what was released of every record, and on nothing else."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from learning_support import CONV5, learned, learning_task
from safetensors.torch import load_file

from hushsweep.datasets.images import DatasetConfig
from hushsweep.workers.accounting import training_epsilons
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning.learn import check_client
from hushsweep.workers.learning.released import ReleasedTraining, head_parameters, randomised_response
from hushsweep.workers.learning.task import LearningTask
from hushsweep.workers.mechanisms import MECHANISMS
from hushsweep.workers.models import ModelConfig, trainable
from hushsweep.workers.noise import stream_generator

PLAIN = DatasetConfig(name="digits", train_limit=200)
MLP = ModelConfig(name="digits_mlp", weights="random")
CUTS = [(MLP, "features"), (CONV5, "layers.3")]


def private(**fields):
    level = {} if "target_epsilon" in fields else {"noise_multiplier": 0.2}
    return MECHANISMS["private_activations"](**{"epochs": 2, "batch_size": 50, **level, **fields})


def task_of(model: ModelConfig = MLP, cut: str = "features", **fields) -> LearningTask:
    return replace(learning_task(model=model, dataset=PLAIN, **fields), cut=cut)


def learn(folder: Path, task: LearningTask | None = None, report=None, **fields):
    return learned(
        "private_activations", private(**fields), folder, place="cut", task=task or task_of(), report=report
    )


class Seen(ReleasedTraining):
    """A training that keeps what every epoch saw, in the order of the records."""

    def run(self, checkpoint, report):
        self.seen = {}
        return super().run(checkpoint, report)

    def released(self, rows, epoch):
        values = super().released(rows, epoch)
        shape = (len(self.images), *values.shape[1:])
        self.seen.setdefault(epoch, torch.full(shape, torch.nan))[torch.from_numpy(rows)] = values
        return values


def run_seen(folder: Path, task: LearningTask | None = None, **fields) -> Seen:
    training = Seen(private(**fields), "cut", task or task_of(), None, folder, 1, fields.get("epochs", 2))
    training.run(folder / "checkpoint", lambda progress: None)
    return training


def test_once_is_one_release_and_per_epoch_is_one_each(tmp_path: Path) -> None:
    once = run_seen(tmp_path / "a", clip_norm=2.0)
    assert once.seen.keys() == {0, 1}
    assert torch.equal(once.seen[0], once.seen[1]), "the same noise in every epoch"
    each = run_seen(tmp_path / "b", clip_norm=2.0, release="per_epoch")
    assert torch.equal(each.seen[0], once.seen[0]), "the same stream"
    assert not torch.isclose(each.seen[0], each.seen[1]).any()
    clean = run_seen(tmp_path / "c", clip_norm=2.0, noise_multiplier=0.0).seen[0]
    assert float(clean.flatten(1).norm(dim=1).max()) <= 2.0 + 1e-6
    noises = [(seen - clean) / (2 * 2.0 * 0.2) for seen in (each.seen[0], each.seen[1])]
    # 200 x 128 entries: six standard errors are 0.037 of a mean or a correlation and 0.027 of a standard deviation
    for noise in noises:
        assert float(noise.mean()) == pytest.approx(0, abs=0.0375)
        assert float(noise.std()) == pytest.approx(1, abs=0.0265)
    assert float((noises[0] * noises[1]).mean()) == pytest.approx(0, abs=0.0375)
    assert [once.client.spending.phases[0].steps, each.client.spending.phases[0].steps] == [1, 2]


def test_a_records_release_depends_on_no_other_record(tmp_path: Path) -> None:
    task = task_of()
    few = replace(task, dataset=replace(task.dataset, train_limit=100))
    many, some = run_seen(tmp_path / "a"), run_seen(tmp_path / "b", few)
    rows = np.flatnonzero(np.isin(many.images.indices, some.images.indices))
    assert len(rows) == 100
    torch.testing.assert_close(many.seen[0][rows], some.seen[0])


@pytest.mark.parametrize(("model", "cut"), CUTS)
def test_the_encoder_stays_as_it_is_and_the_head_learns(tmp_path: Path, model: ModelConfig, cut: str) -> None:
    training = ReleasedTraining(private(learning_rate=0.3), "cut", task_of(model, cut), None, tmp_path, 1, 2)
    network = training.network
    before, probe = network.network_state(), torch.rand(5, *network.input_shape)
    features = network.features(probe).detach().clone()
    head = {id(parameter) for parameter in head_parameters(network)}
    names = {name for name, parameter in network.network.named_parameters() if id(parameter) in head}
    assert names
    training.run(tmp_path / "checkpoint", lambda progress: None)
    after = network.network_state()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved >= names, "all that comes after the cut"
    torch.testing.assert_close(network.features(probe), features)
    assert moved - names == ({name for name in before if _counts_in(name)} if model is CONV5 else set())


def _counts_in(name: str) -> bool:
    """Whether it is a statistic of batch normalisation after layers.3 of Conv-5."""
    return any(part in name for part in ("running", "num_batches")) and int(name.split(".")[1]) > 3


def test_it_learns_what_noise_leaves(tmp_path: Path) -> None:
    task = learning_task(model=MLP, dataset=replace(PLAIN, train_limit=None, task="less_than_5"))
    scores = {
        noise: learned_score(tmp_path / str(noise), task, noise_multiplier=noise)
        for noise in (0.0, 0.02, 5.0)
    }
    assert scores[0.0] > 0.75
    assert scores[0.02] > 0.7
    assert scores[5.0] < 0.65


def learned_score(folder: Path, task: LearningTask, **fields) -> float:
    training = ReleasedTraining(private(epochs=10, clip_norm=2.0, **fields), "cut", task, None, folder, 1, 10)
    return training.run(folder / "checkpoint", lambda progress: None)


class Killed(BaseException):
    """What ends a training from outside."""


@pytest.mark.parametrize("fields", [{}, {"release": "per_epoch", "label_epsilon": 2.0}])
def test_killed_and_resumed_it_is_the_same_and_spends_nothing_twice(tmp_path: Path, fields) -> None:
    whole = learn(tmp_path / "whole", epochs=3, **fields)

    class Killing(list):
        def append(self, progress) -> None:
            super().append(progress)
            if progress.epoch == 2:
                raise Killed

    with pytest.raises(Killed):
        learn(tmp_path / "broken", report=Killing(), epochs=3, **fields)
    reports: list[object] = []
    resumed = learn(tmp_path / "broken", report=reports, epochs=3, **fields)
    assert [report.epoch for report in reports] == [3]
    assert all(torch.equal(value, resumed.server[key]) for key, value in whole.server.items())
    assert resumed.client.spending == whole.client.spending
    assert resumed.client.spending.phases[0].steps == (3 if fields else 1)


def test_points_that_differ_in_queries_share_a_training(tmp_path: Path) -> None:
    reports: list[object] = []
    noisy = learn(tmp_path, report=reports)
    clipped = learn(tmp_path, report=reports, queries="clipped")
    assert noisy.digest == clipped.digest
    assert len(reports) == 2


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_randomised_response_keeps_its_ratio(classes: int) -> None:
    """Counted over 200,000 answers for each of two true labels; no count is off by more than six deviations."""
    epsilon, count = 1.5, 200_000
    generator = stream_generator(seed=0, purpose="test")
    answers = [
        np.bincount(
            randomised_response(np.full(count, label), classes, epsilon, generator), minlength=classes
        )
        for label in (0, classes - 1)
    ]
    kept = math.exp(epsilon) / (math.exp(epsilon) + classes - 1)
    other = (1 - kept) / (classes - 1)
    assert kept / other == pytest.approx(math.exp(epsilon)), "the largest ratio of chances"
    for label, found in zip((0, classes - 1), answers, strict=True):
        chances = np.full(classes, other)
        chances[label] = kept
        assert found.sum() == count
        assert (np.abs(found - count * chances) < 6 * np.sqrt(count * chances * (1 - chances))).all()


def test_labels_are_answered_once(tmp_path: Path) -> None:
    first = run_seen(tmp_path / "a", label_epsilon=1.0, release="per_epoch")
    wrong = (first._labels.numpy() != first.images.labels).mean()
    kept = math.e / (math.e + 9)
    assert wrong == pytest.approx(1 - kept, abs=6 * math.sqrt(kept * (1 - kept) / 200))
    again = run_seen(tmp_path / "b", label_epsilon=1.0)
    assert torch.equal(first._labels, again._labels)
    clear = run_seen(tmp_path / "c")
    assert (clear._labels.numpy() == clear.images.labels).all()


def encoder(**fields):
    chosen = {"encoder_noise_multiplier": 1.5, "encoder_epochs": 2, "encoder_batch_size": 40}
    return {"encoder": "dp_sgd", **chosen, **fields}


def test_an_encoder_learned_by_dp_sgd_is_composed_and_shared(tmp_path: Path) -> None:
    reports: list[object] = []
    first = learn(tmp_path, report=reports, **encoder(target_epsilon=30.0))
    assert [(report.epoch, report.epochs) for report in reports] == [(1, 2), (2, 2)] * 2
    learned_by_sgd, released = first.client.spending.phases
    assert (learned_by_sgd.noise_multiplier, learned_by_sgd.steps) == (1.5, 2 * 200 // 40)
    assert learned_by_sgd.sampling_rate == pytest.approx(40 / 200)
    assert (released.relation, released.steps) == ("replace_one", 1)
    assert training_epsilons(first.client.spending).pld == pytest.approx(30, rel=2e-3)
    (path,) = (tmp_path / "cache" / "encoders").glob("*.safetensors")
    state = {key.removeprefix("server."): value for key, value in load_file(path).items()}
    untouched = {key for key, value in first.server.items() if torch.equal(value, state[key])}
    assert untouched == {key for key in first.server if not key.startswith("classifier")}
    second = learn(tmp_path, report=reports, **encoder(noise_multiplier=1.0))
    assert len(reports) == 6, "another noise, the same encoder"
    assert second.client.spending.phases[0] == learned_by_sgd


def test_killed_while_the_encoder_learns_it_is_the_same(tmp_path: Path) -> None:
    whole = learn(tmp_path / "whole", **encoder())

    class Killing(list):
        def append(self, progress) -> None:
            raise Killed

    with pytest.raises(Killed):
        learn(tmp_path / "broken", report=Killing(), **encoder())
    reports: list[object] = []
    resumed = learn(tmp_path / "broken", report=reports, **encoder())
    assert [report.epoch for report in reports] == [2, 1, 2], "the encoder's last epoch, then the head's"
    assert all(torch.equal(value, resumed.server[key]) for key, value in whole.server.items())
    assert resumed.client.spending == whole.client.spending


def check(model: ModelConfig = MLP, cut: str = "features", dataset: DatasetConfig = PLAIN, **fields) -> None:
    task = replace(learning_task(model=model, dataset=dataset), cut=cut)
    check_client(private(**fields), "cut", model, cut, dataset, task.info, task.transform)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"delta": 0.005}, r"delta: expected less than 1 / 200 examples"),
        ({"batch_size": 201}, "batch_size: expected at most 200, the images to learn from, got 201"),
        ({"target_epsilon": 0.05, "accountant": "rdp_classic"}, r"target_epsilon 0\.05: unreachable"),
        (
            {"server": "tuned", "model": replace(MLP, weights="train")},
            "server: tuned would begin with weights",
        ),
        ({"cut": "classifier"}, "nothing that comes after the cut is learned; choose an earlier cut"),
        ({"model": CONV5, **encoder()}, "batch normalisation"),
        (encoder(target_epsilon=0.5), r"target_epsilon 0\.5: unreachable"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(fields, said) -> None:
    with pytest.raises(PlugInError, match=said):
        check(**fields)


def test_what_can_be_is_not(tmp_path: Path) -> None:
    check(target_epsilon=3.0, label_epsilon=1.0, release="per_epoch")
    check(CONV5, "layers.3")
    check(server="tuned")
    check(noise_multiplier=0.0, delta=0.1, server="tuned", model=replace(MLP, weights="train"))
    check(**encoder(target_epsilon=30.0))


def test_activations_that_mix_images_are_refused() -> None:
    model = ModelConfig(name="learning_support:MixesImages", weights="random", network_size=8)
    with pytest.raises(PlugInError, match="what comes before the cut mixes the images of a batch"):
        check(model, "layers")
    check(model, "layers.0")


def test_statistics_of_batch_normalisation_before_the_cut_do_not_move(tmp_path: Path) -> None:
    task = task_of(CONV5, "layers.3")
    network = trainable(CONV5, "layers.3", info=task.info, transform=task.transform, seed=3)
    training = ReleasedTraining(private(server="tuned"), "cut", task, network.network_state(), tmp_path, 1, 2)
    before = training.network.network.layers[1].running_mean.clone()
    training.run(tmp_path / "checkpoint", lambda progress: None)
    assert torch.equal(training.network.network.layers[1].running_mean, before)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"encoder": "dp_sgd"}, "encoder_noise_multiplier: encoder dp_sgd has to be given one"),
        ({"encoder_epochs": 3}, "encoder_epochs: has no effect with encoder frozen; leave it out, or give"),
    ],
)
def test_encoders_that_are_half_said(fields, said) -> None:
    with pytest.raises(ValueError, match=said):
        private(**fields)
