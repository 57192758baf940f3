"""What a mechanism is learned on: everything that the result depends on, but for the mechanism itself."""

from dataclasses import dataclass, replace
from hashlib import sha256

import torch

from hushsweep.datasets.images import DatasetConfig, DatasetInfo
from hushsweep.datasets.tasks import validation_part
from hushsweep.workers.learning.loop import Schedule
from hushsweep.workers.mechanisms.learned import LearnedMechanism
from hushsweep.workers.models import InputTransform, ModelConfig, find_architecture

VALIDATION_IMAGES = 2000
"""Of the validation part, evenly spaced, after every epoch."""


@dataclass(frozen=True, kw_only=True)
class LearningTask:
    """Everything that what is learned depends on, but for the mechanism itself.

    Attributes:
        model: The server's network.
        cut: Where it is cut.
        dataset: The reported data set; its task's train part is learned, its validation part watched.
        info: Description of the reported data set.
        transform: From images to the network's input.
        seed: Of fresh weights, order and noise.
        base: What identifies the model's given weights.
        device: Where to compute.
    """

    model: ModelConfig
    cut: str
    dataset: DatasetConfig
    info: DatasetInfo
    transform: InputTransform
    seed: int
    base: str
    device: torch.device


def server_classes(mechanism: LearnedMechanism, model: ModelConfig, info: DatasetInfo) -> int | None:
    """Outputs of a server's network that learns; None: as many as the given weights have."""
    return None if mechanism.server == "frozen" else model.num_classes or info.classes


def watched_part(dataset: DatasetConfig) -> DatasetConfig:
    """The images by which trainings, and levels that are searched for, are judged."""
    part = validation_part(dataset)
    return replace(part, limit=min(part.limit or VALIDATION_IMAGES, VALIDATION_IMAGES))


def derived_seed(*parts: object) -> int:
    """Make one seed of several values."""
    return int(sha256("/".join(map(str, parts)).encode()).hexdigest()[:15], 16)


def schedule_of(mechanism: LearnedMechanism, task: LearningTask) -> Schedule:
    """How long a mechanism learns, in what batches: its own epochs, or those of the server's network."""
    own = find_architecture(task.model.name).preset("train").epochs
    return mechanism.schedule(f"learn/{task.seed}", own)
