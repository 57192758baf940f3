"""Every classifier of torchvision, with its published weights."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torchvision import models

from hushsweep.workers.errors import PlugInError, unknown_name
from hushsweep.workers.models.architectures import Preset, Published, hub_checkpoint
from hushsweep.workers.models.cuts import Cut
from hushsweep.workers.models.files import tensors_only
from hushsweep.workers.models.graphs import Trace, cut_graph, trace

DEFAULT = "pretrained"


@dataclass(frozen=True)
class TorchvisionArchitecture:
    """``torchvision/NAME``."""

    short_name: str

    @classmethod
    def find(cls, short_name: str) -> TorchvisionArchitecture:
        """Look a name up among the classifiers."""
        known = models.list_models(module=models)
        if short_name not in known:
            names = [f"torchvision/{name}" for name in known]
            raise unknown_name("model", f"torchvision/{short_name}", names, list_all=False)
        return cls(short_name)

    @property
    def name(self) -> str:
        """As in a sweep file."""
        return f"torchvision/{self.short_name}"

    def preset(self, weights: str) -> Preset:
        """The transforms that torchvision publishes with the weights (with its default ones otherwise)."""
        enum = models.get_model_weights(self.short_name)
        entry: Any = self._entry(weights) or enum.DEFAULT
        transform = entry.transforms()
        return Preset(
            side=transform.crop_size[0],
            resize=transform.resize_size[0],
            interpolation=transform.interpolation.value,
            mean=tuple(transform.mean),
            std=tuple(transform.std),
            classes=len(entry.meta["categories"]),
            channels=3,
        )

    def published(self, weights: str) -> Published:
        """The file of torch.hub's checkpoint folder."""
        entry = self._entry(weights)
        if entry is None:
            names = [entry.name for entry in models.get_model_weights(self.short_name)]
            raise unknown_name(
                f"weights of {self.name}", weights, [*names, "prototype", "random", "train", DEFAULT]
            )
        return hub_checkpoint(entry.name, entry.url)

    def build(self, *, num_classes: int, in_channels: int, side: int) -> nn.Module:
        """Equals ``torchvision.models.NAME(num_classes=K)`` for 3 channels and the published side."""
        sized: dict[str, Any] = {}
        if side != self.preset(DEFAULT).side:  # only attention over a fixed grid has to know
            grids: dict[str, dict[str, Any]] = {
                "vit": {"image_size": side},
                "maxvit": {"input_size": (side, side)},
            }
            sized = grids.get(self.short_name.partition("_")[0], {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # on the initialisation of Inception and GoogLeNet
            network = models.get_model(self.short_name, num_classes=num_classes, **sized)
        return _with_channels(network, in_channels)

    def build_published(self, published: Published, *, in_channels: int, side: int) -> nn.Module:
        """As torchvision builds it from the file, which it finds in its cache."""
        del side
        entry = models.get_model_weights(self.short_name)[published.label]
        with tensors_only(published.path):
            network = models.get_model(self.short_name, weights=entry)
        return _with_channels(network, in_channels)

    def natural_cut(self, network: nn.Module) -> Cut:
        """Before the pooling; Swin: before the norm; ViT: the encoder's output; SqueezeNet: ``features``."""
        traced = trace(network)
        cut = cut_graph(traced, _natural_node(traced)) if traced else None
        if cut is None:
            raise PlugInError(f"{self.name} cannot be cut at 'features'; name a module as the cut")
        return cut

    def _entry(self, weights: str) -> Any | None:
        enum = models.get_model_weights(self.short_name)
        if weights in (DEFAULT, "DEFAULT"):
            return enum.DEFAULT
        return enum.__members__.get(weights)


def _natural_node(traced: Trace) -> fx.Node:
    network = traced.network
    if isinstance(network, models.SwinTransformer):
        return traced.entering("norm")
    if isinstance(network, models.VisionTransformer):
        return traced.leaving("encoder")
    if isinstance(network, models.SqueezeNet):
        return traced.leaving("features")  # its last convolution, before the pooling, is the classifier
    return traced.before_last_pooling()


def _with_channels(network: nn.Module, channels: int) -> nn.Module:
    """Make the first convolution take another number of channels than three.

    Greyscale: as if all three channels were equal, its weights summed. More than three: the first three keep their
    weights, the further ones get weights drawn with the same standard deviation. Two: greyscale and a further one.
    """
    if channels == 3:
        return network
    path, first = next((path, m) for path, m in network.named_modules() if isinstance(m, nn.Conv2d))
    wider = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    with torch.no_grad():
        known = first.weight if channels > 3 else first.weight.sum(dim=1, keepdim=True)
        wider.weight[:, : known.shape[1]] = known
        if channels > known.shape[1]:
            wider.weight[:, known.shape[1] :].normal_(std=first.weight.std().item())
        if first.bias is not None and wider.bias is not None:
            wider.bias.copy_(first.bias)
    network.set_submodule(path, wider)
    return network
