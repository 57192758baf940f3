"""What networks cost, against counts by hand and from papers, in multiply-adds (half of the FLOPs)."""

import pytest
import torch
from torch import nn

from hushsweep.workers.mechanisms.mask_networks import MASK_NETWORKS
from hushsweep.workers.models.architectures import find_architecture
from hushsweep.workers.models.flops import flops


def built(name: str, channels: int, side: int, classes: int) -> nn.Module:
    return find_architecture(name).build(num_classes=classes, in_channels=channels, side=side)


def test_by_hand():
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(75, 4))
    assert flops(network, (2, 5, 5)) == 2 * (25 * 2 * 3 * 9 + 75 * 4)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "millions"),
    [
        ("conv5", (1, 28, 28), 10, 2.56384),
        ("wrn16_4", (3, 32, 32), 100, 392.6),  # Zagoruyko and Komodakis (2016): WRN-16-4
        ("torchvision/resnet18", (3, 224, 224), 1000, 1814.1),  # torchvision: 1.81 GFLOPS of multiply-adds
        ("torchvision/swin_t", (3, 224, 224), 1000, 4490.5),  # torchvision: 4.49
        ("torchvision/vit_b_32", (3, 224, 224), 1000, 4411.0),  # torchvision: 4.41, with its fused attention
    ],
)
def test_known_networks(name, shape, classes, millions):
    assert flops(built(name, shape[0], shape[1], classes), shape) / 2e6 == pytest.approx(millions, rel=2e-3)


@pytest.mark.parametrize(
    ("client", "server", "shape", "classes", "multiply_adds", "share"),
    [
        ("wconv2", "conv5", (1, 28, 28), 2, 112_896, 0.05),
        ("wconv4", "wrn16_4", (3, 32, 32), 20, 1_032_192, 0.005),
        ("wconv4", "wrn16_4", (3, 64, 64), 2, 4_128_768, 0.005),
        ("wconv2_embedding", "conv5", (1, 28, 28), 2, 119_952, 0.05),
        ("wconv4_embedding", "wrn16_4", (3, 32, 32), 20, 892_928, 0.005),
    ],
)
def test_a_mask_network_costs_a_small_share_of_its_server(
    client, server, shape, classes, multiply_adds, share
):
    cost = flops(MASK_NETWORKS[client](shape, "exp_tanh"), shape)
    assert cost == 2 * multiply_adds
    assert cost <= share * flops(built(server, shape[0], shape[1], classes), shape)


def test_the_module_stays_as_it_is():
    network = built("conv5", 1, 28, 10).train()
    network.layers[1].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    flops(network, (1, 28, 28))
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
