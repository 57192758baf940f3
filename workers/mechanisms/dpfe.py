"""DPFE: features that forget whose image it was, reduced to few dimensions, with noise shaped like themselves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from hushsweep.workers.mechanisms.base import FittedMechanism, UnitNoise
from hushsweep.workers.mechanisms.learned import Batch, FittedLearned, LearnedMechanism

_SAMPLE = 4096
"""Training images from which the principal components are computed."""


class Components(nn.Module):
    """Mean, principal components ``(d, k)`` and standard deviation along each ``(k,)`` of the activations."""

    mean: Tensor
    directions: Tensor
    std: Tensor

    def __init__(self, size: int, count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("directions", torch.zeros(size, count))
        self.register_buffer("std", torch.zeros(count))

    def forward(self, values: Tensor) -> Tensor:
        """Coordinates ``(n, k)`` of activations ``(n, *shape)``."""
        return (values.flatten(1) - self.mean) @ self.directions


@dataclass(frozen=True, kw_only=True)
class Dpfe(LearnedMechanism):
    """Learn features under which different secondary labels look alike, and add noise (arXiv:1802.03151).

    The network minimises cross-entropy + contrast * the contrastive loss with its signs turned: pairs of different
    secondary labels are pulled together (squared distance), pairs of equal ones pushed apart to ``margin``.
    Then the activations are reduced to their ``components`` first principal components, Gaussian noise with
    ``noise_scale`` times the standard deviation of each is added, and the server gets the activations back.
    Distances are root mean squares over the features, in units of the features' standard deviation in the batch, which
    the loss differentiates too: a unit held fixed would let the network shrink all features towards 0 for ever.
    """

    LEVELS: ClassVar[tuple[str, ...]] = ("noise_scale",)
    PLACES: ClassVar[tuple[str, ...]] = ("cut",)
    SECONDARY: ClassVar[bool] = True
    AFTERWARDS: ClassVar[tuple[str, ...]] = ("noise_scale",)
    CAN_LOAD: ClassVar[bool] = False

    server: Literal["scratch", "tuned", "frozen"] = "tuned"
    noise_scale: float | None = field(default=None, metadata={"ge": 0})
    """Noise along each component in units of the standard deviation along it, >= 0."""
    contrast: float = field(default=1.0, metadata={"ge": 0})
    """Weight of the contrastive loss."""
    margin: float = field(default=1.0, metadata={"gt": 0})
    """Distance beyond which images of one secondary label are left alone, standard deviations of the features."""
    components: int = field(default=8, metadata={"ge": 1})
    """Principal components that are kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.server == "frozen":
            raise ValueError(
                "server: dpfe learns the network's features; expected tuned or scratch, got frozen"
            )

    def client(self, shape: tuple[int, ...]) -> nn.Module:
        """Return room for the components, which `finish` fills."""
        size = int(torch.Size(shape).numel())
        return Components(size, min(self.components, size))

    def loss(self, client: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy, and the contrastive loss of each image with another one by chance."""
        assert batch.secondary is not None
        features = batch.values.flatten(1).float()
        features = features - features.mean(0)
        features = features / features.square().mean().clamp(min=1e-24).sqrt()
        other = torch.randperm(len(features), device=features.device)
        squared = (features - features[other]).square().mean(1)
        short = (self.margin - (squared + 1e-12).sqrt()).clamp(min=0).square()
        contrast = torch.where(batch.secondary == batch.secondary[other], short, squared).mean()
        return batch.cross_entropy(batch.values) + self.contrast * contrast

    def finish(self, client: nn.Module, values: Callable[[], Iterator[Tensor]]) -> None:
        """Compute the principal components of the training images' activations."""
        assert isinstance(client, Components)
        parts, count = list[Tensor](), 0
        for part in values():
            parts.append(part.flatten(1).double())
            count += len(part)
            if count >= _SAMPLE:
                break
        sample = torch.cat(parts)[:_SAMPLE]
        mean = sample.mean(0)
        _, singular, directions = torch.linalg.svd(sample - mean, full_matrices=False)
        kept = min(client.std.numel(), len(singular))
        # the sign of a singular vector is chance: the largest entry is made positive
        directions = directions[:kept]
        signs = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
        client.mean.copy_(mean)
        client.directions.zero_()[:, :kept] = (directions * signs).T.to(client.directions)
        client.std.zero_()[:kept] = (singular[:kept] / max(1, len(sample) - 1) ** 0.5).to(client.std)

    def bind(self, client: nn.Module, digest: str) -> FittedMechanism:
        """Return the components with their noise."""
        return FittedDpfe(digest, client, self.noise_scale or 0.0)


@dataclass(frozen=True)
class FittedDpfe(FittedLearned):
    """Activations reduced to noisy components."""

    CONSTANT_MASK: ClassVar[bool] = True

    noise_scale: float

    def apply(self, activations: Tensor, noise: UnitNoise) -> Tensor:
        """Return the activations that the noisy components stand for."""
        client = self.client
        assert isinstance(client, Components)
        code = self.code(activations)
        drawn = noise("gaussian").to(activations.dtype).flatten(1)[:, : code.shape[1]]
        return self.back(code + self.noise_scale * client.std * drawn).reshape(activations.shape)

    def code(self, activations: Tensor) -> Tensor:
        """What is sent but for the noise: components ``(n, k)``."""
        components: Tensor = self.client(activations)
        return components

    def back(self, code: Tensor) -> Tensor:
        """Activations ``(n, features)`` that components ``(n, k)`` stand for."""
        client = self.client
        assert isinstance(client, Components)
        activations: Tensor = code @ client.directions.T + client.mean
        return activations

    def moments(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the noisy components, ``(n, k)`` each."""
        client = self.client
        assert isinstance(client, Components)
        code = self.code(activations)
        return code, (self.noise_scale * client.std).expand_as(code)
