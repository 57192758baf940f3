"""Plug-ins that learn, and a task to learn them on: what several tests of learned mechanisms share."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from hushsweep.datasets.images import DatasetConfig, describe_dataset
from hushsweep.workers.learning.learn import Learned, learn
from hushsweep.workers.learning.task import LearningTask
from hushsweep.workers.mechanisms.base import FittedMechanism, UnitNoise
from hushsweep.workers.mechanisms.learned import Batch, FittedLearned, LearnedMechanism
from hushsweep.workers.models import ModelConfig, input_transform

DIGITS = DatasetConfig(name="digits", task="less_than_5", train_limit=300)
CONV5 = ModelConfig(name="conv5", weights="random")


def learning_task(
    *, seed: int = 0, dataset: DatasetConfig = DIGITS, model: ModelConfig = CONV5
) -> LearningTask:
    """A small task on the digits."""
    info = describe_dataset(dataset)
    return LearningTask(
        model=model,
        cut="features",
        dataset=dataset,
        info=info,
        transform=input_transform(model, info, input_size=None),
        seed=seed,
        base=f"{model.weights}/{model.seed}",
        device=torch.device("cpu"),
    )


def learned(
    name: str,
    mechanism: LearnedMechanism,
    folder: Path,
    *,
    task: LearningTask | None = None,
    place: str = "input",
    report: "list[object] | None" = None,
) -> Learned:
    """Learn with everything kept in ``folder``; ``report`` gets an entry per epoch."""
    return learn(
        name,
        mechanism,
        place,
        task or learning_task(),
        base_state=lambda: None,
        models_dir=folder / "models",
        cache_dir=folder / "cache",
        report=lambda progress: None if report is None else report.append(progress),
    )


class NeitherFitsNorLearns:
    """A class with a mechanism's constants alone."""

    VERSION = 1
    LEVELS = ("penalty",)


@dataclass(frozen=True, kw_only=True)
class Halved(LearnedMechanism):
    """A plug-in that learns one factor."""

    penalty: float | None = field(default=None, metadata={"gt": 0})
    LEVELS: ClassVar[tuple[str, ...]] = ("penalty",)

    def client(self, shape: tuple[int, ...]) -> nn.Module:
        return Factor()

    def loss(self, client: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(client, Factor)
        assert self.penalty is not None
        return batch.cross_entropy(client.factor * batch.values) + self.penalty * client.factor.square()

    def bind(self, client: nn.Module, digest: str) -> FittedMechanism:
        return FittedHalved(digest, client)


class Factor(nn.Module):
    """One number."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))


@dataclass(frozen=True)
class FittedHalved(FittedLearned):
    """The factor, learned."""

    def apply(self, activations: Tensor, noise: UnitNoise) -> Tensor:
        assert isinstance(self.client, Factor)
        return self.client.factor * activations


class Broken(nn.Module):
    """A mask network that cannot be built."""

    def __init__(self, shape: tuple[int, int, int], activation: str) -> None:
        raise KeyError("no such layer")


class TooSmall(nn.Module):
    """A mask network whose output is smaller than the image."""

    def __init__(self, shape: tuple[int, int, int], activation: str) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(shape[0], shape[0], 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.convolution(x)
        return found


class MixesImages(nn.Module):
    """Batch normalisation that has no statistics but the batch's."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()
        )
        self.classifier = nn.Linear(144, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.classifier(self.layers(x))
        return found
