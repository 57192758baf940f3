"""Our own convolutional networks take images of any size and learn."""

import pytest
import torch
from torch import nn

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models import ModelConfig, input_transform, load_model
from hushsweep.workers.models.architectures import find_architecture
from hushsweep.workers.models.networks import OWN


def parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("name", ["conv5", "wrn16_4"])
@pytest.mark.parametrize("side", [8, 28, 33, 64])
def test_any_side(name, side, info_of):
    info = info_of(channels=1, side=side)
    config = ModelConfig(name=name, weights="random")
    transform = input_transform(config, info, input_size=None)
    model = load_model(config, "features", info=info, transform=transform)
    assert model.input_shape == (1, side, side)
    assert model.feature_shape == ({"conv5": 64, "wrn16_4": 256}[name],)
    assert model.head_is_linear


@pytest.mark.parametrize("name", ["conv5", "wrn16_4"])
def test_an_input_size_is_what_the_network_sees(name, info_of):
    info = info_of(side=None)
    config = ModelConfig(name=name, weights="random")
    transform = input_transform(config, info, input_size=16)
    assert (transform.geometry.resize, transform.geometry.crop, transform.network_size) == (16, 16, None)
    with pytest.raises(PlugInError, match="images of several sizes: give its input_size"):
        load_model(config, "features", info=info, transform=input_transform(config, info, input_size=None))


def test_a_side_that_is_too_small_or_wrong(info_of):
    info = info_of(channels=1, side=4)
    config = ModelConfig(name="conv5", weights="random")
    with pytest.raises(PlugInError, match=r"'conv5' fails on input 1x4x4: .*input_size"):
        load_model(config, "features", info=info, transform=input_transform(config, info, input_size=None))
    with pytest.raises(PlugInError, match="'mnist_mlp': network_size: expected 28, got 8"):
        find_architecture("mnist_mlp").build(num_classes=10, in_channels=1, side=8)


@pytest.mark.parametrize(
    ("name", "channels", "side", "classes", "expected"),
    [
        ("conv5", 1, 28, 10, 63_402),
        ("wrn16_4", 3, 32, 10, 2_748_890),  # Zagoruyko and Komodakis (2016): 2.7 M
    ],
)
def test_numbers_of_parameters(name, channels, side, classes, expected):
    network = OWN[name].build(num_classes=classes, in_channels=channels, side=side)
    assert parameters(network) == expected
    assert set(OWN) == {"digits_mlp", "mnist_mlp", "cifar10_cnn", "conv5", "wrn16_4"}  # others: test_cuts


@pytest.mark.parametrize(("name", "epochs"), [("conv5", 50), ("wrn16_4", 100)])
def test_epochs_of_the_paper(name, epochs):
    assert OWN[name].preset("train").epochs == epochs


@pytest.mark.parametrize("name", ["conv5", "wrn16_4"])
def test_they_learn(name):
    """Which half of the image is bright: a few steps suffice."""
    torch.manual_seed(0)
    network = OWN[name].build(num_classes=2, in_channels=1, side=8).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    labels = torch.arange(32) % 2
    x = torch.randn(32, 1, 8, 8)
    x[labels == 0, :, :4] += 2
    x[labels == 1, :, 4:] += 2
    for _ in range(12):
        loss = nn.functional.cross_entropy(network(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2
