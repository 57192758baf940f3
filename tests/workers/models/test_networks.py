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


HIDDEN = {"conv5": 64, "conv5_gn": 64, "wrn16_4": 256, "wrn16_4_gn": 256, "vgg19_gn": 512}


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("side", [8, 28, 33, 64])
def test_any_side(name, side, info_of):
    info = info_of(channels=1, side=side)
    config = ModelConfig(name=name, weights="random")
    transform = input_transform(config, info, input_size=None)
    model = load_model(config, "features", info=info, transform=transform)
    assert model.input_shape == (1, side, side)
    assert model.feature_shape == (HIDDEN[name],)
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
        ("conv5_gn", 1, 28, 10, 63_402),
        ("wrn16_4_gn", 3, 32, 10, 2_748_890),
        ("vgg19_gn", 3, 32, 10, 20_035_018),
        ("tanh_cnn", 1, 28, 10, 26_010),  # 1,040 + 8,224 + 16,416 + 330
        ("tanh_cnn", 3, 32, 10, 550_570),
        ("conv6", 3, 32, 10, 1_609_546),
        ("scattering", 3, 32, 10, 155_530),
    ],
)
def test_numbers_of_parameters(name, channels, side, classes, expected):
    network = OWN[name].build(num_classes=classes, in_channels=channels, side=side)
    assert parameters(network) == expected
    # others: test_cuts
    assert set(OWN) == {*HIDDEN, "conv6", "tanh_cnn", "scattering", "digits_mlp", "mnist_mlp", "cifar10_cnn"}


@pytest.mark.parametrize("name", ["conv5_gn", "wrn16_4_gn", "vgg19_gn", "tanh_cnn", "scattering"])
def test_networks_for_dp_sgd_mix_no_images(name):
    """In training, an image's logits stay when another one of its batch changes."""
    network = OWN[name].build(num_classes=10, in_channels=1, side=28).train()
    x = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    other = torch.cat([x[:1], 5 + x[1:]])
    with torch.no_grad():
        torch.testing.assert_close(network(x)[:1], network(other)[:1], rtol=1e-4, atol=1e-5)


def test_vgg19_is_configuration_e():
    network = OWN["vgg19_gn"].build(num_classes=10, in_channels=3, side=32)
    widths = [module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert widths == [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
    assert sum(isinstance(module, nn.MaxPool2d) for module in network.modules()) == 5
    assert sum(isinstance(module, nn.Linear) for module in network.modules()) == 1


@pytest.mark.parametrize(("side", "hidden"), [(28, 32), (32, 128)])
def test_tanh_cnn_has_two_sides(side, hidden):
    network = OWN["tanh_cnn"].build(num_classes=4, in_channels=3, side=side)
    assert network.forward_features(torch.zeros(2, 3, side, side)).shape == (2, hidden)
    with pytest.raises(
        PlugInError, match="'tanh_cnn': expected images of 28x28 or 32x32, got 30x30; give input_"
    ):
        OWN["tanh_cnn"].build(num_classes=4, in_channels=3, side=30)


@pytest.mark.parametrize(("name", "epochs"), [("conv5", 50), ("wrn16_4", 100)])
def test_epochs_of_the_paper(name, epochs):
    assert OWN[name].preset("train").epochs == epochs


@pytest.mark.parametrize(
    ("name", "side", "learning_rate"),
    [
        ("conv5", 8, 0.05),
        ("wrn16_4", 8, 0.05),
        ("conv5_gn", 8, 0.05),
        ("vgg19_gn", 8, 0.003),
        ("tanh_cnn", 28, 0.05),
    ],
)
def test_they_learn(name, side, learning_rate):
    """Which half of the image is bright: a few steps suffice."""
    torch.manual_seed(0)
    network = OWN[name].build(num_classes=2, in_channels=1, side=side).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=learning_rate, momentum=0.9)
    labels = torch.arange(32) % 2
    x = torch.randn(32, 1, side, side)
    x[labels == 0, :, : side // 2] += 2
    x[labels == 1, :, side // 2 :] += 2
    for _ in range(12):
        loss = nn.functional.cross_entropy(network(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2
