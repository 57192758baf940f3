"""The part of a model's transform that works on 8-bit pixels: colour, resize, crop."""

from dataclasses import dataclass

from PIL import Image

from hushsweep.datasets.images.base import DatasetError

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
Size = int | tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Resize, then crop; equal, byte for byte, to ``torchvision.transforms`` on PIL images.

    Attributes:
        channels: 1 (greyscale) or 3 (RGB).
        resize: Pixels of the shorter side, or (height, width) regardless of the aspect. None: as it is.
        crop: Side of the centre crop, or its (height, width); smaller images are padded with black.
            None: no crop.
        interpolation: nearest, bilinear, bicubic or lanczos, all antialiased as in PIL (but nearest).
    """

    channels: int
    resize: Size | None = None
    crop: Size | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise DatasetError(f"geometry: channels must be 1 or 3, got {self.channels!r}")
        if self.interpolation not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            raise DatasetError(f"geometry: unknown interpolation {self.interpolation!r}; known: {known}")
        for field in ("resize", "crop"):
            size = getattr(self, field)
            sides = size if isinstance(size, tuple) and len(size) == 2 else (size,)
            if size is not None and not all(type(side) is int and side >= 1 for side in sides):
                raise DatasetError(f"geometry: {field} must be pixels >= 1 or (height, width), got {size!r}")

    def apply(self, image: Image.Image) -> Image.Image:
        """Resize and crop an image of mode L or RGB."""
        if self.resize is not None:
            resized = _resized_size(image.size, self.resize)
            if resized != image.size:
                image = image.resize(resized, INTERPOLATIONS[self.interpolation])
        return image if self.crop is None else _centre_crop(image, self.crop)


def _resized_size(size: tuple[int, int], resize: Size) -> tuple[int, int]:
    """(width, height) after torchvision's Resize, whose long side is truncated, not rounded."""
    if isinstance(resize, tuple):
        return resize[1], resize[0]
    width, height = size
    if width <= height:
        return resize, int(resize * height / width)
    return int(resize * width / height), resize


def _centre_crop(image: Image.Image, crop: Size) -> Image.Image:
    """Torchvision's CenterCrop: pad the odd pixel right and below, round offsets half to even."""
    height, width = crop if isinstance(crop, tuple) else (crop, crop)
    if image.width < width or image.height < height:
        padded = Image.new(image.mode, (max(width, image.width), max(height, image.height)))
        padded.paste(image, (max(0, (width - image.width) // 2), max(0, (height - image.height) // 2)))
        image = padded
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
