"""A task on the digits, a victim and noise for it: what the tests of attackers attack."""

from dataclasses import replace
from pathlib import Path

import torch

from hushsweep.datasets.images import DatasetConfig, ImageSet, describe_dataset, load_images
from hushsweep.workers.features import Activations
from hushsweep.workers.measures.base import FittedPoint, FittedStage, Subject
from hushsweep.workers.mechanisms import AdditiveNoise
from hushsweep.workers.models import ModelConfig, input_transform, load_model
from hushsweep.workers.models.trainable import trainable

DIGITS = DatasetConfig(name="digits", task="less_than_5")
MODEL = ModelConfig(name="digits_mlp", weights="random")


def attack_subject(
    folder: Path, *, dataset: DatasetConfig = DIGITS, model: ModelConfig = MODEL, keep: bool = True
) -> Subject:
    """What a trial would give its measures, with the cache in ``folder``."""
    info = describe_dataset(dataset)
    transform = input_transform(model, info, input_size=None)

    def part(split: str) -> ImageSet:
        limit = dataset.train_limit if split == "train" else dataset.limit
        return load_images(replace(dataset, split=split, limit=limit), transform.geometry, cache_dir=folder)

    def fresh(num_classes: int, extra_channels: int, seed: int) -> torch.nn.Module:
        return trainable(
            model,
            "features",
            info=info,
            transform=transform,
            num_classes=num_classes,
            in_channels=info.channels + extra_channels,
            seed=seed,
        )

    images = load_images(dataset, transform.geometry, cache_dir=folder)
    activations = Activations(
        model=load_model(model, "features", info=info, transform=transform),
        images=images,
        logits=False,
        device=torch.device("cpu"),
        batch_size=64,
    )
    return Subject(
        activations=activations,
        positions=range(len(images)),
        rms=lambda: activations.rms(range(1)),
        cache=folder if keep else None,
        key={"model": model.name},
        part=part,
        fresh=fresh,
        full_epochs=30,
    )


def noisy(at: str, noise_std: float, *, law: str = "gaussian", seed: int = 0) -> FittedPoint:
    """Noise on the input or at the cut."""
    stages = (FittedStage(f"{at}/0", at, AdditiveNoise(law, noise_std)),) if noise_std else ()
    return FittedPoint(point_id=f"{at}-{law}-{noise_std}-{seed}", seed=seed, stages=stages, leaves=at)
