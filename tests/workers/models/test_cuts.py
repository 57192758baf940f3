"""A network in two halves computes what the network computes, wherever it is cut, and only real cuts are taken."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models import ModelConfig, SplitModel, check_cut, input_transform, load_model
from hushsweep.workers.models.cuts import HookCut
from hushsweep.workers.models.graphs import GraphCut

CLASSES = 7
ARCHITECTURES = [  # name, side, shape of the natural features, whether the head is affine
    ("torchvision/alexnet", 64, (256, 1, 1), False),
    ("torchvision/convnext_tiny", 64, (768, 2, 2), False),
    ("torchvision/densenet121", 64, (1024, 2, 2), True),
    ("torchvision/efficientnet_b0", 64, (1280, 2, 2), True),
    ("torchvision/googlenet", 64, (1024, 2, 2), True),
    ("torchvision/inception_v3", 96, (2048, 1, 1), True),
    ("torchvision/mnasnet0_5", 64, (1280, 2, 2), True),
    ("torchvision/mobilenet_v2", 64, (1280, 2, 2), True),
    ("torchvision/mobilenet_v3_small", 64, (576, 2, 2), False),
    ("torchvision/regnet_y_400mf", 64, (440, 2, 2), True),
    ("torchvision/resnet18", 64, (512, 2, 2), True),
    ("torchvision/shufflenet_v2_x0_5", 64, (1024, 2, 2), True),
    ("torchvision/squeezenet1_1", 64, (512, 3, 3), False),
    ("torchvision/swin_t", 64, (2, 2, 768), False),
    ("torchvision/swin_v2_t", 64, (2, 2, 768), False),
    ("torchvision/vit_b_32", 64, (5, 768), True),
    ("timm/convnext_atto", 64, (320, 2, 2), False),
    ("timm/densenet121", 64, (1024, 2, 2), True),
    ("timm/maxvit_rmlp_pico_rw_256", 64, (256, 2, 2), True),
    ("timm/mixer_s32_224", 64, (4, 512), True),
    ("timm/mobilenetv3_small_050", 64, (288, 2, 2), False),
    ("timm/poolformer_s12", 64, (512, 2, 2), False),
    ("timm/regnety_002", 64, (368, 2, 2), True),
    ("timm/resnet18", 64, (512, 2, 2), True),
    ("timm/swin_tiny_patch4_window7_224", 64, (2, 2, 768), False),
    ("timm/swinv2_tiny_window8_256", 64, (2, 2, 768), False),
    ("timm/vit_tiny_patch16_224", 64, (17, 192), True),
    ("timm/xcit_nano_12_p16_224", 64, (17, 128), True),
]


def reference(name: str, side: int) -> nn.Module:
    """The network as its own library builds it."""
    source, short = name.split("/")
    if source == "timm":
        sized = {"img_size": side} if timm.get_pretrained_cfg(short).fixed_input_size else {}
        return timm.create_model(short, num_classes=CLASSES, **sized)
    sized = {"image_size": side} if short.startswith("vit") else {}
    return torchvision.models.get_model(short, num_classes=CLASSES, **sized)


@pytest.fixture
def load(info_of):
    def loaded(name: str, cut: str, side: int, *, size: int | None = None, **config) -> SplitModel:
        info = info_of(classes=CLASSES)
        weights = "train" if "state_dict" in config else "random"
        state = config.pop("state_dict", None)
        model = ModelConfig(name=name, weights=weights, network_size=side, **config)
        transform = input_transform(model, info, input_size=size or side)
        return load_model(model, cut, info=info, transform=transform, state_dict=state)

    return loaded


@pytest.mark.parametrize(
    ("name", "side", "shape", "linear"), ARCHITECTURES, ids=[a[0] for a in ARCHITECTURES]
)
def test_halves_equal_the_whole_at_the_natural_cut(name, side, shape, linear, load, enliven):
    network = enliven(reference(name, side), 1)
    model = load(name, "features", side, state_dict=network.state_dict())
    x = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = network(x)
        features = model.features(x)
        kept = features.clone()
        logits = model.head(features)
    assert expected.std() > 1e-3  # the comparison would mean nothing between constants
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert torch.equal(features, kept)
    assert (model.feature_shape, model.num_classes, model.head_is_linear) == (shape, CLASSES, linear)

    # Forward and reverse mode agree on <u, J v>, and so do vmap and a batch.
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    u = torch.randn(features.shape, generator=torch.Generator().manual_seed(4))
    _, pushed = torch.func.jvp(model.features, (x,), (v,))
    (pulled,) = torch.func.vjp(model.features, x)[1](u)
    assert (u * pushed).sum().item() == pytest.approx((v * pulled).sum().item(), rel=1e-2, abs=1e-3)
    each = torch.func.vmap(lambda image: model.features(image[None])[0])(x)
    torch.testing.assert_close(each, features, rtol=0, atol=1e-4 * features.abs().max().item())


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("torchvision/resnet18", (512, 7, 7)),
        ("timm/resnet18", (512, 7, 7)),
        ("torchvision/swin_t", (7, 7, 768)),
        ("timm/swin_tiny_patch4_window7_224.ms_in1k", (7, 7, 768)),
    ],
)
def test_paper_networks_have_the_papers_features(name, shape, info_of):
    info = info_of(classes=1000)
    config = ModelConfig(name=name, weights="random")
    transform = input_transform(config, info, input_size=91)
    model = load_model(config, "features", info=info, transform=transform)
    assert (model.input_shape, model.feature_shape) == ((3, 91, 91), shape)


def test_timm_and_torchvision_swin_have_the_same_features(load, enliven):
    """Equal weights under the two libraries' names give equal tensors at the two natural cuts."""
    ours = timm.create_model("swin_tiny_patch4_window7_224", num_classes=CLASSES)
    theirs = torchvision.models.swin_t(num_classes=CLASSES)
    enliven(ours, 5)
    state = {}
    for key, value in ours.state_dict().items():
        stage, _, rest = key.removeprefix("layers.").partition(".")
        new = key.replace("patch_embed.proj", "features.0.0").replace("patch_embed.norm", "features.0.2")
        new = new.replace("head.fc", "head")
        if key.startswith("layers."):
            if rest.startswith("downsample"):
                new = f"features.{2 * int(stage)}.{rest.removeprefix('downsample.')}"
            else:
                new = f"features.{2 * int(stage) + 1}.{rest.removeprefix('blocks.')}"
            new = new.replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3")
        state[new] = value
    for key, value in theirs.state_dict().items():
        if key.endswith("relative_position_index"):
            state[key] = value
    theirs.load_state_dict(state)
    a = load("timm/swin_tiny_patch4_window7_224", "features", 224, state_dict=ours.state_dict())
    b = load("torchvision/swin_t", "features", 224, state_dict=theirs.state_dict())
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(a.features(x), b.features(x), rtol=1e-4, atol=1e-4)


def test_upsampling_happens_inside_the_model(load):
    model, plain = (
        load("torchvision/resnet18", "features", 64, size=26),
        load("torchvision/resnet18", "features", 64),
    )
    assert (model.input_shape, plain.input_shape) == ((3, 26, 26), (3, 64, 64))
    x = torch.randn(2, 3, 26, 26)
    large = nn.functional.interpolate(x, size=(64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(model.features(x), plain.features(large))


def test_double_is_a_float64_copy(load):
    model = load("torchvision/resnet18", "features", 64)
    exact = model.double()
    images = torch.randint(
        0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(7)
    )
    assert (model.dtype, exact.dtype) == (torch.float32, torch.float64)
    x = exact.normalise(images)
    assert x.dtype == torch.float64
    assert exact.head(exact.features(x)).dtype == torch.float64
    torch.testing.assert_close(
        exact.features(x).float(), model.features(model.normalise(images)), rtol=1e-4, atol=1e-4
    )
    assert not any(weight.requires_grad for weight in exact._cut.parameters())


def test_normalise_is_the_published_one(load):
    model = load("torchvision/resnet18", "features", 64)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    expected = torchvision.transforms.functional.normalize(
        images.float() / 255, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
    )
    torch.testing.assert_close(model.normalise(images), expected)


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("torchvision/resnet18", "conv1"),
        ("torchvision/resnet18", "bn1"),  # an in-place ReLU follows
        ("torchvision/resnet18", "relu"),
        ("torchvision/resnet18", "layer1"),
        ("torchvision/resnet18", "layer2.0"),
        ("torchvision/resnet18", "fc"),
        ("torchvision/vgg11", "features.0"),  # an in-place ReLU follows
        ("torchvision/vit_b_32", "encoder.layers.encoder_layer_3"),
        ("torchvision/swin_t", "features.3"),
        ("timm/vit_tiny_patch16_224", "blocks.5"),
        ("timm/swin_tiny_patch4_window7_224", "layers.1"),
        ("timm/resnet18", "layer3.1"),
        ("cifar10_cnn", "layers.0"),
    ],
)
def test_any_module_that_is_a_cut(name, cut, load):
    side = 32 if name == "cifar10_cnn" else 64
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(8))
    model = load(name, cut, side)
    whole = load(name, "features", side)
    features = model.features(x)
    kept = features.clone()
    torch.testing.assert_close(model.head(features), whole.head(whole.features(x)), rtol=1e-4, atol=1e-6)
    assert torch.equal(features, kept)
    assert isinstance(model._cut, GraphCut)
    # The head holds no module that belongs to the prefix alone: it cannot run the prefix.
    first = next(path for path, module in model._cut.prefix.named_modules() if isinstance(module, nn.Conv2d))
    assert first not in dict(model._cut.suffix.named_modules())


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("torchvision/resnet18", "layer1.0.conv1"),
        ("torchvision/resnet18", "layer2.0.downsample"),
        ("torchvision/swin_t", "features.3.0.attn"),
        ("torchvision/densenet121", "features.denseblock1.denselayer1"),
        ("timm/vit_tiny_patch16_224", "blocks.2.mlp"),
        ("timm/resnet18", "layer1.0.bn2"),  # a fresh network scales this branch by 0
        ("timm/resnet18", "layer2.0.downsample"),
    ],
)
def test_a_place_inside_a_skip_connection_is_refused(name, cut, info_of):
    info = info_of(classes=CLASSES)
    config = ModelConfig(name=name, weights="random", network_size=64)
    transform = input_transform(config, info, input_size=64)
    with pytest.raises(PlugInError, match=rf"cut '{cut}' .*skip connection.*choose the block"):
        check_cut(config, cut, info=info, transform=transform)
    check_cut(config, "features", info=info, transform=transform)


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ("layer5", r"unknown cut of torchvision/resnet18 'layer5'; did you mean 'layer4'"),
        ("layer1.0.relu", r"runs 2 times per image"),
        ("", r"unknown cut of torchvision/resnet18 ''"),
    ],
)
def test_a_cut_that_is_no_place_is_refused(cut, message, info_of):
    info = info_of(classes=CLASSES)
    config = ModelConfig(name="torchvision/resnet18", weights="random")
    with pytest.raises(PlugInError, match=message):
        check_cut(config, cut, info=info, transform=input_transform(config, info, input_size=64))


def test_a_size_that_the_network_cannot_take_is_said_before_anything_runs(info_of):
    info = info_of(classes=CLASSES)
    config = ModelConfig(name="torchvision/alexnet", weights="random", network_size=16)
    with pytest.raises(PlugInError, match=r"'torchvision/alexnet' fails on input 3x16x16: .*input_size"):
        check_cut(config, "features", info=info, transform=input_transform(config, info, input_size=16))


class Branching(nn.Module):
    """Cannot be traced; has a skip connection and an in-place ReLU behind the cut."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Linear(8, num_classes)

    def forward(self, x):
        a = nn.functional.relu(self.first(x), inplace=True)
        if a.mean() > 1e9:  # a branch on values
            return self.last(a.mean((2, 3)))
        b = nn.functional.relu(self.second(a), inplace=True)
        return self.last((b + self.third(b)).mean((2, 3)))


def test_a_network_that_cannot_be_traced_is_cut_by_a_hook(info_of):
    info = info_of(classes=CLASSES, side=16)
    config = ModelConfig(name=f"{__name__}:Branching", weights="random", seed=3)
    transform = input_transform(config, info, input_size=None)
    model = load_model(config, "second", info=info, transform=transform)
    assert isinstance(model._cut, HookCut)
    torch.manual_seed(3)
    network = Branching(num_classes=CLASSES, in_channels=3)
    x = torch.randn(3, 3, 16, 16)
    features = model.features(x)
    torch.testing.assert_close(features, network.second(network.first(x).relu()))
    assert features.min() < 0  # as it was before the in-place ReLU
    torch.testing.assert_close(model.head(features), network(x))
    assert features.min() < 0
    for cut, message in [("third", "skip connection"), ("features", "no cut 'features'")]:
        with pytest.raises(PlugInError, match=message):
            check_cut(config, cut, info=info, transform=transform)


class Lying(nn.Module):
    """Its forward does more than its two halves."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(in_channels, num_classes, 3)

    def forward_features(self, x):
        return self.layer(x)

    def forward_head(self, a):
        return a.mean((2, 3))

    def forward(self, x):
        return self.forward_head(self.forward_features(x)) + 1


class Pooling(nn.Module):
    """Traceable, with a global pooling, without the two methods."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(in_channels, num_classes, 3)

    def forward(self, x):
        return self.layer(x).mean((2, 3))


def test_a_plug_ins_natural_cut(info_of):
    info = info_of(classes=CLASSES, side=16)
    lying, pooling = (
        ModelConfig(name=f"{__name__}:{name}", weights="random") for name in ("Lying", "Pooling")
    )
    transform = input_transform(lying, info, input_size=None)
    with pytest.raises(PlugInError, match="differs from the model's output"):
        check_cut(lying, "features", info=info, transform=transform)
    assert load_model(pooling, "features", info=info, transform=transform).feature_shape == (CLASSES, 14, 14)


@pytest.mark.parametrize(
    ("name", "channels", "side", "parameters"),
    [("mnist_mlp", 1, 28, 1_238_730), ("cifar10_cnn", 3, 32, 38_606_730), ("digits_mlp", 1, 8, 26_122)],
)
def test_our_own_networks_have_the_published_sizes(name, channels, side, parameters, info_of):
    info = info_of(channels=channels, side=side, classes=10)
    config = ModelConfig(name=name, weights="random")
    model = load_model(
        config, "features", info=info, transform=input_transform(config, info, input_size=None)
    )
    assert sum(weight.numel() for weight in model._cut.parameters()) == parameters
    assert model.head_is_linear
    features = model.features(torch.randn(2, channels, side, side))
    assert features.min() == 0  # after the last ReLU


def test_greyscale_into_a_colour_network_sums_its_first_weights(info_of):
    grey_info, colour_info = info_of(channels=1, side=64), info_of(channels=3, side=64)
    for name in ("torchvision/resnet18", "timm/resnet18"):
        grey = ModelConfig(name=name, weights="random", in_channels=1, network_size=64)
        transform = input_transform(grey, grey_info, input_size=64)
        assert transform.geometry.channels == 1
        assert transform.mean == (pytest.approx((0.485 + 0.456 + 0.406) / 3),)
        model = load_model(grey, "features", info=grey_info, transform=transform)
        assert model.input_shape == (1, 64, 64)
        assert model.features(torch.randn(2, 1, 64, 64)).shape == (2, 512, 2, 2)
    colour = ModelConfig(name="torchvision/resnet18", weights="random", network_size=64)
    wide = load_model(
        colour, "features", info=colour_info, transform=input_transform(colour, colour_info, input_size=64)
    )
    narrow = load_model(
        ModelConfig(name="torchvision/resnet18", weights="random", in_channels=1, network_size=64),
        "features",
        info=grey_info,
        transform=transform,
    )
    x = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(
        narrow.features(x), wide.features(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4
    )
