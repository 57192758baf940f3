"""What runs at the client of adaptive noise injection: from an image to how much of each entry stays."""

import itertools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, logsigmoid

from hushsweep.workers.errors import PlugInError, unknown_name
from hushsweep.workers.plugins import find_plugin

Activation = Literal["exp_tanh", "sigmoid"]
HALF = {"exp_tanh": math.log(math.atanh(0.5)), "sigmoid": 0.0}
"""The u at which w = 0.5, for each activation: log(artanh(0.5)) = -0.5991."""
LARGEST_GRID = 14
"""Side of what an embedding is made of: half of MNIST's images."""
LARGEST_U = 87.0
"""Of exp_tanh: exp(2 u) beyond it leaves float32's range, and w has been 1 since u = 2.3."""


class MaskWeights(NamedTuple):
    """What stays, and the logarithm of what the noise takes.

    Attributes:
        w: In [0, 1]; 1 only where the dtype has nothing nearer.
        log1m: log(1 - w), finite there too.
    """

    w: Tensor
    log1m: Tensor


def mask_weights(u: Tensor, activation: Activation = "exp_tanh") -> MaskWeights:
    """Turn what a mask network gives into weights: "Exp, then Tanh" of arXiv:2104.02261, Table 2, or a sigmoid.

    With y = exp(u), log(1 - tanh(y)) = ln 2 - 2 y - log(1 + exp(-2 y)), which has no difference of nearly equal
    numbers where tanh(y) rounds to 1. Its gradient is exact up to u = 87 and 0 beyond.

    Args:
        u: Any shape, float32 or float64.
        activation: ``exp_tanh`` or ``sigmoid``.
    """
    if _known(activation) == "sigmoid":
        return MaskWeights(torch.sigmoid(u), logsigmoid(-u))
    y = u.clamp(max=LARGEST_U).exp()
    return MaskWeights(torch.tanh(y), math.log(2) - 2 * y - torch.log1p(torch.exp(-2 * y)))


def _known(activation: Activation) -> Activation:
    if activation not in HALF:
        raise unknown_name("activation", activation, HALF)
    return activation


class MaskNetwork(nn.Module):
    """Convolutions with pooling, then as many with linear up-sampling: images of any size to u of the same shape.

    "Linear" before "Upscale" in Table 2 of arXiv:2104.02261 is read as bilinear up-sampling: a fully connected
    layer would cost more than the whole network does there. As many outputs as channels, as in its Figure 5.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], activation: Activation) -> None:
        super().__init__()
        wide = (channels, *widths)
        self.encoder = nn.ModuleList(nn.Conv2d(*pair, 3, padding=1) for pair in itertools.pairwise(wide))
        self.decoder = nn.ModuleList(
            nn.Conv2d(*pair, 3, padding=1) for pair in itertools.pairwise(wide[::-1])
        )
        # Half of every entry stays at first.
        nn.init.constant_(self.decoder[-1].get_parameter("bias"), HALF[_known(activation)])

    def forward(self, x: Tensor) -> Tensor:
        """``(n, channels, height, width)`` to u of that shape."""
        sizes = []
        for convolution in self.encoder:
            sizes.append(x.shape[-2:])
            # Rounded up, so that odd sides keep their edge.
            x = nn.functional.max_pool2d(convolution(x).relu(), 2, ceil_mode=True)
        for index, convolution in enumerate(self.decoder):
            x = x.relu() if index else x
            x = convolution(interpolate(x, size=sizes.pop(), mode="bilinear", align_corners=False))
        return x


class EmbeddingMaskNetwork(nn.Module):
    """As MaskNetwork, with a fully connected embedding of the whole image between the two halves.

    That is the other reading of "Linear" in Table 2 of arXiv:2104.02261: each weight may then depend on all of the
    image, so that a client can send little more than the primary label. The embedding is narrow, and its image is
    pooled to at most 14 x 14 first, so that the client stays small (docs/ani.md compares the two readings).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        widths: tuple[int, ...],
        seeds: int,
        size: int,
        activation: Activation,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.encoder = nn.ModuleList(
            nn.Conv2d(*pair, 3, padding=1) for pair in itertools.pairwise((channels, *widths))
        )
        self.sizes = list[tuple[int, int]]()
        for _ in widths:
            self.sizes.append((height, width))
            height, width = -(-height // 2), -(-width // 2)
        self.pool = max(1, math.ceil(max(height, width) / LARGEST_GRID))
        grid = (math.ceil(height / self.pool), math.ceil(width / self.pool))
        self.grid = (seeds, *grid)
        self.embed = nn.Linear(widths[-1] * grid[0] * grid[1], size)
        self.spread = nn.Linear(size, seeds * grid[0] * grid[1])
        self.decoder = nn.ModuleList(
            nn.Conv2d(*pair, 3, padding=1)
            for pair in itertools.pairwise((seeds, *reversed(widths[:-1]), channels))
        )
        nn.init.constant_(self.decoder[-1].get_parameter("bias"), HALF[_known(activation)])

    def forward(self, x: Tensor) -> Tensor:
        """``(n, channels, height, width)`` to u of that shape."""
        for convolution in self.encoder:
            x = nn.functional.max_pool2d(convolution(x).relu(), 2, ceil_mode=True)
        x = nn.functional.max_pool2d(x, self.pool, ceil_mode=True)
        x = self.spread(self.embed(x.flatten(1)).relu()).reshape(-1, *self.grid)
        for index, (convolution, size) in enumerate(zip(self.decoder, reversed(self.sizes), strict=True)):
            x = x.relu() if index else x
            x = convolution(interpolate(x, size=size, mode="bilinear", align_corners=False))
        return x


def wconv2(channels: int, activation: Activation = "exp_tanh") -> MaskNetwork:
    """WConv-2 of arXiv:2104.02261: one convolution to 8 channels and one back."""
    return MaskNetwork(channels, (8,), activation)


def wconv4(channels: int, activation: Activation = "exp_tanh") -> MaskNetwork:
    """WConv-4, of which Table 2 of arXiv:2104.02261 repeats WConv-2's row: our choice is 8, 16, 8, channels."""
    return MaskNetwork(channels, (8, 16), activation)


def wconv4_wide(channels: int, activation: Activation = "exp_tanh") -> MaskNetwork:
    """WConv-4 with twice the channels; not in arXiv:2104.02261."""
    return MaskNetwork(channels, (16, 32), activation)


def wconv2_embedding(
    shape: tuple[int, int, int], activation: Activation = "exp_tanh"
) -> EmbeddingMaskNetwork:
    """WConv-2 with a fully connected embedding of 32 numbers."""
    return EmbeddingMaskNetwork(shape, (8,), 1, 32, activation)


def wconv4_embedding(
    shape: tuple[int, int, int], activation: Activation = "exp_tanh"
) -> EmbeddingMaskNetwork:
    """WConv-4 with a fully connected embedding of 64 numbers."""
    return EmbeddingMaskNetwork(shape, (8, 16), 4, 64, activation)


MASK_NETWORKS: dict[str, Callable[[tuple[int, int, int], Activation], nn.Module]] = {
    "wconv2": lambda shape, activation: wconv2(shape[0], activation),
    "wconv4": lambda shape, activation: wconv4(shape[0], activation),
    "wconv4_wide": lambda shape, activation: wconv4_wide(shape[0], activation),
    "wconv2_embedding": wconv2_embedding,
    "wconv4_embedding": wconv4_embedding,
}
"""By name: given ``(channels, height, width)`` of what it will weigh, and what will be made of its output."""


def find_mask_network(name: str, activation: Activation, shape: tuple[int, ...]) -> nn.Module:
    """Build a mask network for values of ``shape`` and check that it fits them.

    Args:
        name: A key of ``MASK_NETWORKS``, or ``package.module:Name``, called with (shape, activation).
        activation: What will be made of its output.
        shape: ``(channels, height, width)`` of one image's values.

    Raises:
        PlugInError: no such network, values that are no image, or an output of another shape.
    """
    if len(shape) != 3:
        raise PlugInError(
            f"network: {name!r} works on (channels, height, width), but the values it would act on have shape "
            f"{shape}; act at the input, or cut the model at a convolution"
        )
    build = find_plugin("network", name, MASK_NETWORKS, needs=())
    try:
        network: nn.Module = build(shape, activation)
        with torch.no_grad():
            found = tuple(network(torch.zeros(2, *shape)).shape[1:])
    except Exception as error:  # a network from elsewhere raises anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise PlugInError(
            f"network: {name!r} fails on values of shape {shape}: {reason}; choose another"
        ) from error
    if found != shape:
        raise PlugInError(
            f"network: the output of {name!r} has shape {found}, which does not fit values of shape {shape}; "
            "a mask network gives one weight for every entry"
        )
    return network
