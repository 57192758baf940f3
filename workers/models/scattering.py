"""A wavelet scattering transform: features of images that nothing is learned for, and a linear classifier of them."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models.convolutional import HiddenAndClassifier

_ANGLES = 8
_STRIDE = 4
_AT_ONCE = 4  # images: each takes 2.5 MB on the way, which ought to stay in a cache
COEFFICIENTS = 1 + 2 * _ANGLES + _ANGLES**2
"""Per channel and place: the mean, 16 of first order and 64 of second."""


class Scattering(nn.Module):
    """Scattering coefficients of two orders (Bruna and Mallat 2013, arXiv:1203.1513), 2 scales, 8 angles.

    With * a convolution, phi a Gaussian and psi_jt the Morlet wavelet of scale 2^j at the angle t: x * phi,
    |x * psi_jt| * phi, and ||x * psi_0t| * psi_1u| * phi, at every fourth pixel. Nothing in it is learned.

    Args:
        side: of the square images, pixels; a multiple of 4.
    """

    low_pass: Tensor
    wavelets: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        if side % _STRIDE or side < 2 * _STRIDE:
            raise PlugInError(
                f"model 'scattering': expected images whose side is a multiple of {_STRIDE} and at least "
                f"{2 * _STRIDE}, got {side}; give input_size"
            )
        self.border = nn.ReflectionPad2d(_STRIDE)
        size = side + 2 * _STRIDE
        self.register_buffer("low_pass", _spectrum(_gabor(size, 1.6, 0.0, 0.0, 1.0)))
        bank = [
            [_spectrum(_morlet(size, scale, angle * math.pi / _ANGLES)) for angle in range(_ANGLES)]
            for scale in (0, 1)
        ]
        self.register_buffer("wavelets", torch.stack([torch.stack(filters) for filters in bank]))

    def forward(self, x: Tensor) -> Tensor:
        """``(n, channels, side, side)`` to ``(n, 81 channels, side / 4, side / 4)``."""
        x = x.to(self.low_pass.dtype)
        return torch.cat([self._scattered(images) for images in torch.split(x, _AT_ONCE)])

    def _scattered(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.fft2(self.border(x.contiguous()))[:, :, None]
        fine, coarse = (self._moduli(spectrum, scale) for scale in (0, 1))
        second = self._moduli(fine[:, :, :, None], 1).flatten(2, 3)
        parts = [self._averaged(values) for values in (spectrum, fine, coarse, second)]
        return torch.cat(parts, dim=2).flatten(1, 2)

    def _moduli(self, spectrum: Tensor, scale: int) -> Tensor:
        """Spectra of the moduli at all angles, ``(..., 1, h, w)`` to ``(..., 8, h / 2^scale, w / 2^scale)``."""
        waves = torch.fft.ifft2(_folded(spectrum * self.wavelets[scale], 2**scale))
        spectra: Tensor = torch.fft.fft2(waves.abs())
        return spectra

    def _averaged(self, spectrum: Tensor) -> Tensor:
        """Local means at every fourth pixel of the image, without its border: ``(n, channels, k, h, w)``."""
        size, whole = spectrum.shape[-1], self.low_pass.shape[-1]
        smooth = spectrum * _lowest(self.low_pass, size)
        means: Tensor = torch.fft.ifft2(_folded(smooth, _STRIDE * size // whole)).real
        return means[..., 1:-1, 1:-1]


class ScatteringLinear(HiddenAndClassifier):
    """Scattering coefficients, normalised per image in 27 groups of 9 (for 3 channels), and a linear classifier.

    arXiv:2011.11660 trains it with DP-SGD: the features are nobody's secret, and there is little to clip.
    """

    def __init__(self, *, in_channels: int, num_classes: int, side: int) -> None:
        channels = COEFFICIENTS * in_channels
        layers = nn.Sequential(
            Scattering(side), nn.GroupNorm(channels // 9, channels, affine=False), nn.Flatten()
        )
        hidden = channels * (side // _STRIDE) ** 2
        super().__init__(layers, hidden=hidden, num_classes=num_classes)


def _folded(spectrum: Tensor, factor: int) -> Tensor:
    """Spectrum of what is left when only every factor-th sample is kept: its aliases lie on each other."""
    for dimension in (-1, -2):
        # slices: ten times as fast as a sum over a new dimension
        first, *others = spectrum.chunk(factor, dimension)
        spectrum = sum(others, first) / factor
    return spectrum


def _lowest(spectrum: Tensor, size: int) -> Tensor:
    """The part of a filter's spectrum that is left at a lower resolution."""
    half = size // 2
    kept = torch.cat([spectrum[:half], spectrum[-half:]])
    return torch.cat([kept[:, :half], kept[:, -half:]], dim=1)


def _spectrum(kernel: NDArray[np.complex128]) -> Tensor:
    """Of a filter with its centre in the corner; real, as the filter is its own mirrored conjugate."""
    return torch.from_numpy(np.fft.fft2(kernel).real.astype(np.float32))


def _morlet(size: int, scale: int, angle: float) -> NDArray[np.complex128]:
    """A wave of 3 pi / 4 radians per pixel at the smallest scale under a Gaussian, its mean taken off."""
    width, frequency, slant = 0.8 * 2**scale, 0.75 * math.pi / 2**scale, 4 / _ANGLES
    wave, envelope = (_gabor(size, width, angle, f, slant) for f in (frequency, 0.0))
    morlet: NDArray[np.complex128] = wave - wave.sum() / envelope.sum() * envelope
    return morlet


def _gabor(size: int, width: float, angle: float, frequency: float, slant: float) -> NDArray[np.complex128]:
    """A periodic Gaussian of standard deviation ``width`` along the wave and ``width / slant`` across it."""
    reach = np.arange(-2 * size, 3 * size)
    down, right = np.meshgrid(reach, reach, indexing="ij")
    along = down * math.cos(angle) + right * math.sin(angle)
    across = right * math.cos(angle) - down * math.sin(angle)
    gabor = np.exp(-(along**2 + (slant * across) ** 2) / (2 * width**2) + 1j * frequency * along)
    gabor *= slant / (2 * math.pi * width**2)
    tiles: NDArray[np.complex128] = gabor.reshape(5, size, 5, size).sum((0, 2))
    return tiles
