"""One encoded image to 8-bit pixels."""

import contextlib
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from hushsweep.datasets.images.geometry import Geometry

# Part of the cache's key: raise it whenever a decoded pixel changes. Pillow's version is in the key beside it.
DECODER_VERSION = 1


def decode(content: bytes | NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Decode one image upright, in the geometry's colours and size.

    Args:
        content: An encoded file, or pixels ``(height, width)`` or ``(height, width, 3)`` uint8.
        geometry: Colours, resize and crop.

    Returns:
        ``(channels, height, width)`` uint8.

    Raises:
        Exception: whatever Pillow raises on damaged files (OSError, SyntaxError, struct.error, ...).
    """
    if isinstance(content, np.ndarray):
        image = Image.fromarray(content)
    else:
        if not content:
            raise ValueError("the file is empty")
        image = Image.open(io.BytesIO(content))
        image.load()
        # A damaged EXIF block must not cost the image, whose pixels are whole: then it counts as upright.
        with contextlib.suppress(Exception):
            ImageOps.exif_transpose(image, in_place=True)
    pixels = np.asarray(geometry.apply(_convert(image, geometry.channels)))
    return pixels[None] if geometry.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _convert(image: Image.Image, channels: int) -> Image.Image:
    """To L or RGB as torchvision's loader does (transparency dropped, no colour management), 16 bits to the high 8."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # Pillow's own conversion to L clips at 255 instead of scaling; for 16-bit RGB it already keeps the high byte.
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} (32 bits) have no agreed black and white")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if channels == 1 and image.mode in ("1", "L", "LA", "La"):
        return image.convert("L")
    image = image.convert("RGB")
    return image if channels == 3 else image.convert("L")
