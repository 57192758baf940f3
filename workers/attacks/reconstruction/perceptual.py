"""How alike a trained network finds two images: LPIPS (Zhang et al., CVPR 2018, arXiv:1801.03924)."""

from dataclasses import replace
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

from hushsweep.workers.models.architectures import Published, find_architecture
from hushsweep.workers.models.files import fetch, tensors_only

Network = Literal["alex", "vgg", "squeeze"]
LEAST = {"alex": 31, "vgg": 16, "squeeze": 17}
"""Pixels that an image must have a side, by network: below, a pooling has nothing to look at."""
_NETWORKS = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}


def perceptual_weights(network: Network) -> Published:
    """Where the weights of the network lie, or can be had; what torchmetrics adds to them comes along with it."""
    published = find_architecture(f"torchvision/{_NETWORKS[network]}").published("pretrained")
    advice = f"download {published.url} elsewhere and put it at {published.path}, or leave lpips out"
    return replace(published, advice=advice)


@lru_cache(maxsize=1)
def perceptual_network(network: Network, device: torch.device) -> nn.Module:
    """The network that looks at images, read once per process.

    Raises:
        PlugInError: its weights are not here and cannot be fetched, or are damaged.
    """
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    path = fetch(perceptual_weights(network))
    with tensors_only(path):
        metric = LearnedPerceptualImagePatchSimilarity(net_type=network)
    net: nn.Module = metric.net
    return net.to(device)


def perceptual_distance(network: Network, found: Tensor, truth: Tensor) -> Tensor | None:
    """LPIPS of every pair of images.

    Args:
        network: That looks at them.
        found: ``(n, channels, height, width)``, pixels 0..1; of one channel, or of three.
        truth: likewise.

    Returns:
        ``(n,)``, 0 for equal images; None where they are smaller than the network can look at, or have other channels.

    Raises:
        PlugInError: as :func:`perceptual_network`.
    """
    if min(truth.shape[2:]) < LEAST[network] or truth.shape[1] not in (1, 3):
        return None
    height, width = truth.shape[2:]
    own = perceptual_network(network, truth.device)
    with torch.no_grad():
        distance: Tensor = own(
            *(x.float().clamp(0, 1).expand(len(x), 3, height, width) for x in (found, truth)), normalize=True
        )
    return distance.double().flatten()
