"""Small feature maps in float64 and their float32 copies, for tests of bounds and searches."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """A module seen as a feature map."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.eval().requires_grad_(False)

    def features(self, x: Tensor) -> Tensor:
        """Map ``(n, *input)`` to ``(n, *feature)``."""
        return self.layers(x)


class Linear(nn.Module):
    """Features W x of flattened images."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def features(self, x: Tensor) -> Tensor:
        """Map ``(n, *input)`` to ``(n, features)``."""
        return x.flatten(1) @ self.weight.to(x.dtype).T


class Pair(NamedTuple):
    """A network in both precisions."""

    single: Net
    exact: Net


def relu_net(inputs: int = 36, features: int = 30, seed: int = 0) -> Pair:
    """A net of two ReLU layers like the one of the paper, small."""
    torch.manual_seed(seed)
    net = Net(nn.Flatten(), nn.Linear(inputs, 40), nn.ReLU(), nn.Linear(40, features), nn.ReLU())
    return Pair(net, copy.deepcopy(net).double())


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Seeded standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
