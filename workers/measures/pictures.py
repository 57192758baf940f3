"""Images as rows of the table of pictures."""

from typing import Any

import torch
from torch import Tensor


def picture(kind: str, levels: Tensor, bound: str | None = None) -> dict[str, Any]:
    """Make a row of the table of pictures, but for its ids.

    Args:
        kind: What is shown.
        levels: ``(channels, height, width)`` grey levels, rounded and clipped to 0..255.
        bound: By which the image was moved, if one did.
    """
    grey = levels.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    channels, height, width = grey.shape
    return {
        "kind": kind,
        "bound": bound,
        "channels": channels,
        "height": height,
        "width": width,
        "pixels": grey.tobytes(),
    }
