"""The plain values that say which network, with which weights, sees which pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hushsweep.datasets.images import Geometry


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A network and where its weights come from; docs/models.md explains each value with examples.

    Attributes:
        name: a key of ``OWN`` (``mnist_mlp``, ``conv5``, ``tanh_cnn``, ...), ``torchvision/NAME``,
            ``timm/NAME`` or ``package.module:Name``.
        weights: ``train``, ``prototype``, ``random``, ``pretrained``, a torchvision weights name such as
            ``IMAGENET1K_V1``, or the path of a ``.safetensors``, ``.pth`` or ``.pt`` file.
        seed: Of initial weights and of training.
        num_classes: Outputs of the head. None: the data set's number of classes for ``train``, ``prototype``
            and ``random``; otherwise the number the published network has.
        in_channels: 1 (greyscale) or 3. None: 3 for torchvision and timm, else the data set's.
        network_size: Side in pixels to which the network up-samples its input (bilinear). None: the network's
            own size where the data set's ``input_size`` is given, otherwise no up-sampling.
        epochs: Passes over the training images (``train`` only); torchvision and timm have no default.
        batch_size: Training images per step (``train`` only). None: 32.
        learning_rate: AdamW's (``train`` only). None: 1e-3.
        training_threads: CPU threads while training; they change the rounding, hence the weights.
    """

    name: str
    weights: str = "train"
    seed: int = 0
    num_classes: int | None = None
    in_channels: int | None = None
    network_size: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    training_threads: int = 1


@dataclass(frozen=True, kw_only=True)
class InputTransform:
    """What happens to an image before the network: pixels at a size, then a normalisation, then up-sampling.

    Attributes:
        geometry: The uint8 part: channels, resize, centre crop, interpolation.
        mean: Per channel, pixels 0..1.
        std: Per channel, pixels 0..1.
        network_size: Side in pixels to which ``SplitModel.features`` up-samples; None: not at all.
    """

    geometry: Geometry
    mean: tuple[float, ...]
    std: tuple[float, ...]
    network_size: int | None
