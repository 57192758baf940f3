"""The baselines that every learned mechanism is compared with: plain Gaussian noise that the server has learned on."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from hushsweep.workers.mechanisms.base import FittedMechanism, UnitNoise
from hushsweep.workers.mechanisms.learned import Batch, FittedLearned, LearnedMechanism

_MOMENTUM = 0.05


class RunningRms(nn.Module):
    """Root mean square of the values seen in training, as batch normalisation keeps its statistics."""

    rms: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rms", torch.zeros(()))

    def forward(self, values: Tensor) -> Tensor:
        """Take a batch into account, in training, and return the RMS so far."""
        if self.training:
            found = values.detach().float().square().mean().sqrt()
            first = self.rms == 0
            self.rms.copy_(torch.where(first, found, torch.lerp(self.rms, found, _MOMENTUM)))
        return self.rms


@dataclass(frozen=True, kw_only=True)
class TrainedGaussian(LearnedMechanism):
    """Gaussian noise of one size on every entry, with a server that has learned to live with it."""

    LEVELS: ClassVar[tuple[str, ...]] = ("noise_scale",)
    LEVEL_ACTS: ClassVar[bool] = True

    noise_scale: float | None = field(default=None, metadata={"ge": 0})
    """Standard deviation of the noise in units of the RMS of the training images' values, >= 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.server == "frozen":
            raise ValueError(
                "server: nothing of trained_gaussian learns with a frozen server; expected scratch or tuned, or use "
                "gaussian"
            )

    def client(self, shape: tuple[int, ...]) -> nn.Module:
        """Return what keeps the RMS."""
        return RunningRms()

    def loss(self, client: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy under noise."""
        assert self.noise_scale is not None
        std = self.noise_scale * client(batch.values)
        return batch.cross_entropy(batch.values + std * torch.randn_like(batch.values))

    def bind(self, client: nn.Module, digest: str) -> FittedMechanism:
        """Return the noise ready to act."""
        assert isinstance(client, RunningRms)
        return FittedTrainedGaussian(digest, client, (self.noise_scale or 0.0) * float(client.rms))


@dataclass(frozen=True)
class FittedTrainedGaussian(FittedLearned):
    """Gaussian noise of one size."""

    CONSTANT_MASK: ClassVar[bool] = True

    noise_std: float

    def apply(self, activations: Tensor, noise: UnitNoise) -> Tensor:
        """Return ``activations`` plus noise."""
        return activations + self.noise_std * noise("gaussian").to(activations.dtype)

    def moments(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of what leaves, ``(n, d)`` each."""
        mean = activations.flatten(1)
        return mean, torch.full_like(mean, self.noise_std)
