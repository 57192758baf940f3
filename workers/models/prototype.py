"""A head that recognises the first image of every class, so that accuracy means something without training."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hushsweep.datasets.images import ImageSet
from hushsweep.workers.errors import PlugInError

BATCH = 32


@torch.no_grad()
def set_prototypes(network: nn.Module, images: ImageSet, *, prepare: Callable[[Tensor], Tensor]) -> None:
    """Replace the last linear layer by one that compares with stored images.

    Row k is f_k, what that layer receives for the first image with label k, and bias k is -|f_k|^2 / 2. So the
    largest logit f . f_k - |f_k|^2 / 2 belongs to the nearest f_k, and on the stored images themselves clean top-1
    is 100 % up to rounding. A class without an image has a zero row and a bias that keeps it last.

    Args:
        network: In eval mode; its other layers stay as they are.
        images: Only the first of each label are used, in batches.
        prepare: Turns uint8 images into the network's input, on its device.

    Raises:
        PlugInError: the network does not end in one linear layer with a bias, or has fewer outputs than labels.
    """
    labels, first = np.unique(images.labels, return_index=True)
    layer = _last_linear(network, prepare(torch.from_numpy(images.images[first[:2]])))
    if labels[-1] >= layer.out_features:
        raise PlugInError(f"label {labels[-1]} is outside the network's {layer.out_features} outputs")
    received: list[Tensor] = []
    handle = layer.register_forward_pre_hook(
        lambda _module, arguments: received.append(arguments[0].double())
    )
    try:
        for start in range(0, len(first), BATCH):
            network(prepare(torch.from_numpy(images.images[first[start : start + BATCH]])))
    finally:
        handle.remove()
    features = torch.cat(received)
    half_norms = features.square().sum(dim=1) / 2
    rows = torch.from_numpy(labels).to(features.device)
    layer.weight.zero_()
    layer.weight[rows] = features.to(layer.weight.dtype)
    assert layer.bias is not None
    layer.bias.fill_(-1e3 * half_norms.max().item())
    layer.bias[rows] = -half_norms.to(layer.bias.dtype)


def _last_linear(network: nn.Module, x: Tensor) -> nn.Linear:
    """The linear layer whose output is the network's output."""
    outputs: list[tuple[nn.Linear, Tensor]] = []

    def note(module: nn.Module, _arguments: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Linear)
        outputs.append((module, output))

    handles = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Linear)]
    try:
        logits = network(x)
    finally:
        for handle in handles:
            handle.remove()
    if not outputs or outputs[-1][1] is not logits or logits.ndim != 2 or outputs[-1][0].bias is None:
        raise PlugInError(
            f"weights: prototype need a network that ends in one linear layer with a bias; {type(network).__name__} "
            "does not: use weights: train, random or pretrained"
        )
    return outputs[-1][0]
