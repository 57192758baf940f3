import numpy as np
import pytest
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from hushsweep.datasets.images import DatasetError, Geometry

MODES = {
    "nearest": InterpolationMode.NEAREST,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "lanczos": InterpolationMode.LANCZOS,
}


def random_image(rng, channels):
    height, width = rng.integers(5, 130, 2)
    pixels = rng.integers(0, 256, (height, width, 3) if channels == 3 else (height, width), np.uint8)
    return Image.fromarray(pixels)


def random_size(rng):
    kind = rng.integers(4)
    if kind == 0:
        return None
    return int(rng.integers(1, 120)) if kind < 3 else tuple(int(side) for side in rng.integers(1, 120, 2))


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize("channels", [1, 3])
def test_equals_torchvision(interpolation, channels):
    rng = np.random.default_rng(channels)
    for _ in range(150):
        image, resize, crop = random_image(rng, channels), random_size(rng), random_size(rng)
        steps = [] if resize is None else [transforms.Resize(resize, MODES[interpolation])]
        steps += [] if crop is None else [transforms.CenterCrop(crop)]
        geometry = Geometry(channels=channels, resize=resize, crop=crop, interpolation=interpolation)
        expected = np.asarray(transforms.Compose(steps)(image))
        found = np.asarray(geometry.apply(image))
        np.testing.assert_array_equal(found, expected, err_msg=f"{image.size} {geometry}")


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (224, 224), (68, 121), (2400, 1632), (226, 225)])
@pytest.mark.parametrize(("resize", "crop", "interpolation"), [(256, 224, "bilinear"), (104, 91, "bicubic")])
def test_equals_torchvision_at_the_sizes_of_imagenet(size, resize, crop, interpolation):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    theirs = transforms.Compose(
        [transforms.Resize(resize, MODES[interpolation]), transforms.CenterCrop(crop)]
    )
    ours = Geometry(channels=3, resize=resize, crop=crop, interpolation=interpolation)
    np.testing.assert_array_equal(np.asarray(ours.apply(image)), np.asarray(theirs(image)))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"channels": 2}, "channels"),
        ({"channels": 3, "resize": 0}, "resize"),
        ({"channels": 3, "crop": (4, -1)}, "crop"),
        ({"channels": 3, "resize": (1, 2, 3)}, "resize"),
        ({"channels": 3, "crop": 4.5}, "crop"),
        ({"channels": 3, "interpolation": "cubic"}, "bicubic"),
    ],
)
def test_refuses_what_is_no_geometry(fields, named):
    with pytest.raises(DatasetError, match=named):
        Geometry(**fields)
