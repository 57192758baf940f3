"""Find out what is wrong with a model before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models.architectures import Architecture, find_architecture
from hushsweep.workers.models.config import ModelConfig
from hushsweep.workers.models.files import check_fit, fetch, is_path, read_state, sha256, weights_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from hushsweep.datasets.images import DatasetInfo

CAVEATS = {"prototype": "memorised, not validation", "random": "random weights"}
MADE_HERE = ("train", "prototype", "random")


@dataclass(frozen=True, kw_only=True)
class CheckedModel:
    """What a model's configuration comes to on a data set.

    Attributes:
        num_classes: Outputs of the head.
        weights: Resolved, for example ``IMAGENET1K_V1`` for ``pretrained``.
        weights_digest: SHA-256 of the weights' file; None where we make the weights.
        caveat: What a reader of the accuracy has to know; None: nothing.
    """

    num_classes: int
    weights: str
    weights_digest: str | None
    caveat: str | None


def check_model(config: ModelConfig, info: DatasetInfo, *, fetch_missing: bool = True) -> CheckedModel:
    """Check a model against a data set; cheap, except that published weights are fetched if they are missing.

    Args:
        config: The model.
        info: The data set.
        fetch_missing: False leaves missing published weights alone, and their digest None.

    Raises:
        PlugInError: unknown model, weights or tag; a file that is missing, unsafe, damaged or does not fit;
            published weights that are not here and cannot be fetched; labels outside the head; a value out of
            range.
    """
    architecture = find_architecture(config.name)
    num_classes = class_count(config, info)
    if info.classes > num_classes:
        raise PlugInError(
            f"num_classes: data set {info.name!r} has labels 0..{info.classes - 1}, but the head of "
            f"{config.name!r} with weights {config.weights!r} has {num_classes} outputs; use weights: train, "
            f"prototype or random with num_classes left out, or weights with at least {info.classes} classes"
        )
    caveat = CAVEATS.get(config.weights)
    if config.weights == "train":
        _check_training(config, architecture)
    if config.weights in MADE_HERE:
        return CheckedModel(
            num_classes=num_classes, weights=config.weights, weights_digest=None, caveat=caveat
        )
    if is_path(config.weights):
        path, label = weights_file(config.weights), config.weights
        check_fit(
            path,
            read_state(path, part="server"),
            _shapes(config, architecture, num_classes, info),
            model=config.name,
        )
    else:
        published = architecture.published(config.weights)
        label = published.label
        if not fetch_missing and not published.path.is_file():
            return CheckedModel(num_classes=num_classes, weights=label, weights_digest=None, caveat=None)
        path = fetch(published)
    return CheckedModel(
        num_classes=num_classes,
        weights=label,
        weights_digest=_digest(path, path.stat().st_mtime_ns),
        caveat=None,
    )


def class_count(config: ModelConfig, info: DatasetInfo) -> int:
    """Outputs of the head: as asked, the data set's for weights made here, else the published network's."""
    if config.num_classes is not None and config.num_classes < 1:
        raise PlugInError(f"num_classes: expected a number >= 1, got {config.num_classes}")
    if config.weights in MADE_HERE:
        return config.num_classes or info.classes
    own = find_architecture(config.name).preset(config.weights).classes
    if is_path(config.weights) or own is None:
        return config.num_classes or own or info.classes
    if config.num_classes not in (None, own):
        raise PlugInError(
            f"num_classes: the published weights {config.weights!r} of {config.name!r} have {own} classes, "
            f"got {config.num_classes}; leave num_classes out, or use weights: train or prototype"
        )
    return own


def _check_training(config: ModelConfig, architecture: Architecture) -> None:
    if config.epochs is None and architecture.preset(config.weights).epochs is None:
        raise PlugInError(f"model {config.name!r} with weights: train needs epochs, for example epochs: 10")
    for field in ("epochs", "batch_size", "learning_rate", "training_threads"):
        value = getattr(config, field)
        if value is not None and not value > 0:
            raise PlugInError(f"{field}: expected a number > 0, got {value}")


@lru_cache(maxsize=64)
def _digest(path: Path, modified: int) -> str:
    del modified  # in the key of the cache
    return sha256(path)


def _shapes(
    config: ModelConfig, architecture: Architecture, num_classes: int, info: DatasetInfo
) -> Mapping[str, Tensor]:
    """Names and shapes of a network's weights, built without memory where its code allows that."""
    preset = architecture.preset(config.weights)
    channels = config.in_channels or preset.channels or info.channels
    side = config.network_size or preset.side or info.height or 0
    try:
        with torch.device("meta"):
            return architecture.build(num_classes=num_classes, in_channels=channels, side=side).state_dict()
    except (NotImplementedError, RuntimeError):  # some constructors look at values (RegNet)
        with torch.random.fork_rng(devices=[]):
            return architecture.build(num_classes=num_classes, in_channels=channels, side=side).state_dict()
