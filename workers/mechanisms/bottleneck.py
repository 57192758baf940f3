"""Fewer features, then Gaussian noise: what arXiv:2404.02866 suggests where noise alone does not suffice."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from hushsweep.workers.mechanisms.base import FittedMechanism, UnitNoise
from hushsweep.workers.mechanisms.learned import Batch, FittedLearned, LearnedMechanism
from hushsweep.workers.models.flops import flops as count_flops


class Narrow(nn.Module):
    """A linear map to few features, scaled to mean 0 and variance 1, and a linear map back."""

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.encoder: nn.Module
        self.decoder: nn.Module
        if len(shape) == 3:
            self.encoder, self.decoder = nn.Conv2d(shape[0], width, 1), nn.Conv2d(width, shape[0], 1)
            self.scale: nn.Module = nn.BatchNorm2d(width, affine=False)
        else:
            self.encoder, self.decoder = nn.Linear(shape[-1], width), nn.Linear(width, shape[-1])
            self.scale = nn.BatchNorm1d(width, affine=False)

    def forward(self, values: Tensor) -> Tensor:
        """``(n, *shape)`` to the code: ``(n, width)``, or ``(n, width, height, width)`` of an image."""
        code: Tensor = self.scale(self.encoder(values))
        return code


@dataclass(frozen=True, kw_only=True)
class Bottleneck(LearnedMechanism):
    """Map activations to few features, add Gaussian noise there, and map back at the server.

    Of activations (channels, height, width) the channels become fewer. The code has variance 1, so the noise's
    standard deviation is in units of the code's. What leaves is the code with its noise; the way back is the server's.
    """

    LEVELS: ClassVar[tuple[str, ...]] = ("noise_scale",)
    PLACES: ClassVar[tuple[str, ...]] = ("cut",)
    LEVEL_ACTS: ClassVar[bool] = True

    noise_scale: float | None = field(default=None, metadata={"ge": 0})
    """Standard deviation of the noise in units of the code's, >= 0."""
    width: int = field(default=8, metadata={"ge": 1})
    """Features, or channels, that are left."""

    def client(self, shape: tuple[int, ...]) -> nn.Module:
        """Return both linear maps.

        Raises:
            ValueError: activations that are neither features nor an image, or fewer of them than ``width``.
        """
        if len(shape) not in (1, 3):
            raise ValueError(
                f"bottleneck: expected activations (features) or (channels, height, width), got {shape}; "
                "choose another cut"
            )
        if self.width > shape[0]:
            raise ValueError(
                f"width: expected at most {shape[0]}, the features at this cut, got {self.width}"
            )
        return Narrow(shape, self.width)

    def loss(self, client: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy through the noisy code."""
        assert isinstance(client, Narrow)
        assert self.noise_scale is not None
        code = client(batch.values)
        return batch.cross_entropy(client.decoder(code + self.noise_scale * torch.randn_like(code)))

    def flops(self, client: nn.Module, shape: tuple[int, ...]) -> int:
        """Of the network that runs at the client, 2 per multiply-add."""
        assert isinstance(client, Narrow)
        return count_flops(client.encoder, shape)

    def bind(self, client: nn.Module, digest: str) -> FittedMechanism:
        """Return the bottleneck ready to act."""
        return FittedBottleneck(digest, client, self.noise_scale or 0.0)


@dataclass(frozen=True)
class FittedBottleneck(FittedLearned):
    """A learned bottleneck with noise of one size."""

    CONSTANT_MASK: ClassVar[bool] = True

    noise_scale: float

    def apply(self, activations: Tensor, noise: UnitNoise) -> Tensor:
        """Return what the server makes of the noisy code, of the shape of ``activations``."""
        code = self.code(activations)
        # the code's noise is the beginning of the stream that the activations' shape asks for
        drawn = noise("gaussian").to(activations.dtype).flatten(1)
        drawn = drawn[:, : math.prod(code.shape[1:])].reshape(code.shape)
        return self.back(code + self.noise_scale * drawn)

    def code(self, activations: Tensor) -> Tensor:
        """What is sent but for the noise."""
        code: Tensor = self.client(activations)
        return code

    def back(self, code: Tensor) -> Tensor:
        """What the server makes of a code: activations."""
        assert isinstance(self.client, Narrow)
        activations: Tensor = self.client.decoder(code)
        return activations

    def moments(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the noisy code, ``(n, d)`` each."""
        code = self.code(activations).flatten(1)
        return code, torch.full_like(code, self.noise_scale)
