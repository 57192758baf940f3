"""The networks of attackers: the server's own, from where the data reach it, or a plain one for the cut."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from hushsweep.workers.measures.base import FittedPoint, Subject

NETWORKS = ("server", "mlp")
_HIDDEN = 512
_TEMPERATURES = 2.0 ** (torch.arange(-16, 17) / 4)
"""1/16 to 16, a factor of 2^(1/4) apart."""


class Attacker(nn.Module):
    """From what leaves to logits of the secondary classes.

    What leaves is first divided by its root mean square, one number known from training images: noise many times as
    large as the signal would otherwise stop a network from learning that its learning rate suits without noise.

    Args:
        network: from scaled values, and the mask where there is one, to logits.
        scale: root mean square of what leaves.
        masked: whether the second half of the channels of what it is given is the mask.
    """

    scale: Tensor
    temperature: Tensor

    def __init__(self, network: nn.Module, *, scale: float, masked: bool) -> None:
        super().__init__()
        self.network, self.masked = network, masked
        self.register_buffer("scale", torch.tensor(scale or 1.0))
        self.register_buffer("temperature", torch.tensor(1.0))

    def forward(self, seen: Tensor) -> Tensor:
        """Logits ``(n, classes)`` of what leaves, ``(n, *shape)``, or with the mask ``(n, 2 channels, ...)``."""
        if not self.masked:
            return self._logits(seen / self.scale)
        values, mask = seen.chunk(2, dim=1)
        return self._logits(torch.cat([values / self.scale, mask], dim=1))

    def _logits(self, values: Tensor) -> Tensor:
        output = self.network(values)
        # GoogLeNet and Inception give the outputs of auxiliary heads beside the logits while they train
        logits: Tensor = output if isinstance(output, Tensor) else output.logits
        return logits / self.temperature

    @torch.no_grad()
    def calibrate(self, logits: Tensor, labels: Tensor) -> None:
        """Choose the temperature of the smallest cross-entropy on images that were not trained on.

        A network that was trained for long is too sure of itself; dividing all logits by one number changes no
        decision and takes that back (Guo et al. 2017, arXiv:1706.04599).

        Args:
            logits: ``(n, classes)`` at the temperature 1.
            labels: ``(n,)``.
        """
        losses = [
            nn.functional.cross_entropy(logits.double() / float(temperature), labels)
            for temperature in _TEMPERATURES
        ]
        self.temperature.fill_(float(_TEMPERATURES[int(torch.stack(losses).argmin())]))


class FromCut(nn.Module):
    """The part of a network after its cut, preceded by a mix of activations and mask where there is a mask."""

    def __init__(self, network: Any, *, masked: bool) -> None:
        super().__init__()
        self.network = network
        self.mix = EntryMix() if masked else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        """Logits of activations."""
        logits: Tensor = self.network.head(self.mix(values))
        return logits


class EntryMix(nn.Module):
    """Every activation with its entry of the mask through one small function, for activations of any shape."""

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(2, hidden, 1), nn.ReLU(), nn.Conv1d(hidden, 1, 1))

    def forward(self, seen: Tensor) -> Tensor:
        """``(n, 2 channels, ...)`` to ``(n, channels, ...)``; the activations plus a correction."""
        values, mask = seen.chunk(2, dim=1)
        pairs = torch.stack([values.flatten(1), mask.flatten(1)], dim=1)
        correction: Tensor = self.layers(pairs)
        return values + correction.reshape(values.shape)


def attacker_network(
    kind: str, subject: Subject, point: FittedPoint, *, classes: int, masked: bool, seed: int
) -> nn.Module:
    """Build an untrained network.

    Args:
        kind: ``server``: the server's architecture, whole where images leave, else its part after the cut; ``mlp``:
            two hidden layers.
        subject: gives the server's architecture and the shapes.
        point: says where the data leave.
        classes: secondary classes.
        masked: whether the mask comes along.
        seed: of the initial weights.
    """
    shape = subject.model.input_shape if point.leaves == "input" else subject.model.feature_shape
    if kind == "mlp":
        return _mlp(shape, classes, masked=masked, seed=seed)
    if point.leaves == "input":
        whole: nn.Module = subject.fresh(classes, shape[0] if masked else 0, seed)
        return whole
    network = subject.fresh(classes, 0, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FromCut(network, masked=masked)


def _mlp(shape: Sequence[int], classes: int, *, masked: bool, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(prod(shape) * (1 + masked), _HIDDEN), nn.BatchNorm1d(_HIDDEN), nn.ReLU()),
            *(nn.Linear(_HIDDEN, _HIDDEN), nn.BatchNorm1d(_HIDDEN), nn.ReLU()),
            nn.Linear(_HIDDEN, classes),
        )


def network_note(kind: str, subject: Subject, point: FittedPoint) -> str | None:
    """Say what a reader has to know of an attacker's network, or None."""
    if kind == "server" and point.leaves == "cut" and subject.model.head_is_linear:
        return "the server's part after the cut is linear, and so is this attacker; network: mlp is stronger"
    return None
