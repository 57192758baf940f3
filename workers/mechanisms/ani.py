"""Adaptive noise injection: a small network at the client decides, image by image, how much of each entry stays."""

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from hushsweep.workers.mechanisms.base import FittedMechanism, UnitNoise
from hushsweep.workers.mechanisms.learned import Batch, FittedLearned, LearnedMechanism
from hushsweep.workers.mechanisms.mask_networks import Activation, find_mask_network, mask_weights
from hushsweep.workers.models.flops import flops as count_flops


class Weighted(NamedTuple):
    """What ANI makes of an image before noise is drawn.

    Attributes:
        kept: w x.
        noise_std: 1 - w.
        log_std: log(1 - w).
    """

    kept: Tensor
    noise_std: Tensor
    log_std: Tensor


@dataclass(frozen=True, kw_only=True)
class Ani(LearnedMechanism):
    """Send w x + (1 - w) v with v ~ N(0, I) and w given by a network (arXiv:2104.02261, Eq. 5).

    Client and server minimise cross-entropy - penalty * mean log(1 - w): Eq. 24 with the mean over the entries in
    place of the sum, so that the paper's lambda is ``penalty`` divided by the number of entries.
    """

    PLACES: ClassVar[tuple[str, ...]] = ("input", "cut")

    penalty: float | None = field(default=None, metadata={"gt": 0})
    """The paper's lambda per entry, > 0; larger hides more."""
    network: str = "wconv2_embedding"
    """wconv2, wconv4, their _embedding, wconv4_wide, or package.module:Name, called with (shape, activation)."""
    activation: Activation = "exp_tanh"
    """What makes weights of the network's output: exp, then tanh, as in the paper; or sigmoid."""
    warm_up: float = field(default=0.5, metadata={"ge": 0, "lt": 1})
    """Share of the epochs in which the penalty grows from 0 to its full weight."""

    def client(self, shape: tuple[int, ...]) -> nn.Module:
        """Return the mask network.

        Raises:
            PlugInError: no such network, or its output does not have the shape of its input.
        """
        return find_mask_network(self.network, self.activation, shape)

    def loss(self, client: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of what leaves, and the penalty."""
        found = weighted(client, batch.values, self.activation)
        leaving = found.kept + found.noise_std * torch.randn_like(batch.values)
        assert self.penalty is not None
        grown = min(1.0, batch.progress / self.warm_up) if self.warm_up else 1.0
        return batch.cross_entropy(leaving) - grown * self.penalty * found.log_std.mean()

    def flops(self, client: nn.Module, shape: tuple[int, ...]) -> int:
        """Of the network that runs at the client, 2 per multiply-add."""
        return count_flops(client, shape)

    def bind(self, client: nn.Module, digest: str) -> FittedMechanism:
        """Return the client ready to act."""
        return FittedAni(digest, client, self.activation)


@dataclass(frozen=True)
class FittedAni(FittedLearned):
    """Adaptive noise of one learned client."""

    activation: Activation

    def apply(self, activations: Tensor, noise: UnitNoise) -> Tensor:
        """Return w x + (1 - w) v."""
        found = weighted(self.client, activations, self.activation)
        return found.kept + found.noise_std * noise("gaussian").to(activations.dtype)

    def moments(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean w x and standard deviation 1 - w of what leaves, ``(n, d)`` each."""
        found = weighted(self.client, activations, self.activation)
        return found.kept.flatten(1), found.noise_std.flatten(1)

    def mask(self, activations: Tensor) -> Tensor:
        """The weights w, of the shape of ``activations``."""
        return mask_weights(self.client(activations), self.activation).w


def weighted(client: nn.Module, values: Tensor, activation: Activation) -> Weighted:
    """Run the mask network on values ``(n, *shape)``."""
    w, log_std = mask_weights(client(values).to(values.dtype), activation)
    # 1 - w has no digits left where w rounds to 1; the exponential of its logarithm has all of them
    return Weighted(w * values, log_std.exp(), log_std)
