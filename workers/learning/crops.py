"""Copies of images that differ a little: cropped and mirrored at random, drawn from torch's generator."""

from typing import NamedTuple

import torch
from torch import Tensor


class Crops(NamedTuple):
    """What is drawn for the copies of images, ``(images, copies)`` each.

    Attributes:
        down: Pixels by which a copy's window lies below the image's, from -padding to padding.
        right: Likewise.
        mirrored: Whether it is mirrored, left to right.
    """

    down: Tensor
    right: Tensor
    mirrored: Tensor


def draw_crops(images: int, copies: int, *, padding: int, flip: bool) -> Crops:
    """Draw the crops of a batch."""
    down, right = (torch.randint(-padding, padding + 1, (images, copies)) for _ in range(2))
    mirrored = torch.rand(images, copies) < (0.5 if flip else 0.0)
    return Crops(down, right, mirrored)


def cropped(images: Tensor, crops: Crops) -> Tensor:
    """Copies of images side by side, ``(images * copies, channels, height, width)``, of ``(images, channels, ...)``.

    What a window sees beyond an edge is the image mirrored there; ``padding`` has to be less than the sides.
    """
    height, width = images.shape[-2:]
    down, right, mirrored = (drawn.flatten()[:, None] for drawn in crops)
    columns = torch.arange(width).expand(len(right), width)
    columns = _inside(torch.where(mirrored, columns.flip(1), columns) + right, width)
    rows = _inside(torch.arange(height) + down, height)
    copies = torch.arange(len(images)).repeat_interleave(crops.down.shape[1])
    channels = torch.arange(images.shape[1])
    return images[
        copies[:, None, None, None],
        channels[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def _inside(places: Tensor, side: int) -> Tensor:
    """Reflect places at both edges, which are not repeated."""
    return (side - 1) - ((side - 1) - places.abs()).abs()
