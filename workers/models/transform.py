"""The input transform of a model on a data set: published, small as in the paper, or native pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hushsweep.datasets.images.geometry import Geometry
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models.architectures import Preset, find_architecture
from hushsweep.workers.models.config import InputTransform, ModelConfig

if TYPE_CHECKING:
    from hushsweep.datasets.images import DatasetInfo

UNKNOWN = 0.5  # mean and standard deviation where neither weights nor data set name any: pixels from -1 to 1


def input_transform(config: ModelConfig, info: DatasetInfo, *, input_size: int | None) -> InputTransform:
    """Derive the transform; docs/models.md has the rules and a table.

    Without ``input_size``, the images become what the weights were published for. With it, they become that
    small, with the proportion of resize to crop kept, and the network up-samples them (arXiv:2404.02866: 91
    instead of 224, so 104 and 94 instead of resizing to 256 and 232).

    Args:
        config: The model.
        info: The data set.
        input_size: Side of the images in pixels, or None.

    Raises:
        PlugInError: unknown model or weights, or a value out of range.
    """
    for field, value in (("input_size", input_size), ("network_size", config.network_size)):
        if value is not None and value < 1:
            raise PlugInError(f"{field}: expected a number of pixels >= 1, got {value}")
    if config.in_channels not in (None, 1, 3):
        raise PlugInError(f"in_channels: expected 1 (greyscale) or 3, got {config.in_channels}")
    preset = find_architecture(config.name).preset(config.weights)
    channels = config.in_channels or preset.channels or info.channels
    geometry = _geometry(preset, info, input_size, channels)
    shown = geometry.crop if isinstance(geometry.crop, int) else info.height
    network = config.network_size or (preset.side if input_size else None)
    return InputTransform(
        geometry=geometry,
        mean=_per_channel(preset.mean or info.mean or (UNKNOWN,), channels),
        std=_per_channel(preset.std or info.std or (UNKNOWN,), channels),
        network_size=None if network == shown else network,
    )


def _geometry(preset: Preset, info: DatasetInfo, input_size: int | None, channels: int) -> Geometry:
    side = input_size or preset.side
    native = info.height == info.width == side
    if side is None:  # the model takes whatever the data set has
        return Geometry(channels=channels)
    # Images of the wanted size are not enlarged and cropped, unless the weights were published for that.
    if native and (input_size or preset.resize == preset.side):
        return Geometry(channels=channels)
    resize = preset.resize or side
    if preset.side is not None and side != preset.side:
        scaled = [
            int(edge * side / preset.side) for edge in ([resize] if isinstance(resize, int) else resize)
        ]
        resize = scaled[0] if len(scaled) == 1 else (scaled[0], scaled[1])
    return Geometry(channels=channels, resize=resize, crop=side, interpolation=preset.interpolation)


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Fit a normalisation to the channels: averaged for greyscale, repeated for colour."""
    if len(values) == channels:
        return values
    return (sum(values) / len(values),) * channels
