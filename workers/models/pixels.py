"""From uint8 pixels to what a network sees."""

from torch import Tensor
from torch.nn.functional import interpolate


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Subtract the mean and divide by the standard deviation, both ``(channels, 1, 1)`` for pixels 0..1."""
    return (images.to(mean) / 255 - mean) / std


def upsample(x: Tensor, side: int | None) -> Tensor:
    """Resample ``(n, channels, height, width)`` to a square by bilinear interpolation; None leaves it alone."""
    if side is None:
        return x
    return interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
