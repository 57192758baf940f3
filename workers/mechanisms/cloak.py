"""Cloak: noise of a learned size per pixel, the same for every image, and pixels replaced by a constant."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from hushsweep.workers.mechanisms.base import FittedMechanism, UnitNoise
from hushsweep.workers.mechanisms.learned import Batch, FittedLearned, LearnedMechanism

_START = -2.0
"""Of rho: noise of 2 % of the largest, where tanh still has a slope (the published -9 starts where it has none)."""


@dataclass(frozen=True, kw_only=True)
class Cloak(LearnedMechanism):
    """Send (x + sigma e) b + mu with e ~ N(0, I) (arXiv:2003.12154).

    sigma = min_std + (max_std - min_std) (1 + tanh rho) / 2. First rho and mu minimise cross-entropy - penalty *
    log(mean sigma); then entries with sigma above ``suppress_above`` of max_std are suppressed (b = 0), sigma stays,
    and mu is learned on for the cross-entropy alone. ``server: frozen`` is the published method; learning the server's
    network as well (``scratch``, ``tuned``) is how arXiv:2104.02261 compares it with ANI.
    """

    server: Literal["scratch", "tuned", "frozen"] = "frozen"
    penalty: float | None = field(default=None, metadata={"gt": 0})
    """The papers' lambda, > 0; larger hides more."""
    min_std: float = field(default=1e-4, metadata={"gt": 0})
    """Least noise of an entry, normalised pixels."""
    max_std: float = field(default=5.0, metadata={"gt": 0})
    """Most noise of an entry, normalised pixels."""
    suppress_above: float = field(default=0.9, metadata={"gt": 0})
    """Share of max_std above which an entry is replaced by a constant; 1 or more: none is."""
    suppress_from: float = field(default=0.8, metadata={"gt": 0})
    """Share of the epochs after which that happens; 1 or more: never."""
    noise_learning_rate: float = field(default=0.01, metadata={"gt": 0})
    """Adam's, for rho and mu."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.min_std < self.max_std:
            raise ValueError(f"min_std: expected a number < max_std ({self.max_std:g}), got {self.min_std:g}")

    def client(self, shape: tuple[int, ...]) -> nn.Module:
        """Return rho and mu."""
        return CloakNoise(shape)

    def optimiser(self, client: nn.Module) -> Optimizer:
        """Return Adam: a single entry's gradient of log(mean sigma) is too small for plain steps."""
        return Adam(client.parameters(), lr=self.noise_learning_rate)

    def loss(self, client: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of what leaves, and the penalty until entries are suppressed."""
        assert isinstance(client, CloakNoise)
        assert self.penalty is not None
        std = self.std(client)
        if batch.progress < self.suppress_from:
            leaving = batch.values + std * torch.randn_like(batch.values) + client.mu
            return batch.cross_entropy(leaving) - self.penalty * std.mean().log()
        std = std.detach()
        noised = batch.values + std * torch.randn_like(batch.values)
        return batch.cross_entropy(noised * self.kept(std) + client.mu)

    def std(self, client: "CloakNoise") -> Tensor:
        """Sigma of every entry."""
        return self.min_std + (self.max_std - self.min_std) * (1 + torch.tanh(client.rho)) / 2

    def kept(self, std: Tensor) -> Tensor:
        """Return b: 1 for entries that are sent, 0 for suppressed ones."""
        if self.suppress_from >= 1:
            return torch.ones_like(std)
        return (std <= self.suppress_above * self.max_std).to(std.dtype)

    def bind(self, client: nn.Module, digest: str) -> FittedMechanism:
        """Return the noise ready to act."""
        assert isinstance(client, CloakNoise)
        with torch.no_grad():
            std = self.std(client)
            return FittedCloak(digest, CloakConstants(std, self.kept(std), client.mu))


class CloakNoise(nn.Module):
    """What Cloak learns."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.full(shape, _START))
        self.mu = nn.Parameter(torch.zeros(shape))


class CloakConstants(nn.Module):
    """Sigma, b and mu of every entry."""

    std: Tensor
    kept: Tensor
    mu: Tensor

    def __init__(self, std: Tensor, kept: Tensor, mu: Tensor) -> None:
        super().__init__()
        for name, value in (("std", std), ("kept", kept), ("mu", mu)):
            self.register_buffer(name, value.detach().clone())


@dataclass(frozen=True)
class FittedCloak(FittedLearned):
    """Cloak with its constants learned."""

    CONSTANT_MASK: ClassVar[bool] = True
    """What hides the image is the same for all images: whoever trains on what leaves has learned it."""

    def apply(self, activations: Tensor, noise: UnitNoise) -> Tensor:
        """Return (x + sigma e) b + mu."""
        own = self.client
        assert isinstance(own, CloakConstants)
        return (activations + own.std * noise("gaussian").to(activations.dtype)) * own.kept + own.mu

    def moments(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of what leaves, ``(n, d)`` each; suppressed entries are left out."""
        own = self.client
        assert isinstance(own, CloakConstants)
        sent = own.kept.flatten() > 0
        mean = (activations + own.mu).flatten(1)[:, sent]
        return mean, own.std.flatten()[sent].expand(len(activations), -1)

    @property
    def suppressed(self) -> float:
        """Share of the entries that are replaced by a constant."""
        assert isinstance(self.client, CloakConstants)
        return 1 - float(self.client.kept.mean())
