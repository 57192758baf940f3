"""The networks of decoders: the affine reconstruction, plus a correction that is learned and begins at zero."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from hushsweep.workers.attacks.reconstruction.ridge import Affine

_HIDDEN = 1024
_CHANNELS = 64
_SIDE = 24
_FINE = 4096
"""Entries of an image up to which a correction from flat features names every pixel; a larger one gets a coarse one."""
_COARSE = 32
"""Pixels of the shorter side of that one."""


class Decoder(nn.Module):
    """From what leaves to flat images, normalised units.

    Args:
        affine: what it corrects.
        seen_shape: of what leaves.
        image_shape: ``(channels, height, width)``.
        scale: root mean square of what leaves, by which it is divided.
        conditioned: whether it is told the noise of every image.
        seed: of the initial weights.
    """

    scale: Tensor

    def __init__(
        self,
        affine: Affine,
        seen_shape: Sequence[int],
        image_shape: tuple[int, int, int],
        *,
        scale: float,
        conditioned: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self.affine, self.conditioned = affine, conditioned
        self.register_buffer("scale", torch.tensor(scale or 1.0))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            flat = len(seen_shape) != 3 or seen_shape[1:] == (1, 1)
            kind = FlatCorrection if flat else MapCorrection
            self.correction = kind(seen_shape, image_shape, conditioned=conditioned)

    def forward(self, seen: Tensor, noise_std: Tensor | None = None) -> Tensor:
        """``(n, *seen)``, and ``(n, 1)`` standard deviations where it is conditioned, to ``(n, p)``."""
        if not self.conditioned or noise_std is None:
            base = self.affine(seen)
            level = None
        else:
            base = self.affine(seen, noise_std.square())
            # divided by the noise and the signal together, an input has one scale at every level
            level = (noise_std / self.scale).log()
            seen = seen / (1 + (noise_std / self.scale).square()).sqrt().reshape(-1, *(1,) * (seen.dim() - 1))
        correction: Tensor = self.correction(seen / self.scale, base, level)
        found: Tensor = base + correction
        return found

    def silence(self) -> None:
        """Take the correction out: on images that were not learned from, the affine map alone does better."""
        nn.init.zeros_(self.correction.last.weight)
        if self.correction.last.bias is not None:
            nn.init.zeros_(self.correction.last.bias)


class FlatCorrection(nn.Module):
    """Two hidden layers, for features without places."""

    def __init__(
        self, seen_shape: Sequence[int], image_shape: tuple[int, int, int], *, conditioned: bool
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.image_shape = image_shape
        shrink = 1.0 if math.prod(image_shape) <= _FINE else _COARSE / min(height, width)
        self.grid = (channels, max(1, round(shrink * height)), max(1, round(shrink * width)))
        self.body = nn.Sequential(
            *(nn.Linear(math.prod(seen_shape) + conditioned, _HIDDEN), nn.LayerNorm(_HIDDEN), nn.ReLU()),
            *(nn.Linear(_HIDDEN, _HIDDEN), nn.LayerNorm(_HIDDEN), nn.ReLU()),
        )
        self.last = nn.Linear(_HIDDEN, math.prod(self.grid))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, seen: Tensor, base: Tensor, level: Tensor | None) -> Tensor:
        """``(n, p)``."""
        flat = seen.flatten(1) if level is None else torch.cat([seen.flatten(1), level], dim=1)
        found: Tensor = self.last(self.body(flat))
        if self.grid == self.image_shape:
            return found
        coarse = found.reshape(-1, *self.grid)
        return interpolate(coarse, size=self.image_shape[1:], mode="bilinear", align_corners=False).flatten(1)


class MapCorrection(nn.Module):
    """Convolutions, for features with places: residual blocks on up to 24 a side, two layers where pixels are."""

    def __init__(
        self, seen_shape: Sequence[int], image_shape: tuple[int, int, int], *, conditioned: bool
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        channels, side = seen_shape[0] + conditioned, max(seen_shape[1:])
        stride = 2 ** max(0, math.ceil(math.log2(side / _SIDE)))
        self.enter = nn.Conv2d(
            channels, _CHANNELS, max(3, 2 * stride - 1), stride=stride, padding=max(1, stride - 1)
        )
        self.blocks = nn.ModuleList(_Residual(_CHANNELS) for _ in range(3))
        # what is fine goes around the blocks
        self.around = nn.Conv2d(channels, _CHANNELS // 2, 1)
        self.meet = nn.Conv2d(_CHANNELS + _CHANNELS // 2 + image_shape[0], _CHANNELS // 2, 3, padding=1)
        self.last = nn.Conv2d(_CHANNELS // 2, image_shape[0], 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, seen: Tensor, base: Tensor, level: Tensor | None) -> Tensor:
        """``(n, p)``."""
        if level is not None:
            plane = level[:, :, None, None].expand(-1, 1, *seen.shape[2:])
            seen = torch.cat([seen, plane], dim=1)
        maps = self.enter(seen).relu()
        for block in self.blocks:
            maps = block(maps)
        image = base.to(maps.dtype).reshape(-1, *self.image_shape)
        parts = [self._large(maps), self._large(self.around(seen)), image]
        correction: Tensor = self.last(self.meet(torch.cat(parts, dim=1)).relu()).flatten(1)
        return correction

    def _large(self, maps: Tensor) -> Tensor:
        if maps.shape[2:] == self.image_shape[1:]:
            return maps
        return interpolate(maps, size=self.image_shape[1:], mode="bilinear", align_corners=False)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)),
            *(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)),
        )

    def forward(self, maps: Tensor) -> Tensor:
        found: Tensor = maps + self.layers(maps)
        return found
