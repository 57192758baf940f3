"""Weights that we make are good, made once, and the same bits however often their making is interrupted."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors import safe_open
from torch import nn

from hushsweep.datasets.images import DatasetConfig, DatasetError, describe_dataset, load_images
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning import loop
from hushsweep.workers.models import ModelConfig, SplitModel, input_transform, load_model
from hushsweep.workers.training import ResolvedWeights, resolve_weights

DIGITS = DatasetConfig(name="digits")
QUICK = ModelConfig(name="digits_mlp", epochs=3, training_threads=1)


def resolve(config: ModelConfig, folder: Path, dataset=DIGITS, input_size=None) -> ResolvedWeights:
    info = describe_dataset(dataset)
    return resolve_weights(
        config,
        info=info,
        transform=input_transform(config, info, input_size=input_size),
        dataset=dataset,
        models_dir=folder / "models",
        cache_dir=folder / "cache",
        device="cpu",
    )


def top1(config: ModelConfig, weights: ResolvedWeights, folder: Path, dataset, input_size=None) -> float:
    info = describe_dataset(dataset)
    transform = input_transform(config, info, input_size=input_size)
    model = load_model(config, "features", info=info, transform=transform, state_dict=weights.state_dict)
    images = load_images(dataset, transform.geometry, cache_dir=folder / "cache")
    hits = 0
    for start in range(0, len(images), 20):
        x = model.normalise(torch.from_numpy(images.images[start : start + 20].copy()))
        hits += int(
            (model.head(model.features(x)).argmax(1).numpy() == images.labels[start : start + 20]).sum()
        )
    return hits / len(images)


def same(a: ResolvedWeights, b: ResolvedWeights) -> bool:
    assert a.state_dict is not None
    assert b.state_dict is not None
    return all(torch.equal(value, b.state_dict[name]) for name, value in a.state_dict.items())


def test_the_default_recipe_learns_the_digits(tmp_path):
    config = ModelConfig(name="digits_mlp", training_threads=1)
    assert top1(config, resolve(config, tmp_path), tmp_path, DIGITS) >= 0.95


def test_training_is_repeatable_stored_and_found_again(tmp_path):
    first = resolve(QUICK, tmp_path / "a")
    torch.manual_seed(99)  # the global stream has no part in it
    second = resolve(QUICK, tmp_path / "b")
    assert first.digest == second.digest
    assert same(first, second)
    path = tmp_path / "a" / "models" / f"{first.digest}.safetensors"
    written = path.stat().st_mtime_ns
    assert same(first, resolve(QUICK, tmp_path / "a"))
    assert path.stat().st_mtime_ns == written
    with safe_open(path, framework="pt") as file:
        settings = json.loads(file.metadata()["settings"])
    assert settings["model"] == "digits_mlp"
    assert settings["recipe"] == {
        "batch_size": 32,
        "epochs": 3,
        "learning_rate": 1e-3,
        "seed": 0,
        "threads": 1,
    }
    assert list((tmp_path / "a" / "cache" / "checkpoints").iterdir()) == []
    assert [path.name for path in (tmp_path / "a" / "models").iterdir() if path.suffix == ".tmp"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"epochs": 4},
        {"batch_size": 16},
        {"learning_rate": 1e-2},
        {"training_threads": 2},
        {"num_classes": 11},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_the_weights_changes_their_digest(change, tmp_path):
    config = replace(QUICK, epochs=1)
    plain, changed = resolve(config, tmp_path), resolve(replace(config, **change), tmp_path)
    assert plain.digest != changed.digest


def test_the_limit_on_reported_images_does_not_change_the_training(tmp_path):
    config = replace(QUICK, epochs=1)
    limited = replace(DIGITS, limit=10)
    assert resolve(config, tmp_path).digest == resolve(config, tmp_path, limited).digest


CHILD = """
import sys
from pathlib import Path
from hushsweep.datasets.images import DatasetConfig, describe_dataset
from hushsweep.workers.models import ModelConfig, input_transform
from hushsweep.workers.training import resolve_weights

folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
dataset = DatasetConfig(name="digits")
config = ModelConfig(name="digits_mlp", epochs=epochs, training_threads=1)
info = describe_dataset(dataset)
weights = resolve_weights(
    config, info=info, transform=input_transform(config, info, input_size=None), dataset=dataset,
    models_dir=folder / "models", cache_dir=folder / "cache", device="cpu",
)
print(weights.digest)
"""


def start(folder: Path, epochs: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(folder), str(epochs)],
        stdout=subprocess.PIPE,
        text=True,
    )


def epoch_of(folder: Path) -> int:
    for path in (folder / "cache" / "checkpoints").glob("[!.]*"):
        try:
            return len(torch.load(path, weights_only=True)["losses"])
        except FileNotFoundError:  # the training ended meanwhile
            return -1
    return 0


def test_a_killed_training_goes_on_and_ends_in_the_same_bits(tmp_path):
    epochs, folder = 40, tmp_path / "killed"
    config = replace(QUICK, epochs=epochs)
    reached = []
    for least in (2, 12):  # killed twice, the second time after it has gone on from a checkpoint
        child = start(folder, epochs)
        deadline = time.monotonic() + 60
        while epoch_of(folder) < least and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, "the training ended before it could be killed"
        reached.append(epoch_of(folder))
    assert 2 <= reached[0] < reached[1] < epochs
    assert list((folder / "models").glob("*.safetensors")) == []
    resumed = resolve(config, folder)
    assert same(resumed, resolve(config, tmp_path / "undisturbed"))


def test_several_processes_train_once(tmp_path):
    children = [start(tmp_path, 3) for _ in range(2)]
    digests = {child.communicate(timeout=120)[0].strip() for child in children}
    assert len(digests) == 1
    (file,) = (tmp_path / "models").glob("*.safetensors")
    assert same(resolve(QUICK, tmp_path), resolve(QUICK, tmp_path / "alone"))
    assert file.stem == digests.pop()


def test_a_damaged_checkpoint_is_started_over(tmp_path):
    alone = resolve(QUICK, tmp_path / "alone")
    checkpoint = tmp_path / "cache" / "checkpoints" / str(alone.digest)
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"PK\x03\x04 not really")
    assert same(alone, resolve(QUICK, tmp_path))


def test_training_that_diverges_is_said_and_leaves_nothing(tmp_path):
    with pytest.raises(
        PlugInError, match=r"diverged in epoch 1 .* learning_rate 1e\+30; choose a smaller one"
    ):
        resolve(replace(QUICK, learning_rate=1e30), tmp_path)
    assert list((tmp_path / "models").glob("*.safetensors")) == []
    assert torch.get_num_threads() >= 1


class Small(nn.Module):
    """Batch normalisation and dropout: state and randomness beside the weights."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.AdaptiveAvgPool2d(1),
        )
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.head(self.layers(x).flatten(1))


def test_dropout_and_batch_statistics_resume_too(tmp_path, monkeypatch):
    config = ModelConfig(
        name=f"{__name__}:Small", epochs=4, training_threads=1, batch_size=599
    )  # 1198 = 2 * 599
    whole = resolve(config, tmp_path / "whole")
    save, saved = loop._save, []

    def interrupted(path, modules, optimisers, history, best):
        save(path, modules, optimisers, history, best)
        saved.append(len(history.losses))
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resolve(config, tmp_path / "cut")
    assert same(whole, resolve(config, tmp_path / "cut"))
    assert saved == [1, 2, 3, 4]


def test_a_last_batch_of_one_image_is_left_out(tmp_path):
    config = ModelConfig(
        name=f"{__name__}:Small", epochs=1, training_threads=1, batch_size=399
    )  # 1198 = 3 * 399 + 1
    assert resolve(config, tmp_path).state_dict["layers.1.num_batches_tracked"] == 3


@pytest.fixture(scope="module")
def sample(data_root):
    return DatasetConfig(name="imagefolder", root=str(data_root / "imagenet-sample" / "val"), limit=24)


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/swin_tiny_patch4_window7_224"])
def test_prototypes_recognise_their_own_images(name, sample, tmp_path):
    config = ModelConfig(name=name, weights="prototype", seed=2)
    weights = resolve(config, tmp_path, sample, input_size=91)
    assert top1(config, weights, tmp_path, sample, input_size=91) == 1.0


def test_prototypes_are_what_the_formula_says(sample, tmp_path):
    """Rebuilt from torchvision alone, from the same decoded images."""
    config = ModelConfig(name="torchvision/resnet18", weights="prototype", seed=2)
    state = resolve(config, tmp_path, sample, input_size=91).state_dict
    info = describe_dataset(sample)
    transform = input_transform(config, info, input_size=91)
    images = load_images(sample, transform.geometry, cache_dir=tmp_path / "cache")
    torch.manual_seed(2)
    network = torchvision.models.resnet18(num_classes=info.classes).eval()
    body = nn.Sequential(*list(network.children())[:-1], nn.Flatten())
    x = torchvision.transforms.functional.normalize(
        torch.from_numpy(images.images.copy()).float() / 255, mean=transform.mean, std=transform.std
    )
    with torch.no_grad():
        features = body(nn.functional.interpolate(x, size=(224, 224), mode="bilinear", align_corners=False))
    labels = torch.tensor(images.labels)
    torch.testing.assert_close(state["fc.weight"][labels], features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state["fc.bias"][labels], -features.square().sum(1) / 2, rtol=1e-4, atol=1e-3)
    absent = np.setdiff1d(np.arange(info.classes), images.labels)
    assert state["fc.weight"][absent].abs().max() == 0
    assert state["fc.bias"][absent].max() < state["fc.bias"][labels].min()
    assert torch.equal(state["conv1.weight"], network.state_dict()["conv1.weight"])


def test_prototypes_need_a_linear_layer_at_the_end(tmp_path):
    with pytest.raises(
        PlugInError, match=r"prototype need a network that ends in one linear layer .* SqueezeNet"
    ):
        resolve(ModelConfig(name="torchvision/squeezenet1_1", weights="prototype"), tmp_path, input_size=64)


def test_other_weights_need_no_making(tmp_path):
    assert resolve(ModelConfig(name="digits_mlp", weights="random"), tmp_path) == (None, None)
    state = resolve(QUICK, tmp_path).state_dict
    path = next((tmp_path / "models").glob("*.safetensors"))
    weights = resolve(ModelConfig(name="digits_mlp", weights=str(path)), tmp_path)
    assert weights.state_dict is None
    assert len(str(weights.digest)) == 64
    assert state is not None


def test_weights_that_were_not_passed_are_asked_for(tmp_path):
    info = describe_dataset(DIGITS)
    transform = input_transform(QUICK, info, input_size=None)
    with pytest.raises(PlugInError, match="made by resolve_weights"):
        load_model(QUICK, "features", info=info, transform=transform)
    wrong = {"classifier.weight": torch.zeros(3)}
    with pytest.raises(
        PlugInError, match=r"do not fit model 'digits_mlp': classifier.weight has shape \(3,\)"
    ):
        load_model(QUICK, "features", info=info, transform=transform, state_dict=wrong)


def test_a_data_set_without_a_training_split_is_said(sample, tmp_path):
    config = ModelConfig(name="torchvision/resnet18", epochs=1)
    with pytest.raises(DatasetError, match="no folder 'train'"):
        resolve(config, tmp_path, sample, input_size=91)


def test_a_split_model_is_what_comes_out(tmp_path):
    info = describe_dataset(DIGITS)
    transform = input_transform(QUICK, info, input_size=None)
    state = resolve(QUICK, tmp_path).state_dict
    model = load_model(QUICK, "features", info=info, transform=transform, state_dict=state)
    assert isinstance(model, SplitModel)
    assert (model.input_shape, model.feature_shape, model.num_classes) == ((1, 8, 8), (128,), 10)
