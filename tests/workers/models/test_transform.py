"""The input transform is the published one, or the paper's small version of it."""

import pytest
import timm
from timm.data import resolve_model_data_config
from torchvision import models

from hushsweep.datasets.images import Geometry
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models import InputTransform, ModelConfig, input_transform

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def transform_of(info, name, weights="random", input_size=None, **config):
    return input_transform(ModelConfig(name=name, weights=weights, **config), info, input_size=input_size)


@pytest.mark.parametrize(
    ("short", "weights"),
    [
        ("resnet50", "IMAGENET1K_V1"),
        ("resnet50", "IMAGENET1K_V2"),
        ("resnet50", "pretrained"),
        ("resnet50", "random"),
        ("swin_v2_t", "pretrained"),
        ("efficientnet_b3", "random"),
        ("vit_l_16", "IMAGENET1K_SWAG_E2E_V1"),
        ("inception_v3", "prototype"),
    ],
)
def test_torchvisions_own(short, weights, info_of):
    enum = models.get_model_weights(short)
    published = enum.__members__.get(weights, enum.DEFAULT).transforms()
    got = transform_of(info_of(), f"torchvision/{short}", weights)
    assert got.geometry == Geometry(
        channels=3,
        resize=published.resize_size[0],
        crop=published.crop_size[0],
        interpolation=published.interpolation.value,
    )
    assert (got.mean, got.std, got.network_size) == (tuple(published.mean), tuple(published.std), None)


@pytest.mark.parametrize(
    "short", ["resnet18.a1_in1k", "swin_tiny_patch4_window7_224", "beit_base_patch16_224"]
)
def test_timms_own(short, info_of):
    data = resolve_model_data_config(timm.create_model(short))
    got = transform_of(info_of(), f"timm/{short}")
    side = data["input_size"][-1]
    assert (got.geometry.crop, got.geometry.interpolation) == (side, data["interpolation"])
    assert got.geometry.resize == int(side / data["crop_pct"])
    assert (got.mean, got.std, got.network_size) == (data["mean"], data["std"], None)


def test_timms_squash(info_of):
    """A crop mode that ignores the aspect ratio becomes a resize to (height, width)."""
    got = transform_of(info_of(), "timm/coat_lite_medium_384.in1k")
    assert (got.geometry.resize, got.geometry.crop) == ((384, 384), 384)
    assert transform_of(info_of(), "timm/coat_lite_medium_384.in1k", input_size=96).geometry.resize == (
        96,
        96,
    )


@pytest.mark.parametrize(
    ("name", "resize", "interpolation"),
    [("torchvision/resnet18", 104, "bilinear"), ("torchvision/swin_t", 94, "bicubic")],
)
def test_the_papers_91_pixels(name, resize, interpolation, info_of):
    got = transform_of(info_of(), name, "IMAGENET1K_V1", input_size=91)
    geometry = Geometry(channels=3, resize=resize, crop=91, interpolation=interpolation)
    assert got == InputTransform(geometry=geometry, mean=IMAGENET_MEAN, std=IMAGENET_STD, network_size=224)


def test_small_images_that_have_the_asked_size_stay_as_they_are(info_of):
    cifar = info_of(side=32)
    native = transform_of(cifar, "torchvision/resnet18", input_size=32, network_size=32)
    assert (native.geometry, native.network_size) == (Geometry(channels=3), None)
    enlarged = transform_of(cifar, "torchvision/resnet18", input_size=32)
    assert (enlarged.geometry, enlarged.network_size) == (Geometry(channels=3), 224)
    assert transform_of(cifar, "torchvision/resnet18").geometry.crop == 224


@pytest.mark.parametrize(
    ("name", "side", "expected"), [("mnist_mlp", 28, None), ("digits_mlp", 8, None), ("mnist_mlp", 8, 28)]
)
def test_our_own_networks_see_native_pixels_and_the_data_sets_normalisation(name, side, expected, info_of):
    info = info_of(channels=1, side=side, mean=(0.1307,), std=(0.3081,))
    got = transform_of(info, name)
    geometry = Geometry(channels=1, resize=expected, crop=expected)
    assert got == InputTransform(geometry=geometry, mean=(0.1307,), std=(0.3081,), network_size=None)
    unknown = transform_of(info_of(channels=3, side=side), name)
    assert (unknown.mean, unknown.std) == ((0.5,) * 3, (0.5,) * 3)


def test_greyscale_averages_the_published_normalisation(info_of):
    got = transform_of(info_of(channels=1, side=28), "torchvision/resnet18", in_channels=1)
    assert got.geometry.channels == 1
    assert (got.mean, got.std) == (
        (pytest.approx(sum(IMAGENET_MEAN) / 3),),
        (pytest.approx(sum(IMAGENET_STD) / 3),),
    )
    assert transform_of(info_of(channels=1, side=28), "torchvision/resnet18").geometry.channels == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"in_channels": 2}, r"in_channels: expected 1 .* or 3, got 2"),
        ({"network_size": 0}, r"network_size: expected a number of pixels >= 1, got 0"),
        ({"input_size": -1}, r"input_size: expected a number of pixels >= 1, got -1"),
    ],
)
def test_values_out_of_range(values, message, info_of):
    with pytest.raises(PlugInError, match=message):
        transform_of(info_of(), "torchvision/resnet18", **values)
