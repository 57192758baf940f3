"""Our own networks: the two of arXiv:2404.02866 and a small one for the embedded digits."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models.architectures import Preset, Published, no_published_weights
from hushsweep.workers.models.cuts import Cut, MethodCut


class Mlp(nn.Module):
    """Two hidden ReLU layers; with 784 inputs and 784 hidden units the MNIST network of arXiv:2404.02866."""

    def __init__(self, *, inputs: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.classifier = nn.Linear(hidden, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """The second ReLU: ``(n, channels, side, side)`` to ``(n, hidden)``."""
        features: Tensor = self.layers(x)
        return features

    def forward_head(self, a: Tensor) -> Tensor:
        """Logits ``(n, num_classes)`` of features ``(n, hidden)``."""
        logits: Tensor = self.classifier(a)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        return self.forward_head(self.forward_features(x))


class Cifar10Cnn(nn.Module):
    """The CIFAR-10 network of arXiv:2404.02866: 38,606,730 parameters for 3 channels and 10 classes."""

    def __init__(self, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(in_channels, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),  # 32x32 -> 30x30 -> 15x15
            *(nn.Conv2d(32, 1024, 5), nn.ReLU(), nn.MaxPool2d(3)),  # -> 11x11 -> 3x3
            *(nn.Conv2d(1024, 3072, 3), nn.ReLU(), nn.Flatten()),  # -> 1x1
            *(nn.Linear(3072, 3072), nn.ReLU()),
        )
        self.classifier = nn.Linear(3072, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """The ReLU after the hidden fully connected layer: ``(n, channels, 32, 32)`` to ``(n, 3072)``."""
        features: Tensor = self.layers(x)
        return features

    def forward_head(self, a: Tensor) -> Tensor:
        """Logits ``(n, num_classes)`` of features ``(n, 3072)``."""
        logits: Tensor = self.classifier(a)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        return self.forward_head(self.forward_features(x))


@dataclass(frozen=True, kw_only=True)
class OwnArchitecture:
    """One of our own networks."""

    name: str
    side: int
    epochs: int
    make: Callable[[int, int], nn.Module]  # (channels, classes)

    def preset(self, weights: str) -> Preset:
        """The network's side; channels, classes and normalisation are the data set's."""
        del weights
        return Preset(side=self.side, resize=self.side, epochs=self.epochs)

    def published(self, weights: str) -> Published:
        """There are none."""
        raise no_published_weights(self.name, weights)

    def build(self, *, num_classes: int, in_channels: int, side: int) -> nn.Module:
        """A fresh network."""
        if side != self.side:
            raise PlugInError(f"model {self.name!r}: network_size: expected {self.side}, got {side}")
        return self.make(in_channels, num_classes)

    def build_published(self, published: Published, *, in_channels: int, side: int) -> nn.Module:
        """There are none."""
        raise no_published_weights(self.name, published.label)

    def natural_cut(self, network: nn.Module) -> Cut:
        """After the last hidden ReLU."""
        return MethodCut(network)


OWN = {
    architecture.name: architecture
    for architecture in (
        OwnArchitecture(
            name="digits_mlp",
            side=8,
            epochs=20,
            make=lambda channels, classes: Mlp(inputs=64 * channels, hidden=128, num_classes=classes),
        ),
        OwnArchitecture(
            name="mnist_mlp",
            side=28,
            epochs=6,
            make=lambda channels, classes: Mlp(inputs=784 * channels, hidden=784, num_classes=classes),
        ),
        OwnArchitecture(
            name="cifar10_cnn",
            side=32,
            epochs=7,
            make=lambda channels, classes: Cifar10Cnn(in_channels=channels, num_classes=classes),
        ),
    )
}
