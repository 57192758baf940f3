"""Shredder: noise tensors learned offline at a cut of a frozen network; every query adds one of them."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from hushsweep.workers.mechanisms.base import FittedMechanism, UnitNoise
from hushsweep.workers.mechanisms.learned import Batch, FittedLearned, LearnedMechanism


class NoiseTensors(nn.Module):
    """Tensors of noise, ``(tensors, *shape)``."""

    def __init__(self, shape: tuple[int, ...], tensors: int, location: float, scale: float) -> None:
        super().__init__()
        self.noise = nn.Parameter(torch.distributions.Laplace(location, scale).sample((tensors, *shape)))


@dataclass(frozen=True, kw_only=True)
class Shredder(LearnedMechanism):
    """Add one of several learned noise tensors to the activations (arXiv:1905.11814).

    The tensors start as Laplace noise and minimise cross-entropy - penalty * mean |noise|, all at once: every image
    of a batch meets one of them by chance. They are a fixed set, so an attacker who asks often, or who knows the
    client, can list them; the chance of one query is all that hides the image.
    """

    PLACES: ClassVar[tuple[str, ...]] = ("cut",)

    server: Literal["scratch", "tuned", "frozen"] = "frozen"
    penalty: float | None = field(default=None, metadata={"gt": 0})
    """Weight of the noise's mean magnitude, per activation unit, > 0; larger hides more."""
    tensors: int = field(default=20, metadata={"ge": 1})
    """Noise tensors that are learned."""
    location: float = 0.6
    """Of the Laplace noise that they start as, activation units."""
    scale: float = field(default=1.2, metadata={"gt": 0})
    """Of the same."""
    noise_learning_rate: float = field(default=0.01, metadata={"gt": 0})
    """Adam's, for the tensors."""

    def client(self, shape: tuple[int, ...]) -> nn.Module:
        """Return fresh tensors, from torch's generator."""
        return NoiseTensors(shape, self.tensors, self.location, self.scale)

    def optimiser(self, client: nn.Module) -> Optimizer:
        """Return Adam, as published."""
        return Adam(client.parameters(), lr=self.noise_learning_rate)

    def loss(self, client: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy with a tensor drawn for each image, and the reward of magnitude."""
        assert isinstance(client, NoiseTensors)
        assert self.penalty is not None
        chosen = torch.randint(self.tensors, (len(batch.values),), device=batch.values.device)
        return (
            batch.cross_entropy(batch.values + client.noise[chosen])
            - self.penalty * client.noise.abs().mean()
        )

    def bind(self, client: nn.Module, digest: str) -> FittedMechanism:
        """Return the tensors ready to be drawn from."""
        return FittedShredder(digest, client)


@dataclass(frozen=True)
class FittedShredder(FittedLearned):
    """Learned noise tensors."""

    CONSTANT_MASK: ClassVar[bool] = True

    def apply(self, activations: Tensor, noise: UnitNoise) -> Tensor:
        """Return ``activations`` plus the tensor that the query's noise stream points at."""
        client = self.client
        assert isinstance(client, NoiseTensors)
        # Phi of a normal number is uniform: the first of the query's stream chooses the tensor
        uniform = torch.special.ndtr(noise("gaussian").flatten(1)[:, 0].double())
        chosen = (uniform * len(client.noise)).long().clamp(max=len(client.noise) - 1)
        return activations + client.noise[chosen].to(activations.dtype)
