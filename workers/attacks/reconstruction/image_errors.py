"""How far a reconstruction is from the image: squared error, PSNR and SSIM of every image."""

from typing import NamedTuple

import torch
from torch import Tensor

_MOST = 100.0
_WINDOW = 11
"""Side of SSIM's Gaussian window (Wang et al. 2004); an image has to be as large."""


class ImageErrors(NamedTuple):
    """Of ``n`` images, each ``(n,)`` float64."""

    mse: Tensor
    """Mean over entries of the squared error, normalised pixels^2."""
    mse_grey: Tensor
    """The same in grey levels^2, 0..255."""
    psnr: Tensor
    """10 log10(255^2 / mse_grey), dB, at most 100."""
    ssim: Tensor | None
    """Structural similarity, -1 to 1, mean over channels; None for images smaller than its window of 11 pixels."""


def image_errors(found: Tensor, truth: Tensor, *, mean: Tensor, std: Tensor) -> ImageErrors:
    """Compare reconstructions with images.

    PSNR stops at 100 dB, where nothing differs but rounding.

    Args:
        found: ``(n, channels, height, width)``, normalised units.
        truth: the same of the images.
        mean: ``(channels, 1, 1)`` by which pixels 0..1 were normalised.
        std: likewise.

    Raises:
        ValueError: the shapes differ.
    """
    if found.shape != truth.shape:
        raise ValueError(
            f"found: expected the shape of truth, {tuple(truth.shape)}, got {tuple(found.shape)}"
        )
    difference = (found - truth).double()
    mse_grey = (255 * difference * std).square().flatten(1).mean(1)
    return ImageErrors(
        difference.square().flatten(1).mean(1),
        mse_grey,
        (10 * torch.log10(255**2 / mse_grey)).clamp(max=_MOST),
        _ssim(found.double() * std + mean, truth.double() * std + mean),
    )


def _ssim(found: Tensor, truth: Tensor) -> Tensor | None:
    """Similarity of images with pixels 0..1."""
    if min(truth.shape[2:]) < _WINDOW:
        return None
    from torchmetrics.functional.image import structural_similarity_index_measure

    similarity = structural_similarity_index_measure(found, truth, data_range=1.0, reduction="none")
    assert isinstance(similarity, Tensor)
    return similarity.reshape(len(truth))
