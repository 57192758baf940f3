"""A network in training: its halves are the whole, its state is what SplitModel loads."""

import copy

import pytest
import torch
from torch import nn

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models import ModelConfig, Trainable, input_transform, load_model, starting_state
from hushsweep.workers.models.cuts import HookCut
from hushsweep.workers.models.trainable import trainable

NETWORKS = [  # name, cut, side
    ("digits_mlp", "features", 8),
    ("conv5", "features", 28),
    ("conv5", "layers.3", 13),
    ("wrn16_4", "features", 16),
    ("wrn16_4", "layers.2", 16),
    ("torchvision/resnet18", "features", 64),
    ("torchvision/resnet18", "bn1", 64),  # an in-place ReLU follows
    ("torchvision/swin_t", "features", 64),
    ("torchvision/squeezenet1_1", "features.0", 64),  # an in-place ReLU follows, and the head drops out
    ("timm/resnet18", "layer3.1", 64),
    ("timm/swin_tiny_patch4_window7_224", "features", 64),
    ("timm/vit_tiny_patch16_224", "blocks.5", 64),
]


@pytest.fixture
def settings(info_of):
    def of(name: str, side: int, *, weights: str = "random", input_size: int | None = None, **info):
        config = ModelConfig(name=name, weights=weights, network_size=side if "/" in name else None)
        described = info_of(**{"channels": 3, "side": side, "classes": 7, **info})
        size = input_size or (side if "/" in name else None)
        return config, {"info": described, "transform": input_transform(config, described, input_size=size)}

    return of


def images(network: Trainable, count: int = 4, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, *network.input_shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("name", "cut", "side"), NETWORKS)
def test_halves_are_the_whole_in_training_and_frozen(name, cut, side, settings):
    config, data = settings(name, side)
    network = trainable(config, cut, **data).train()
    x = images(network)
    runs = []
    for in_halves in (False, True):
        twin = copy.deepcopy(network)
        torch.manual_seed(3)  # of dropout and stochastic depth
        logits = twin.head(twin.features(x)) if in_halves else twin(x)
        logits.square().sum().backward()
        gradients = {key: value.grad for key, value in twin.network.named_parameters()}
        runs.append((logits.detach(), gradients, twin.network_state()))
    (whole, gradients, state), (halves, others, other_state) = runs
    torch.testing.assert_close(halves, whole, rtol=1e-4, atol=1e-5 * whole.abs().max().item())
    for key, gradient in gradients.items():
        assert gradient is not None, key
        torch.testing.assert_close(others[key], gradient, rtol=1e-3, atol=1e-3 * gradient.abs().max().item())
    for key, value in state.items():  # running statistics moved once, and equally
        torch.testing.assert_close(other_state[key], value, rtol=1e-4, atol=1e-5)
    moved = [key for key in state if key.endswith("running_mean")]
    start = network.network_state()
    assert all(not torch.equal(state[key], start[key]) for key in moved)

    twin.eval()
    loaded = load_model(config, cut, **data, state_dict=twin.network_state())
    frozen = twin.frozen()
    with torch.no_grad():
        expected = twin(x)
        for model in (loaded, frozen):
            logits = model.head(model.features(x))
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
            assert (model.feature_shape, model.num_classes) == (network.feature_shape, network.num_classes)


@pytest.mark.parametrize("cut", ["bn1", "features"])
def test_the_head_leaves_its_features_alone(cut, settings):
    config, data = settings("torchvision/resnet18", 64)
    network = trainable(config, cut, **data).train()
    a = network.features(images(network)).detach().requires_grad_()
    kept = a.detach().clone()
    network.head(a).sum().backward()
    assert torch.equal(a, kept)
    assert a.grad is not None


def test_freezing_copies(settings):
    config, data = settings("conv5", 8)
    network = trainable(config, "features", **data)
    x = images(network)
    frozen = network.frozen()
    before = frozen.features(x)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(1)
    assert torch.equal(frozen.features(x), before)
    assert not frozen.features(x).requires_grad
    assert network.features(x).requires_grad


def test_seeds_classes_and_channels(settings):
    config, data = settings("conv5", 8)
    same, other, wide = (
        trainable(config, "features", **data, seed=5),
        trainable(config, "features", **data, seed=6),
        trainable(config, "features", **data, seed=5, num_classes=3, in_channels=6),
    )
    x = images(same)
    assert torch.equal(same(x), trainable(config, "features", **data, seed=5)(x))
    assert not torch.equal(same(x), other(x))
    assert (wide.input_shape, wide.num_classes) == ((6, 8, 8), 3)
    assert wide(torch.cat([x, x], dim=1)).shape == (4, 3)
    assert wide.normalise(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    "name",
    ["wrn16_4", "torchvision/resnet18", "torchvision/swin_t", "timm/swin_tiny_patch4_window7_224"],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_mask_beside_the_image(name, channels, settings, info_of):
    config, data = settings(name, 64, channels=channels)
    config = ModelConfig(**{**vars(config), "in_channels": channels})
    data["transform"] = input_transform(config, data["info"], input_size=64)
    network = trainable(config, "features", **data, in_channels=2 * channels)
    x = images(network).requires_grad_()
    network(x).square().sum().backward()
    assert network.input_shape == (2 * channels, 64, 64)
    each = x.grad.abs().amax(dim=(0, 2, 3))
    assert (each > 0).all()
    assert not torch.equal(x.grad[:, 0], x.grad[:, -1])  # weights of their own


def test_images_are_upsampled_inside(settings):
    config, data = settings("torchvision/resnet18", 64, input_size=26)
    network = trainable(config, "features", **data)
    assert network.input_shape == (3, 26, 26)
    x = images(network)
    large = nn.functional.interpolate(x, size=(64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(x), network.network(large))
    torch.testing.assert_close(network.head(network.features(x)), network.network(large))


def test_a_state_that_does_not_fit(settings):
    config, data = settings("conv5", 8)
    state = trainable(config, "features", **data, num_classes=3).network_state()
    with pytest.raises(PlugInError, match=r"classifier.weight has shape \(3, 64\), expected \(7, 64\)"):
        trainable(config, "features", **data, state_dict=state)
    assert trainable(config, "features", **data, state_dict=state, num_classes=3).num_classes == 3


@pytest.mark.parametrize("weights", ["random", "train", "path", "IMAGENET1K_V1"])
def test_a_given_state_takes_the_place_of_any_weights(weights, settings, tmp_path):
    named = str(tmp_path / "absent.pt") if weights == "path" else weights
    config, data = settings("torchvision/resnet18", 64, weights=named)
    network = trainable(config, "features", **data, num_classes=2, seed=9)
    x = images(network)
    model = load_model(config, "features", **data, state_dict=network.network_state(), num_classes=2)
    torch.testing.assert_close(model.head(model.features(x)), network(x))


def test_fine_tuning_starts_from_given_weights_under_a_new_head(settings, tmp_path):
    config, data = settings("conv5", 8)
    given = trainable(config, "features", **data, seed=4).network_state()
    torch.save(given, tmp_path / "given.pt")
    config = ModelConfig(name="conv5", weights=str(tmp_path / "given.pt"))
    start = starting_state(config, **data, num_classes=2)
    assert start["classifier.weight"].shape == (2, 64)
    assert {key for key in given if not torch.equal(given[key], start[key])} == {
        "classifier.weight",
        "classifier.bias",
    }
    trainable(config, "features", **data, state_dict=start, num_classes=2)
    assert all(torch.equal(given[key], value) for key, value in starting_state(config, **data).items())


def test_where_training_gives_more_than_logits(settings):
    """GoogLeNet's auxiliary heads: the halves go without them, and without a graph of their own in training."""
    config, data = settings("torchvision/googlenet", 64)
    network = trainable(config, "features", **data).train()
    x = images(network)
    assert network(x).shape == network.head(network.features(x)).shape == (4, 7)


class Dropping(nn.Module):
    """Drops out by a function, whose ``training`` a trace writes down."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.first = nn.Linear(in_channels * 64, 32)
        self.last = nn.Linear(32, num_classes)

    def forward(self, x):
        return self.last(nn.functional.dropout(self.first(x.flatten(1)), 0.5, self.training))


def test_functions_that_ask_whether_it_is_training(settings):
    config, data = settings(f"{__name__}:Dropping", 8)
    network = trainable(config, "first", **data)
    x = images(network)
    torch.testing.assert_close(network.head(network.features(x)), network(x))
    quiet = network(x)
    network.train()
    runs = []
    for in_halves in (False, True):
        torch.manual_seed(3)
        runs.append(network.head(network.features(x)) if in_halves else network(x))
    torch.testing.assert_close(runs[0], runs[1])
    assert not torch.allclose(runs[0], quiet)


class Branching(nn.Module):
    """Cannot be traced; batch normalisation on both sides of the cut."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.last = nn.Linear(8, num_classes)

    def forward(self, x):
        a = self.first(x)
        if a.mean() > 1e9:  # a branch on values
            return self.last(a.mean((2, 3)))
        return self.last(self.second(a.relu()).mean((2, 3)))


def test_a_cut_by_hook_moves_each_running_statistic_once(settings):
    config, data = settings(f"{__name__}:Branching", 16)
    network = trainable(config, "first", **data).train()
    assert isinstance(network.cut, HookCut)
    twin = copy.deepcopy(network)
    x = images(network)
    a = network.features(x)
    torch.testing.assert_close(network.head(a), twin(x))
    for key, value in twin.network_state().items():
        torch.testing.assert_close(network.network_state()[key], value)
    assert all(module.training for module in network.modules())
