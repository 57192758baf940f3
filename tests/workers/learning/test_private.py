"""DP-SGD does what it says: gradients of single images, clipped; noise of the stated size; steps counted once."""

import copy
import multiprocessing
import os
import signal
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from learning_support import learned, learning_task
from safetensors.torch import load_file
from torch import nn
from torch.optim import SGD

from hushsweep.datasets.images import DatasetConfig, load_images
from hushsweep.datasets.tasks import training_part
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning import private
from hushsweep.workers.learning.crops import Crops, cropped, draw_crops
from hushsweep.workers.learning.learn import learn
from hushsweep.workers.learning.per_example import PrivateSteps
from hushsweep.workers.learning.private_networks import check_network
from hushsweep.workers.learning.task import derived_seed
from hushsweep.workers.mechanisms.dp_sgd import DpSgd
from hushsweep.workers.models import ModelConfig, Trainable, load_model, trainable
from hushsweep.workers.models.cuts import MethodCut

DIGITS = DatasetConfig(name="digits", train_limit=200)
MODEL = ModelConfig(name="conv5_gn", weights="random")
TASK = learning_task(dataset=DIGITS, model=MODEL)


def dp_sgd(**parameters) -> DpSgd:
    defaults = {"noise_multiplier": 1.0, "epochs": 2, "batch_size": 40, "delta": 1e-3}
    return DpSgd(**{**defaults, **parameters})


def weights_of(folder: Path, mechanism: DpSgd, task=TASK) -> dict[str, torch.Tensor]:
    found = learned("dp_sgd", mechanism, folder, task=task).server
    assert found is not None
    return dict(found)


def fresh(model: ModelConfig = MODEL):
    return trainable(
        model,
        "features",
        info=TASK.info,
        transform=TASK.transform,
        seed=derived_seed("server", model.seed, 0),
    )


class Tiny(nn.Module):
    """Convolutions with and without groups and of a single pixel, group normalisation, tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Sequential(
            nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2, groups=2, padding=1), nn.Tanh()
        )
        self.tokens = nn.Linear(4, 6)
        self.pixel = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 6, 3, padding=1))
        self.classifier = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.second(self.first(x))
        tokens = self.tokens(maps.permute(0, 2, 3, 1)).tanh().mean((1, 2))
        return self.classifier(tokens + self.pixel(maps).flatten(1))


def vector(tensors) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def slow_gradients(network, x, labels, *, copies: int) -> list[torch.Tensor]:
    """Gradient of every image by itself, as one vector each."""
    found = []
    for images, label in zip(x.split(copies), labels, strict=True):
        loss = nn.functional.cross_entropy(network(images), label.repeat(copies))
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        found.append(vector(gradients))
    return found


@pytest.mark.parametrize("gradients", ["per_sample", "ghost"])
@pytest.mark.parametrize(("copies", "physical_batch"), [(1, None), (3, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_clipped_gradients_are_those_of_a_slow_loop(gradients, copies, physical_batch, layout) -> None:
    torch.manual_seed(0)
    network = Tiny().train().to(memory_format=layout)
    x = torch.randn(5 * copies, 3, 6, 6).contiguous(memory_format=layout)
    labels = torch.tensor([0, 1, 2, 0, 1])
    found = slow_gradients(network, x, labels, copies=copies)
    clip_norm = float(np.median([gradient.norm() for gradient in found]))  # some are clipped, others are not
    expected = sum(gradient * min(1.0, clip_norm / float(gradient.norm())) for gradient in found) / 7
    before = vector(network.parameters())
    steps = PrivateSteps(
        network,
        SGD(network.parameters(), lr=1.0),
        noise_multiplier=0.0,
        clip_norm=clip_norm,
        batch_size=7,
        physical_batch=physical_batch,
        gradients=gradients,
        copies=copies,
    )

    def losses(places: np.ndarray) -> torch.Tensor:
        rows = x.unflatten(0, (5, copies))[torch.from_numpy(places)].flatten(0, 1)
        wanted = labels[torch.from_numpy(places)].repeat_interleave(copies)
        found = nn.functional.cross_entropy(network(rows), wanted, reduction="none")
        return found.unflatten(0, (-1, copies)).mean(1)

    steps.step(5, losses)
    after = vector(network.parameters())
    torch.testing.assert_close(before - after, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gradients", ["per_sample", "ghost"])
def test_a_step_without_images_is_noise_of_the_stated_size(gradients: str) -> None:
    torch.manual_seed(0)
    network = nn.Linear(300, 200).train()
    before = network.weight.detach().clone()
    steps = PrivateSteps(
        network,
        SGD(network.parameters(), lr=1.0),
        noise_multiplier=1.5,
        clip_norm=0.3,
        batch_size=9,
        physical_batch=None if gradients == "ghost" else 4,
        gradients=gradients,
        copies=1,
    )
    total = steps.step(0, lambda places: pytest.fail("there is nothing to look at"))
    noise = network.weight.detach() - before
    assert total == 0
    # 60,000 numbers: a standard deviation is off by 0.29 %, a mean by 0.41 % of it; six of each
    assert float(noise.std()) == pytest.approx(1.5 * 0.3 / 9, rel=6 * 0.0029)
    assert abs(float(noise.mean())) < 6 * 0.0041 * 1.5 * 0.3 / 9


def test_the_noise_of_a_training_has_the_stated_size(tmp_path: Path) -> None:
    """One step on all images, with so much noise that it is all that is seen."""
    task = learning_task(dataset=DIGITS, model=MODEL)
    mechanism = dp_sgd(noise_multiplier=400.0, clip_norm=0.5, epochs=1, batch_size=200, learning_rate=0.5)
    after, before = weights_of(tmp_path, mechanism, task), fresh().network_state()
    moved = torch.cat([(after[key] - before[key]).flatten() for key in before])
    assert len(moved) == 63_258 + 144  # 9 weights of the first convolution are 1 channel's
    expected = 0.5 * 400 * 0.5 / 200  # rate x multiplier x norm / expected batch
    assert float(moved.std()) == pytest.approx(expected, rel=6 * 0.0029)


def test_batches_are_drawn_image_by_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[np.ndarray] = []
    step = private.PrivateTraining._step
    monkeypatch.setattr(
        private.PrivateTraining, "_step", lambda self, rows: (batches.append(rows), step(self, rows))[1]
    )
    weights_of(tmp_path, dp_sgd(epochs=10, trained="head"))
    assert len(batches) == 50
    counts = np.bincount(np.concatenate(batches), minlength=200)
    assert all(len(set(rows)) == len(rows) for rows in batches)
    # chance 0.2 each: 2,000 +- 40 in all, and an image is in 10 +- 2.8 of the 50 batches
    assert counts.sum() == pytest.approx(2000, abs=240)
    assert counts.std() == pytest.approx(np.sqrt(50 * 0.2 * 0.8), rel=0.3)
    assert len({len(rows) for rows in batches}) > 5


@pytest.mark.parametrize("gradients", ["per_sample", "ghost"])
def test_the_physical_batch_changes_the_rounding_alone(tmp_path: Path, gradients: str) -> None:
    settings = {"augmentations": 2, "crop_padding": 1, "gradients": gradients, "epochs": 1}
    whole = weights_of(tmp_path / "a", dp_sgd(**settings))
    parts = weights_of(tmp_path / "b", dp_sgd(**settings, physical_batch=7))
    for key in whole:
        torch.testing.assert_close(whole[key], parts[key], rtol=1e-4, atol=1e-5)


def test_ghost_clipping_gives_the_same_network(tmp_path: Path) -> None:
    first = weights_of(tmp_path / "a", dp_sgd(epochs=1))
    second = weights_of(tmp_path / "b", dp_sgd(epochs=1, gradients="ghost"))
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("parameters", [{}, {"noise_multiplier": 0.0}])
def test_batches_that_are_empty(tmp_path: Path, parameters) -> None:
    """One image expected: 37 % of the batches have none."""
    task = learning_task(dataset=replace(DIGITS, train_limit=30), model=MODEL)
    found = weights_of(tmp_path, dp_sgd(batch_size=1, epochs=1, **parameters), task)
    assert all(bool(torch.isfinite(value).all()) for value in found.values())


@pytest.mark.parametrize("physical_batch", [None, 11])
def test_without_noise_and_clipping_it_is_plain_sgd_on_the_same_batches(
    tmp_path: Path, physical_batch: int | None
) -> None:
    mechanism = dp_sgd(noise_multiplier=0.0, epochs=2, learning_rate=0.05, physical_batch=physical_batch)
    found = weights_of(tmp_path, mechanism)
    images = load_images(training_part(DIGITS), TASK.transform.geometry, cache_dir=tmp_path)
    network = fresh().train()
    optimiser = SGD(network.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(2):
        torch.manual_seed(int(sha256(f"learn/0/{epoch}".encode()).hexdigest()[:15], 16))
        drawn = [torch.rand(200) < 40 / 200 for _ in range(5)]
        for number, chosen in enumerate(drawn):
            optimiser.param_groups[0]["lr"] = 0.05 * 0.5 * (1 + np.cos(np.pi * (epoch + number / 5) / 2))
            x = network.normalise(torch.from_numpy(images.images[chosen.numpy()]))
            labels = torch.from_numpy(images.labels[chosen.numpy()])
            loss = nn.functional.cross_entropy(network(x), labels, reduction="sum") / 40
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    for key, value in network.network_state().items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)


def test_the_average_is_the_one_computed_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    step = private.PrivateTraining._step

    def watched(self, rows):
        loss = step(self, rows)
        seen.append(self.network.network_state())
        return loss

    monkeypatch.setattr(private.PrivateTraining, "_step", watched)
    found = weights_of(tmp_path, dp_sgd(ema=0.3, epochs=2))
    average = seen[0]
    for steps, weights in enumerate(seen[1:], start=1):
        kept = min(0.3, (1 + steps) / (10 + steps))
        average = {key: kept * average[key] + (1 - kept) * weights[key] for key in weights}
    assert len(seen) == 10
    for key, value in average.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found["classifier.weight"], seen[-1]["classifier.weight"], atol=1e-4)


def test_the_average_is_what_is_watched(tmp_path: Path) -> None:
    task = learning_task(model=MODEL)  # with validation images
    mechanism = dp_sgd(ema=0.9, epochs=2, noise_multiplier=4.0)
    found = learned("dp_sgd", mechanism, tmp_path, task=task)
    network = trainable(
        MODEL, "features", info=task.info, transform=task.transform, state_dict=found.server, num_classes=2
    )
    images = load_images(
        replace(task.dataset, split="validation", limit=2000), task.transform.geometry, cache_dir=tmp_path
    )
    with torch.no_grad():
        right = network(network.normalise(torch.from_numpy(np.array(images.images)))).argmax(1)
    assert found.score == pytest.approx(float((right.numpy() == images.labels).mean()), abs=1e-9)


@pytest.mark.parametrize(
    ("model", "cut", "parameters"),
    [
        ("conv5_gn", "features", {}),
        ("conv5_gn", "layers.11", {"gradients": "ghost"}),
        ("conv5_gn", "features", {"augmentations": 2, "flip": True}),
        ("conv5", "features", {}),  # batch normalisation that is frozen mixes nothing
        ("conv5", "features", {"augmentations": 2}),
    ],
)
def test_training_the_head_alone_leaves_what_stands_before_the_cut(
    tmp_path: Path, model: str, cut: str, parameters
) -> None:
    config = ModelConfig(name=model, weights="random")
    task = replace(learning_task(dataset=DIGITS, model=config), cut=cut)
    base = fresh(config).network_state()
    found = learn(
        "dp_sgd",
        dp_sgd(trained="head", server="tuned", epochs=1, **parameters),
        "input",
        task,
        base_state=lambda: base,
        models_dir=tmp_path / "models",
        cache_dir=tmp_path / "cache",
    ).server
    changed = {key for key in base if not torch.equal(base[key], found[key])}
    after = {"classifier.weight", "classifier.bias"}
    if cut == "layers.11":
        after |= {key for key in base if key.startswith("layers.") and int(key.split(".")[1]) > 11}
    assert changed == after


def test_features_are_computed_once_and_give_what_every_step_would(tmp_path: Path) -> None:
    """Against crops that move nothing, which run the frozen part in every step."""
    once = weights_of(tmp_path / "a", dp_sgd(trained="head", epochs=1))
    again = weights_of(tmp_path / "b", dp_sgd(trained="head", epochs=1, physical_batch=1000))
    assert all(torch.equal(once[key], again[key]) for key in once)
    # crops are drawn before the noise, so that the noise differs: without any they are the same
    still = {"trained": "head", "epochs": 1, "noise_multiplier": 0.0, "clip_norm": 0.5}
    first = weights_of(tmp_path / "c", dp_sgd(**still))
    second = weights_of(tmp_path / "d", dp_sgd(**still, augmentations=3, crop_padding=0))
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=1e-4, atol=1e-5)


def test_trainings_of_a_head_share_what_the_frozen_part_makes_of_the_images(tmp_path: Path) -> None:
    """Whatever their noise; images or frozen weights that differ do not."""
    frozen = tmp_path / "cache" / "frozen"
    weights_of(tmp_path, dp_sgd(trained="head", epochs=1, noise_multiplier=0.25))
    (features,) = frozen.glob("*.float32")
    whole, left = features.read_bytes(), frozen / f".{features.name}.1-abc.tmp"
    features.rename(left)  # as after a kill while it was written
    quiet = weights_of(tmp_path, dp_sgd(trained="head", epochs=1, noise_multiplier=0.5))
    (features,) = frozen.glob("*.float32")
    assert features.stat().st_size == 200 * 64 * 4
    assert features.read_bytes() == whole
    assert not left.exists(), "what a killed process left, which may be gigabytes"
    stamp = features.stat().st_mtime_ns
    loud = weights_of(tmp_path, dp_sgd(trained="head", epochs=1, noise_multiplier=2.0))
    assert list(frozen.glob("*.float32")) == [features]
    assert features.stat().st_mtime_ns == stamp
    apart = weights_of(tmp_path / "other", dp_sgd(trained="head", epochs=1, noise_multiplier=2.0))
    assert all(torch.equal(loud[key], apart[key]) for key in loud)
    assert not torch.equal(loud["classifier.weight"], quiet["classifier.weight"])
    for changed in (
        replace(TASK, dataset=replace(DIGITS, train_limit=190)),
        replace(TASK, seed=1),
        replace(TASK, cut="layers.11"),
    ):
        before = len(list(frozen.glob("*.float32")))
        weights_of(tmp_path, dp_sgd(trained="head", epochs=1), task=changed)
        assert len(list(frozen.glob("*.float32"))) == before + 1


def test_what_is_stored_is_plain_and_says_what_was_spent(tmp_path: Path) -> None:
    mechanism = dp_sgd(target_epsilon=2.0, noise_multiplier=None)
    found = learned("dp_sgd", mechanism, tmp_path, task=TASK)
    state = load_file(tmp_path / "models" / f"{found.digest}.safetensors")
    plain = {f"server.{key}" for key in fresh().network.state_dict()}
    assert {key for key in state if key.startswith("server.")} == plain
    load_model(MODEL, "features", info=TASK.info, transform=TASK.transform, state_dict=found.server)
    fitted = mechanism.bind(found.client, found.digest)
    (phase,) = fitted.spending.phases
    assert (phase.steps, phase.sampling_rate, phase.examples, phase.copies) == (10, 0.2, 200, 1)
    assert fitted.spending.delta == 1e-3
    assert phase == mechanism.phase(200, 2)
    values = torch.randn(2, 3)
    assert fitted.apply(values, lambda law: pytest.fail("no noise is asked for")) is values


def test_a_network_from_elsewhere_brings_its_account(tmp_path: Path) -> None:
    found = learned("dp_sgd", dp_sgd(epochs=1), tmp_path, task=TASK)
    path = str(tmp_path / "models" / f"{found.digest}.safetensors")
    outside = learned("dp_sgd", DpSgd(weights=path), tmp_path / "other", task=TASK)
    assert outside.server is None, "the model's weights serve, which may come from the same file"
    assert outside.client.spending == found.client.spending


def test_over_sampled_images_count_and_so_do_their_copies(tmp_path: Path) -> None:
    dataset = replace(DIGITS, train_limit=None, class_counts=(60, 30, 30, 30, 30, 30, 30, 30, 30, 30))
    task = learning_task(dataset=dataset, model=MODEL)
    found = learned("dp_sgd", dp_sgd(oversample="random", epochs=1), tmp_path, task=task)
    (phase,) = found.client.spending.phases
    assert phase.examples == 600
    assert phase.steps == 15
    assert phase.sampling_rate == 40 / 600
    assert phase.copies >= 2


def _killed_in_the_second_epoch(folder: Path) -> None:
    torch.set_num_threads(1)
    step, taken = private.PrivateTraining._step, []

    def dying(self, rows):
        taken.append(rows)
        if len(taken) == 5 + 3:  # the third step of the second epoch
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, rows)

    private.PrivateTraining._step = dying
    learned("dp_sgd", dp_sgd(epochs=3, ema=0.9, augmentations=2), folder, task=TASK)


def test_killed_in_the_middle_of_an_epoch_it_spends_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_killed_in_the_second_epoch, args=(tmp_path / "broken",)
    )
    process.start()
    process.join(timeout=120)
    assert process.exitcode == -signal.SIGKILL
    (checkpoint,) = (tmp_path / "broken" / "cache" / "checkpoints").glob("*")
    terms = torch.load(checkpoint, weights_only=True)["modules"]["client"]
    assert float(terms["phases"][0, 1]) == 5, "the epoch that was finished is all that is written down"
    step, taken = private.PrivateTraining._step, []
    monkeypatch.setattr(
        private.PrivateTraining, "_step", lambda self, rows: (taken.append(rows), step(self, rows))[1]
    )
    mechanism = dp_sgd(epochs=3, ema=0.9, augmentations=2)
    resumed = learned("dp_sgd", mechanism, tmp_path / "broken", task=TASK)
    assert len(taken) == 10, "the epoch that was begun is repeated"
    whole = learned("dp_sgd", mechanism, tmp_path / "whole", task=TASK)
    assert all(torch.equal(resumed.server[key], whole.server[key]) for key in whole.server)
    assert resumed.client.spending == whole.client.spending
    assert resumed.client.spending.phases == (mechanism.phase(200, 3),)
    repeated, unbroken = taken[:5], taken[10 + 5 : 10 + 10]
    assert all(np.array_equal(a, b) for a, b in zip(repeated, unbroken, strict=True)), "with the same batches"


def test_crops_are_windows_of_the_mirrored_image() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 6), dtype=np.uint8)
    crops = Crops(
        torch.tensor([[-2, 0], [1, 2]]),
        torch.tensor([[1, 0], [-2, 2]]),
        torch.tensor([[0, 0], [1, 0]]).bool(),
    )
    found = cropped(torch.from_numpy(images), crops).numpy().reshape(2, 2, 3, 5, 6)
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    for image in range(2):
        for place in range(2):
            down, right = int(crops.down[image, place]) + 2, int(crops.right[image, place]) + 2
            window = padded[image, :, down : down + 5, right : right + 6]
            expected = window[..., ::-1] if crops.mirrored[image, place] else window
            np.testing.assert_array_equal(found[image, place], expected)


def test_crops_are_drawn_evenly() -> None:
    torch.manual_seed(0)
    crops = draw_crops(5000, 4, padding=2, flip=True)
    for drawn in (crops.down, crops.right):
        # 4,000 each, standard deviation 57
        assert torch.bincount(drawn.flatten() + 2).tolist() == pytest.approx([4000] * 5, abs=340)
    assert int(crops.mirrored.sum()) == pytest.approx(10_000, abs=6 * 71)
    assert not draw_crops(100, 4, padding=2, flip=False).mirrored.any()


class Plain(nn.Module):
    """Features and a classifier, with something in between that Opacus cannot follow."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.flatten, self.middle, self.classifier = nn.Flatten(), middle, nn.Linear(64, 10)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.middle(self.flatten(x))

    def forward_head(self, a: torch.Tensor) -> torch.Tensor:
        return self.classifier(a)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.unflatten(1, (8, 8))
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].flatten(1)


class Borrowed(nn.Module):
    """Uses a layer's weights without running the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.layer.weight, self.layer.bias).tanh()


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.layer(x).tanh()).tanh()


class Halved(Borrowed):
    """Runs the layer, and uses its weights once more."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + super().forward(x)


def attention() -> nn.Module:
    return Plain(Attention())


def borrowed() -> nn.Module:
    return Plain(Borrowed())


def twice() -> nn.Module:
    return Plain(Twice())


def halved() -> nn.Module:
    return Plain(Halved())


def whole() -> nn.Module:
    return Plain(nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 64), nn.ReLU(inplace=True), nn.Dropout(0.1)))


def network_of(make) -> Trainable:
    config = ModelConfig(name="conv5_gn", weights="random")
    found = trainable(config, "features", info=TASK.info, transform=TASK.transform)
    network = make().eval()
    return Trainable(
        network,
        MethodCut(network),
        input_shape=found.input_shape,
        mean=found.mean,
        std=found.std,
        network_size=None,
    )


@pytest.mark.parametrize(
    ("make", "parameters", "said"),
    [
        (
            attention,
            {},
            r"for middle\.attention \(MultiheadAttention\); choose another network, or trained: head",
        ),
        (borrowed, {}, r"does not find the gradients of its single images \(.*\); choose another network"),
        (
            halved,
            {},
            r"does not find the gradients of its single images \(middle\.layer\.weight\); choose another",
        ),
        (twice, {"gradients": "ghost"}, r"\(Parameter tying is not supported with Ghost Clipping\)"),
    ],
)
def test_networks_without_gradients_of_single_images_are_refused(make, parameters, said) -> None:
    network = network_of(make)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(PlugInError, match=said):
        check_network(dp_sgd(**parameters), "mine", network)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(hasattr(parameter, "grad_sample") for parameter in network.parameters()), "left as it was"
    check_network(dp_sgd(trained="head"), "mine", network)
    check_network(dp_sgd(noise_multiplier=0.0), "mine", network) if make is not attention else None


@pytest.mark.parametrize("parameters", [{}, {"gradients": "ghost"}, {"augmentations": 2}])
@pytest.mark.parametrize("make", [whole, twice])
def test_networks_with_them_are_not(make, parameters) -> None:
    if make is not twice or "gradients" not in parameters:
        check_network(dp_sgd(**parameters, crop_padding=1), "mine", network_of(make))
