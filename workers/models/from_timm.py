"""Every classifier of timm, with its published weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE
from timm.data import resolve_data_config
from timm.models import PretrainedCfg, SwinTransformer, SwinTransformerV2
from torch import nn

from hushsweep.workers.errors import PlugInError, unknown_name
from hushsweep.workers.models.architectures import Preset, Published, hub_checkpoint
from hushsweep.workers.models.cuts import Cut, MethodCut, NormCut
from hushsweep.workers.models.files import read_state

FILE = "model.safetensors"


@dataclass(frozen=True)
class TimmArchitecture:
    """``timm/NAME`` or ``timm/NAME.TAG``."""

    short_name: str
    config: PretrainedCfg

    @classmethod
    def find(cls, short_name: str) -> TimmArchitecture:
        """Look a name up, with or without the tag of its weights."""
        stem, _, tag = short_name.partition(".")
        if not timm.is_model(stem):
            names = [f"timm/{name}" for name in timm.list_models()]
            raise unknown_name("model", f"timm/{stem}", names, list_all=False)
        try:
            config = timm.get_pretrained_cfg(short_name, allow_unregistered=False)
        except RuntimeError:
            config = None
        if tag and config is None:
            tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{stem}.*")]
            raise unknown_name(f"tag of timm/{stem}", tag, tags)
        return cls(short_name, config or PretrainedCfg())

    @property
    def name(self) -> str:
        """As in a sweep file."""
        return f"timm/{self.short_name}"

    def preset(self, weights: str) -> Preset:
        """The data configuration that timm publishes with the weights."""
        del weights
        data = resolve_data_config(pretrained_cfg=self.config.to_dict())
        channels, height, width = data["input_size"]
        if height != width or data["crop_mode"] not in ("center", "squash"):
            raise PlugInError(
                f"{self.name} wants {height}x{width} input, {data['crop_mode']!r}: not supported"
            )
        resized = math.floor(height / data["crop_pct"])
        return Preset(
            side=height,
            resize=(resized, resized) if data["crop_mode"] == "squash" else resized,
            interpolation=data["interpolation"],
            mean=tuple(data["mean"]),
            std=tuple(data["std"]),
            classes=self.config.num_classes,
            channels=channels,
        )

    def published(self, weights: str) -> Published:
        """The file of the Hugging Face cache; torch.hub's for the few that are not on the hub."""
        repository, address = self.config.hf_hub_id, self.config.url
        if weights != "pretrained" or not (repository or address):
            allowed = ["prototype", "random", "train"] + ["pretrained"] * bool(repository or address)
            raise PlugInError(
                f"model {self.name!r} has no weights {weights!r}: allowed are {', '.join(sorted(allowed))}, or the "
                "path of a .safetensors, .pth or .pt file; a tag in the name, timm/NAME.TAG, chooses published ones"
            )
        label = str(self.config.tag or "default")
        if not repository:
            return hub_checkpoint(label, str(address))
        found = try_to_load_from_cache(repository, FILE)
        url = f"{ENDPOINT}/{repository}/resolve/main/{FILE}"
        folder = Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
        return Published(
            label=label,
            url=url,
            path=Path(found) if isinstance(found, str) else folder / FILE,
            sha256="",
            repository=repository,
            advice=f"download {url} elsewhere and name the file as weights, or copy the folder {folder} "
            f"from a machine where `hf download {repository} {FILE}` has run",
        )

    def build(self, *, num_classes: int, in_channels: int, side: int) -> nn.Module:
        """Equals ``timm.create_model(NAME, num_classes=K)`` for 3 channels and the published side."""
        return self._create(num_classes=num_classes, in_channels=in_channels, side=side)

    def build_published(self, published: Published, *, in_channels: int, side: int) -> nn.Module:
        """As timm builds it from the file, with its own conversion of keys, positions and channels."""
        overlay = {"state_dict": read_state(published.path)}
        classes = self.config.num_classes
        return self._create(
            num_classes=classes,
            in_channels=in_channels,
            side=side,
            pretrained=True,
            pretrained_cfg_overlay=overlay,
        )

    def natural_cut(self, network: nn.Module) -> Cut:
        """Between ``forward_features`` and ``forward_head``; Swin: the input of ``norm``."""
        if isinstance(network, SwinTransformer | SwinTransformerV2):
            return NormCut(network)
        return MethodCut(network)

    def _create(self, *, num_classes: int, in_channels: int, side: int, **more: Any) -> nn.Module:
        if self.config.fixed_input_size and side != self.config.input_size[-1]:
            more["img_size"] = side
        network: nn.Module = timm.create_model(
            self.short_name, num_classes=num_classes, in_chans=in_channels, **more
        )
        return network
