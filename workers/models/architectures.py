"""What every source of networks offers, and the lookup from a name in a sweep file to its source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

import torch

from hushsweep.datasets.plugins import is_plug_in
from hushsweep.workers.errors import PlugInError, unknown_name

if TYPE_CHECKING:
    from torch import nn

    from hushsweep.workers.models.cuts import Cut


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How an architecture wants its images, and the sizes of its ends.

    Attributes:
        side: Of the square input in pixels; None: whatever the data set has.
        resize: Before the centre crop to ``side``: the shorter side, or (height, width); None if ``side`` is.
        interpolation: Of the resize.
        mean: Per channel of 0..1; None: the data set's.
        std: Per channel of 0..1; None: the data set's.
        classes: Outputs of the head unless told otherwise; None: the data set's classes.
        channels: Of the input unless told otherwise; None: the data set's.
        epochs: Of training unless told otherwise; None: the user has to say.
        fixed_features: Whether nothing before the cut at features is learned, or random.
    """

    side: int | None = None
    resize: int | tuple[int, int] | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: int | None = None
    channels: int | None = None
    epochs: int | None = None
    fixed_features: bool = False


@dataclass(frozen=True, kw_only=True)
class Published:
    """Published weights, which lie on this machine or have to be fetched.

    Attributes:
        label: Their name, for example ``IMAGENET1K_V1``.
        url: Where they can be had.
        path: Where they lie, or where they will lie once fetched.
        sha256: First hexadecimal digits of the file's SHA-256; empty if its publisher gives none.
        repository: On the Hugging Face hub; None: ``url`` is fetched straight into ``path``.
        advice: What to type or to copy if there is no network here.
    """

    label: str
    url: str
    path: Path
    sha256: str
    repository: str | None
    advice: str


class Architecture(Protocol):
    """One named network of one source, not yet built."""

    @property
    def name(self) -> str:
        """As in a sweep file."""

    def preset(self, weights: str) -> Preset:
        """Input and sizes that go with these weights (with the default ones if these are not published)."""

    def published(self, weights: str) -> Published:
        """The published weights of that name; PlugInError if there are none."""

    def build(self, *, num_classes: int, in_channels: int, side: int) -> nn.Module:
        """A network with fresh weights from torch's global generator, for inputs of ``side`` pixels."""

    def build_published(self, published: Published, *, in_channels: int, side: int) -> nn.Module:
        """A network with published weights, whose file lies at ``published.path``."""

    def natural_cut(self, network: nn.Module) -> Cut:
        """Cut a network of this architecture at ``features``."""


def hub_checkpoint(label: str, url: str) -> Published:
    """Describe a file of torch.hub's checkpoint folder; its name carries the beginning of its digest."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(url).name
    digest = re.search(r"-([0-9a-f]{8,})\.", path.name)
    return Published(
        label=label,
        url=url,
        path=path,
        sha256=digest[1] if digest else "",
        repository=None,
        advice=f"download {url} elsewhere and put it at {path}, or name the file as weights",
    )


def no_published_weights(name: str, weights: str) -> PlugInError:
    """Say that only torchvision and timm publish weights."""
    return PlugInError(
        f"model {name!r} has no published weights {weights!r}; "
        "weights may be train, prototype, random, or the path of a .safetensors, .pth or .pt file"
    )


def find_architecture(name: str) -> Architecture:
    """Look a model's name up.

    Raises:
        PlugInError: nothing is called that; with the nearest names.
    """
    source, _, rest = name.partition("/")
    if is_plug_in(name):
        from hushsweep.workers.models.from_plugin import PlugInArchitecture

        return PlugInArchitecture.find(name)
    if source == "torchvision" and rest:
        from hushsweep.workers.models.from_torchvision import TorchvisionArchitecture

        return TorchvisionArchitecture.find(rest)
    if source == "timm" and rest:
        from hushsweep.workers.models.from_timm import TimmArchitecture

        return TimmArchitecture.find(rest)
    from hushsweep.workers.models.networks import OWN

    own: Mapping[str, Architecture] = OWN
    if name in own:
        return own[name]
    stem = name.rpartition("/")[2]
    elsewhere = [f"{library}/{stem}" for library, has in _libraries_with(stem).items() if has]
    if elsewhere:
        raise PlugInError(f"unknown model {name!r}; did you mean {' or '.join(map(repr, elsewhere))}?")
    raise unknown_name("model", name, [*own, "torchvision/NAME", "timm/NAME", "package.module:Name"])


def _libraries_with(stem: str) -> dict[str, bool]:
    """Which libraries have a network of that name: ``resnet18`` lacks the library's name in front."""
    import timm
    import torchvision

    classifiers = torchvision.models.list_models(module=torchvision.models)
    return {"torchvision": stem in classifiers, "timm": timm.is_model(stem)}
