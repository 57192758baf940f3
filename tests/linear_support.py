"""A linear network and Gaussian images: the optimum of every attack is known in closed form."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hushsweep.datasets.images import ImageSet
from hushsweep.datasets.images.base import DatasetInfo
from hushsweep.workers.features import Activations
from hushsweep.workers.measures.base import FittedPoint, FittedStage, Subject
from hushsweep.workers.mechanisms import AdditiveNoise
from hushsweep.workers.models import SplitModel

SIDE, FEATURES = 4, 10
MEAN, STD = 0.5, 0.1
"""Of the normalisation, pixels 0..1: an entry that varies by 1 is 25 grey levels, and 5 of those away from the edge."""


class LinearNet(nn.Module):
    """Features W x, and a linear head."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        pixels = SIDE * SIDE
        self.weight = nn.Parameter(torch.randn(FEATURES, pixels, generator=generator) / 4)
        self.out = nn.Parameter(torch.randn(2, FEATURES, generator=generator))

    def features(self, x: Tensor) -> Tensor:
        """``(n, 1, 4, 4)`` to ``(n, 10)``."""
        return x.flatten(1) @ self.weight.T

    def head(self, a: Tensor) -> Tensor:
        """``(n, 10)`` to ``(n, 2)``."""
        return a @ self.out.T


def linear_subject(*, train: int = 20_000, test: int = 4000, validation: int = 2000) -> Subject:
    """Gaussian images with a covariance far from the identity, seen through a linear network."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(SIDE**2, SIDE**2, generator=generator) / 4
    sets = {
        name: _images(name, size, mix, generator)
        for name, size in (("train", train), ("validation", validation), ("test", test))
    }
    model = SplitModel(
        LinearNet(generator),  # type: ignore[arg-type]
        input_shape=(1, SIDE, SIDE),
        mean=torch.tensor([MEAN]),
        std=torch.tensor([STD]),
        network_size=None,
    )
    activations = Activations(
        model=model, images=sets["test"], logits=False, device=torch.device("cpu"), batch_size=512
    )
    return Subject(
        activations=activations,
        positions=range(test),
        rms=lambda: activations.rms(range(1)),
        part=lambda name: sets[name],
    )


def covariance(subject: Subject) -> Tensor:
    """Of the training images, normalised units."""
    pixels = torch.from_numpy(np.array(subject.part("train").images))
    return torch.cov(subject.model.normalise(pixels).flatten(1).double().T)


def noise_at_cut(noise_std: float, law: str = "gaussian") -> FittedPoint:
    """Additive noise on the features."""
    stages = (FittedStage("cut/0", "cut", AdditiveNoise(law, noise_std)),)
    return FittedPoint(point_id=f"{law}-{noise_std}", seed=0, stages=stages)


def _images(name: str, size: int, mix: Tensor, generator: torch.Generator) -> ImageSet:
    entries = torch.randn(size, SIDE**2, generator=generator) @ mix.T
    grey = (255 * (MEAN + STD * entries)).round().clamp(0, 255).to(torch.uint8)
    info = DatasetInfo(
        name=name,
        split=name,
        fingerprint="0" * 64,
        size=size,
        total=size,
        classes=2,
        channels=1,
        height=SIDE,
        width=SIDE,
        mean=(MEAN,),
        std=(STD,),
        class_names=None,
    )
    return ImageSet(
        path=Path(name),
        images=grey.reshape(size, 1, SIDE, SIDE).numpy(),
        labels=np.arange(size) % 2,
        indices=np.arange(size),
        names=[f"{name}/{number}" for number in range(size)],
        secondary=None,
        undecodable=(),
        info=info,
    )
