"""An obfuscator without noise: an encoder that a classifier still reads and a decoder cannot undo."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from hushsweep.workers.mechanisms.base import FittedMechanism, UnitNoise
from hushsweep.workers.mechanisms.learned import Batch, FittedLearned, LearnedMechanism
from hushsweep.workers.models.flops import flops as count_flops


class ImageToImage(nn.Sequential):
    """Depthwise-separable convolutions that keep the image's shape."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            *(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, padding=1, groups=width), nn.Conv2d(width, width, 1)),
            *(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1)),
        )


class Contest(nn.Module):
    """The obfuscator and, while it learns, the decoder that it has to defeat."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.encoder = ImageToImage(channels, width)
        self.scale = nn.BatchNorm2d(channels, affine=False)  # what leaves has the scale of normalised pixels
        self.adversary = ImageToImage(channels, 2 * width)

    def forward(self, images: Tensor) -> Tensor:
        """Return what leaves of ``(n, channels, height, width)``."""
        leaving: Tensor = self.scale(self.encoder(images))
        return leaving


@dataclass(frozen=True, kw_only=True)
class Obfuscator(LearnedMechanism):
    """Send f(x), learned to keep the primary task and to defeat a decoder (Leroux et al., arXiv:1805.12024).

    The encoder minimises cross-entropy - penalty * min(1, MSE of the decoder / variance of the image), the decoder its
    MSE, in turns. Nothing is drawn: whoever knows the encoder can compare candidates exactly, so the mutual
    information is infinite, and what is promised is a picture that people cannot read.
    """

    PLACES: ClassVar[tuple[str, ...]] = ("input",)
    TRAINING_ONLY: ClassVar[tuple[str, ...]] = ("adversary.",)

    server: Literal["scratch", "tuned", "frozen"] = "frozen"
    penalty: float | None = field(default=None, metadata={"gt": 0})
    """Weight of the decoder's error relative to the image's variance, > 0; larger hides more."""
    width: int = field(default=16, metadata={"ge": 1})
    """Channels inside the encoder; the decoder has twice as many."""
    client_learning_rate: float = field(default=3e-3, metadata={"gt": 0})
    """Adam's, for encoder and decoder."""

    def client(self, shape: tuple[int, ...]) -> nn.Module:
        """Return encoder and decoder."""
        return Contest(shape[0], self.width)

    def optimiser(self, client: nn.Module) -> Optimizer:
        """Return the encoder's."""
        assert isinstance(client, Contest)
        return Adam(client.encoder.parameters(), lr=self.client_learning_rate)

    def adversary_optimiser(self, client: nn.Module) -> Optimizer:
        """Return the decoder's."""
        assert isinstance(client, Contest)
        return Adam(client.adversary.parameters(), lr=self.client_learning_rate)

    def loss(self, client: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of what leaves, less the decoder's error."""
        assert isinstance(client, Contest)
        assert self.penalty is not None
        leaving = client(batch.values)
        error = nn.functional.mse_loss(client.adversary(leaving), batch.values)
        variance = batch.values.var().clamp(min=1e-12)
        return batch.cross_entropy(leaving) - self.penalty * (error / variance).clamp(max=1)

    def adversary_loss(self, client: nn.Module, batch: Batch) -> Tensor:
        """The decoder's mean squared error."""
        assert isinstance(client, Contest)
        with torch.no_grad():
            leaving = client(batch.values)
        return nn.functional.mse_loss(client.adversary(leaving), batch.values)

    def flops(self, client: nn.Module, shape: tuple[int, ...]) -> int:
        """Of the network that runs at the client, 2 per multiply-add."""
        assert isinstance(client, Contest)
        return count_flops(client.encoder, shape)

    def bind(self, client: nn.Module, digest: str) -> FittedMechanism:
        """Return the encoder ready to act."""
        return FittedObfuscator(digest, client)


@dataclass(frozen=True)
class FittedObfuscator(FittedLearned):
    """A learned encoder."""

    def apply(self, activations: Tensor, noise: UnitNoise) -> Tensor:
        """Return f(x); no noise is drawn."""
        leaving: Tensor = self.client(activations)
        return leaving
