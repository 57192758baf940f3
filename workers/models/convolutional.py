"""Our own convolutional networks: the servers of arXiv:2104.02261, and those that are trained with DP-SGD."""

from torch import Tensor, nn

from hushsweep.workers.errors import PlugInError


class HiddenAndClassifier(nn.Module):
    """Layers that give one vector per image, and a linear classifier of it."""

    def __init__(self, layers: nn.Sequential, *, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.layers = layers
        self.classifier = nn.Linear(hidden, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """What the classifier sees: ``(n, channels, height, width)`` to ``(n, hidden)``."""
        features: Tensor = self.layers(x)
        return features

    def forward_head(self, a: Tensor) -> Tensor:
        """Logits ``(n, num_classes)`` of features ``(n, hidden)``."""
        logits: Tensor = self.classifier(a)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        return self.forward_head(self.forward_features(x))


class Conv5(HiddenAndClassifier):
    """Five 3x3 convolutions with normalisation: "Conv-5" of arXiv:2104.02261, which leaves its widths open.

    2.57 M multiply-adds at 28x28x1, so that their mask network's 113 k are the 5 % that they report.
    """

    def __init__(self, *, in_channels: int, num_classes: int, groups: int | None = None) -> None:
        layers = nn.Sequential(
            *_convolution(in_channels, 16, groups),
            nn.MaxPool2d(2),
            *_convolution(16, 24, groups),
            nn.MaxPool2d(2),
            *_convolution(24, 48, groups),
            *_convolution(48, 48, groups),
            nn.MaxPool2d(2),
            *_convolution(48, 64, groups),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        super().__init__(layers, hidden=64, num_classes=num_classes)


class Conv6(HiddenAndClassifier):
    """The CIFAR-10 network that He, Zhang & Lee (ACSAC 2019) invert; its pooling halves the side three times.

    Their cuts conv11, ReLU22 and ReLU32 are ``layers.0``, ``layers.8`` and ``layers.13``.
    """

    def __init__(self, *, in_channels: int, num_classes: int, side: int) -> None:
        if side < 8:
            raise PlugInError(
                f"model 'conv6': expected images of at least 8x8, got {side}x{side}; give input_size"
            )
        layers, before = nn.Sequential(), in_channels
        for width in (64, 128, 128):
            layers.extend([nn.Conv2d(before, width, 3, padding=1), nn.ReLU()])
            layers.extend([nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)])
            before = width
        layers.extend([nn.Flatten(), nn.Linear(128 * (side // 8) ** 2, 512), nn.ReLU()])
        super().__init__(layers, hidden=512, num_classes=num_classes)


class WideResNet16(HiddenAndClassifier):
    """WRN-16-k of Zagoruyko and Komodakis (2016), arXiv:1605.07146, without dropout.

    For k = 4: 2.77 M parameters and 392.6 M multiply-adds at 32x32x3 with 100 classes.
    """

    def __init__(self, *, width: int, in_channels: int, num_classes: int, groups: int | None = None) -> None:
        widths = [16, 16 * width, 32 * width, 64 * width]
        layers = nn.Sequential(nn.Conv2d(in_channels, 16, 3, padding=1, bias=False))
        for stage in range(3):
            layers.append(_Block(widths[stage], widths[stage + 1], groups, stride=1 if stage == 0 else 2))
            layers.append(_Block(widths[stage + 1], widths[stage + 1], groups, stride=1))
        layers.extend([*_normalised(widths[3], groups), nn.AdaptiveAvgPool2d(1), nn.Flatten()])
        super().__init__(layers, hidden=widths[3], num_classes=num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


class Vgg19(HiddenAndClassifier):
    """The convolutions of VGG-19 (arXiv:1409.1556, configuration E) for small images, and one linear classifier.

    Its three fully connected layers go, as usual below 224x224. Pooling rounds up, so that five of them fit any side.
    """

    def __init__(self, *, in_channels: int, num_classes: int, groups: int | None = None) -> None:
        layers, before = nn.Sequential(), in_channels
        for convolutions, width in ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)):
            for _ in range(convolutions):
                layers.extend(_convolution(before, width, groups))
                before = width
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        layers.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten()])
        super().__init__(layers, hidden=before, num_classes=num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class TanhCnn(HiddenAndClassifier):
    """The networks that arXiv:2011.11660 trains with DP-SGD, with tanh as arXiv:2007.14191 found best for that."""

    def __init__(self, *, in_channels: int, num_classes: int, side: int) -> None:
        if side == 28:
            layers, hidden = _tanh_28(in_channels), 32
        elif side == 32:
            layers, hidden = _tanh_32(in_channels), 128
        else:
            raise PlugInError(
                f"model 'tanh_cnn': expected images of 28x28 or 32x32, got {side}x{side}; give input_size"
            )
        super().__init__(layers, hidden=hidden, num_classes=num_classes)


def _tanh_28(in_channels: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(in_channels, 16, 8, stride=2, padding=3), nn.Tanh(), nn.MaxPool2d(2, 1)),  # -> 14 -> 13
        *(nn.Conv2d(16, 32, 4, stride=2), nn.Tanh(), nn.MaxPool2d(2, 1)),  # -> 5 -> 4
        *(nn.Flatten(), nn.Linear(512, 32), nn.Tanh()),
    )


def _tanh_32(in_channels: int) -> nn.Sequential:
    layers, before = nn.Sequential(), in_channels
    for width in (32, 64, 128):
        layers.extend([nn.Conv2d(before, width, 3, padding=1), nn.Tanh()])
        layers.extend([nn.Conv2d(width, width, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2)])
        before = width
    return layers.extend([nn.Flatten(), nn.Linear(2048, 128), nn.Tanh()])


class _Block(nn.Module):
    """Two 3x3 convolutions, each after normalisation and ReLU, around a skip connection."""

    def __init__(self, inputs: int, outputs: int, groups: int | None, *, stride: int) -> None:
        super().__init__()
        self.activation = nn.Sequential(*_normalised(inputs, groups))
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            *_normalised(outputs, groups),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, inputs, height, width)`` to ``(n, outputs, height / stride, width / stride)``."""
        active = self.activation(x)
        skipped = x if self.shortcut is None else self.shortcut(active)
        branch: Tensor = self.branch(active)
        return branch + skipped


def _convolution(inputs: int, outputs: int, groups: int | None) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), *_normalised(outputs, groups)]


def _normalised(channels: int, groups: int | None) -> list[nn.Module]:
    """Normalisation over the batch, or over each image's groups of channels, which mixes no images; then ReLU."""
    norm = nn.BatchNorm2d(channels) if groups is None else nn.GroupNorm(groups, channels)
    return [norm, nn.ReLU(inplace=True)]
