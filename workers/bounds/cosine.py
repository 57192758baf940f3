"""Orthonormal DCT-II over the last two axes, as two small matrix products."""

import math
from functools import lru_cache

import torch
from torch import Tensor


def dct(images: Tensor) -> Tensor:
    """Transform images to their DCT-II modes, orthonormal, per channel (``scipy.fft.dctn(..., norm="ortho")``).

    Args:
        images: ``(..., height, width)``.

    Returns:
        ``(..., height, width)`` float64; entry (0, 0) is the lowest frequency, the unit is unchanged.
    """
    images = images.double()
    rows, columns = (_dct_matrix(size, images.device) for size in images.shape[-2:])
    return rows @ images @ columns.T


def idct(modes: Tensor) -> Tensor:
    """Invert `dct`: ``(..., height, width)`` modes to ``(..., height, width)`` float64 images."""
    modes = modes.double()
    rows, columns = (_dct_matrix(size, modes.device) for size in modes.shape[-2:])
    return rows.T @ modes @ columns


@lru_cache(maxsize=8)
def _dct_matrix(size: int, device: torch.device) -> Tensor:
    frequency = torch.arange(size, dtype=torch.float64, device=device)[:, None]
    position = torch.arange(size, dtype=torch.float64, device=device)[None, :]
    matrix = torch.cos(math.pi / size * (position + 0.5) * frequency) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix
