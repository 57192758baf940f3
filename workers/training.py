"""Weights that we make ourselves, trained or prototype: made once, stored by content, found again."""

from __future__ import annotations

import json
from dataclasses import asdict
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors.torch import save

from hushsweep.datasets.heartbeat import locked
from hushsweep.datasets.images import describe_dataset, load_images
from hushsweep.datasets.results.files import kept, remove, write_atomically
from hushsweep.datasets.tasks import training_part
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models.architectures import find_architecture
from hushsweep.workers.models.check import check_model, class_count
from hushsweep.workers.models.files import read_state
from hushsweep.workers.models.load import fresh_network, network_shape
from hushsweep.workers.models.pixels import normalise, upsample
from hushsweep.workers.models.prototype import set_prototypes
from hushsweep.workers.models.recipe import Recipe, train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from hushsweep.datasets.images import DatasetConfig, DatasetInfo
    from hushsweep.workers.models.config import InputTransform, ModelConfig

WEIGHTS_MADE_HERE = ("train", "prototype")
VERSION = 1  # of how weights are made; raise it when the same settings give other weights


class ResolvedWeights(NamedTuple):
    """Weights, and what identifies them.

    Attributes:
        state_dict: For ``load_model``; None where that finds the weights by itself.
        digest: Of the settings that make ``train`` and ``prototype`` weights (their file is called that), or the
            SHA-256 of the file of others; None for ``random``.
    """

    state_dict: dict[str, Tensor] | None
    digest: str | None


def resolve_weights(
    config: ModelConfig,
    *,
    info: DatasetInfo,
    transform: InputTransform,
    dataset: DatasetConfig,
    models_dir: Path,
    cache_dir: Path,
    device: torch.device | str,
) -> ResolvedWeights:
    """Make the weights of a model or find them made; several processes make them once.

    ``train`` learns the data set's ``train`` split, or ``train_limit`` images of it; ``prototype`` stores images
    of the reported one.

    Args:
        config: The model.
        info: The reported data set.
        transform: Of ``input_transform``.
        dataset: The reported data set.
        models_dir: Gets ``<digest>.safetensors``, with the settings in its metadata.
        cache_dir: Holds decoded images, and checkpoints while a training runs.
        device: Where to compute.

    Raises:
        PlugInError: the model, its weights or its training are impossible.
        DatasetError: the data set has no ``train`` split, or cannot be read.
    """
    if config.weights not in WEIGHTS_MADE_HERE:
        return ResolvedWeights(None, check_model(config, info).weights_digest)
    device = torch.device(device)
    dataset = _learned(config, dataset)
    recipe = _recipe(config)
    settings = _settings(config, info=info, transform=transform, dataset=dataset, device=device)
    digest = _digest(settings)
    path = models_dir / f"{digest}.safetensors"
    models_dir.mkdir(parents=True, exist_ok=True)
    with locked(models_dir / f".{digest}.lock"):
        if not kept(path):
            images = load_images(dataset, transform.geometry, cache_dir=cache_dir)
            network = fresh_network(config, info=info, transform=transform).to(device)
            if config.weights == "train":
                checkpoint = cache_dir / "checkpoints" / digest
                checkpoint.parent.mkdir(parents=True, exist_ok=True)
                train(
                    network,
                    images,
                    recipe,
                    prepare=_prepare(transform, device),
                    device=device,
                    checkpoint=checkpoint,
                )
            else:
                set_prototypes(network, images, prepare=_prepare(transform, device))
            store_weights(path, network.state_dict(), settings)
            if config.weights == "train":
                remove(checkpoint)
    return ResolvedWeights(read_state(path), digest)


def weights_digest(
    config: ModelConfig,
    *,
    info: DatasetInfo,
    transform: InputTransform,
    dataset: DatasetConfig,
    device: torch.device | str,
) -> str:
    """Digest that ``resolve_weights`` will give the weights of ``train`` and ``prototype``; makes nothing.

    Raises:
        DatasetError: the data set has no ``train`` split, or cannot be read.
    """
    learned = _learned(config, dataset)
    return _digest(
        _settings(config, info=info, transform=transform, dataset=learned, device=torch.device(device))
    )


def _learned(config: ModelConfig, dataset: DatasetConfig) -> DatasetConfig:
    """The images that the weights are made of: those to learn from, or the reported ones as prototypes."""
    return training_part(dataset) if config.weights == "train" else dataset


def same_classes(first: DatasetInfo, second: DatasetInfo) -> bool:
    """Tell whether labels mean the same in two splits: the same names where both have names."""
    if first.class_names is None or second.class_names is None:
        return True
    return first.class_names == second.class_names


def _settings(
    config: ModelConfig,
    *,
    info: DatasetInfo,
    transform: InputTransform,
    dataset: DatasetConfig,
    device: torch.device,
) -> dict[str, Any]:
    """Everything that the weights depend on."""
    learned = describe_dataset(dataset)
    if learned.classes > class_count(config, info) or not same_classes(learned, info):
        raise PlugInError(
            f"weights: {config.weights} of {config.name!r}: the split {learned.split!r} has other classes "
            f"({learned.classes}) than the reported split {info.split!r} ({info.classes}); make them equal, "
            "or give weights that fit"
        )
    return {
        "version": VERSION,
        "weights": config.weights,
        "model": config.name,
        "num_classes": class_count(config, info),
        "input": network_shape(transform, info),
        "transform": asdict(transform),
        "seed": config.seed,
        "data": learned.fingerprint,
        "limit": dataset.limit,
        "device_type": device.type,
        "recipe": asdict(_recipe(config)) if config.weights == "train" else None,
    }


def _digest(settings: dict[str, Any]) -> str:
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def _recipe(config: ModelConfig) -> Recipe:
    """The paper's recipe where the model's settings leave something out."""
    return Recipe(
        seed=config.seed,
        epochs=config.epochs or find_architecture(config.name).preset(config.weights).epochs or 0,
        batch_size=config.batch_size or 32,
        learning_rate=config.learning_rate or 1e-3,
        threads=config.training_threads,
    )


def _prepare(transform: InputTransform, device: torch.device) -> Callable[[Tensor], Tensor]:
    """From uint8 images to what the network itself gets."""
    mean = torch.tensor(transform.mean, device=device).reshape(-1, 1, 1)
    std = torch.tensor(transform.std, device=device).reshape(-1, 1, 1)
    return lambda images: upsample(normalise(images, mean, std), transform.network_size)


def store_weights(path: Path, state: dict[str, Tensor], settings: dict[str, Any]) -> None:
    """Write tensors with the settings that made them: under a temporary name, until they are on the disk."""
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    metadata = {"settings": json.dumps(settings), "torch": torch.__version__}
    write_atomically(path, lambda stream: stream.write(save(tensors, metadata)))
