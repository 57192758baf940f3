"""Our own convolutional networks that take images of any size: the servers of arXiv:2104.02261."""

from torch import Tensor, nn


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
    """Five 3x3 convolutions with batch normalisation: "Conv-5" of arXiv:2104.02261, which leaves its widths open.

    2.57 M multiply-adds at 28x28x1, so that their mask network's 113 k are the 5 % that they report.
    """

    def __init__(self, *, in_channels: int, num_classes: int) -> None:
        layers = nn.Sequential(
            *_convolution(in_channels, 16),
            nn.MaxPool2d(2),
            *_convolution(16, 24),
            nn.MaxPool2d(2),
            *_convolution(24, 48),
            *_convolution(48, 48),
            nn.MaxPool2d(2),
            *_convolution(48, 64),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        super().__init__(layers, hidden=64, num_classes=num_classes)


class WideResNet16(HiddenAndClassifier):
    """WRN-16-k of Zagoruyko and Komodakis (2016), arXiv:1605.07146, without dropout.

    For k = 4: 2.77 M parameters and 392.6 M multiply-adds at 32x32x3 with 100 classes.
    """

    def __init__(self, *, width: int, in_channels: int, num_classes: int) -> None:
        widths = [16, 16 * width, 32 * width, 64 * width]
        layers = nn.Sequential(nn.Conv2d(in_channels, 16, 3, padding=1, bias=False))
        for stage in range(3):
            layers.append(_Block(widths[stage], widths[stage + 1], stride=1 if stage == 0 else 2))
            layers.append(_Block(widths[stage + 1], widths[stage + 1], stride=1))
        layers.extend(
            [nn.BatchNorm2d(widths[3]), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        )
        super().__init__(layers, hidden=widths[3], num_classes=num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


class _Block(nn.Module):
    """Two 3x3 convolutions, each after batch normalisation and ReLU, around a skip connection."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.activation = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True))
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
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


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
