"""Our own networks: those of arXiv:2404.02866 and arXiv:2104.02261, and a small one for the embedded digits."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models.architectures import Preset, Published, no_published_weights
from hushsweep.workers.models.convolutional import (
    Conv5,
    Conv6,
    HiddenAndClassifier,
    TanhCnn,
    Vgg19,
    WideResNet16,
)
from hushsweep.workers.models.cuts import Cut, MethodCut
from hushsweep.workers.models.scattering import ScatteringLinear


class Mlp(HiddenAndClassifier):
    """Two hidden ReLU layers; with 784 inputs and 784 hidden units the MNIST network of arXiv:2404.02866."""

    def __init__(self, *, inputs: int, hidden: int, num_classes: int) -> None:
        layers = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        super().__init__(layers, hidden=hidden, num_classes=num_classes)


class Cifar10Cnn(HiddenAndClassifier):
    """The CIFAR-10 network of arXiv:2404.02866: 38,606,730 parameters for 3 channels and 10 classes."""

    def __init__(self, *, in_channels: int, num_classes: int) -> None:
        layers = nn.Sequential(
            *(nn.Conv2d(in_channels, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),  # 32x32 -> 30x30 -> 15x15
            *(nn.Conv2d(32, 1024, 5), nn.ReLU(), nn.MaxPool2d(3)),  # -> 11x11 -> 3x3
            *(nn.Conv2d(1024, 3072, 3), nn.ReLU(), nn.Flatten()),  # -> 1x1
            *(nn.Linear(3072, 3072), nn.ReLU()),
        )
        super().__init__(layers, hidden=3072, num_classes=num_classes)


@dataclass(frozen=True, kw_only=True)
class OwnArchitecture:
    """One of our own networks.

    Attributes:
        name: As in a sweep file.
        side: Of its images in pixels; None: any.
        epochs: Of training unless told otherwise.
        fixed_features: Whether it has no weights but its classifier's.
        make: Builds it from the numbers of channels and classes, and the side.
    """

    name: str
    side: int | None
    epochs: int
    make: Callable[[int, int, int], nn.Module]
    fixed_features: bool = False

    def preset(self, weights: str) -> Preset:
        """The network's side, if it has one; channels, classes and normalisation are the data set's."""
        del weights
        return Preset(
            side=self.side, resize=self.side, epochs=self.epochs, fixed_features=self.fixed_features
        )

    def published(self, weights: str) -> Published:
        """There are none."""
        raise no_published_weights(self.name, weights)

    def build(self, *, num_classes: int, in_channels: int, side: int) -> nn.Module:
        """A fresh network."""
        if self.side not in (None, side):
            raise PlugInError(f"model {self.name!r}: network_size: expected {self.side}, got {side}")
        return self.make(in_channels, num_classes, side)

    def build_published(self, published: Published, *, in_channels: int, side: int) -> nn.Module:
        """There are none."""
        raise no_published_weights(self.name, published.label)

    def natural_cut(self, network: nn.Module) -> Cut:
        """Before the classifier."""
        return MethodCut(network)


OWN = {
    architecture.name: architecture
    for architecture in (
        OwnArchitecture(
            name="digits_mlp",
            side=8,
            epochs=20,
            make=lambda channels, classes, side: Mlp(inputs=64 * channels, hidden=128, num_classes=classes),
        ),
        OwnArchitecture(
            name="mnist_mlp",
            side=28,
            epochs=6,
            make=lambda channels, classes, side: Mlp(inputs=784 * channels, hidden=784, num_classes=classes),
        ),
        OwnArchitecture(
            name="cifar10_cnn",
            side=32,
            epochs=7,
            make=lambda channels, classes, side: Cifar10Cnn(in_channels=channels, num_classes=classes),
        ),
        OwnArchitecture(
            name="conv5",
            side=None,
            epochs=50,
            make=lambda channels, classes, side: Conv5(in_channels=channels, num_classes=classes),
        ),
        OwnArchitecture(
            name="conv6",
            side=32,
            epochs=20,
            make=lambda channels, classes, side: Conv6(in_channels=channels, num_classes=classes, side=side),
        ),
        OwnArchitecture(
            name="wrn16_4",
            side=None,
            epochs=100,
            make=lambda channels, classes, side: WideResNet16(
                width=4, in_channels=channels, num_classes=classes
            ),
        ),
        OwnArchitecture(
            name="conv5_gn",
            side=None,
            epochs=50,
            make=lambda channels, classes, side: Conv5(in_channels=channels, num_classes=classes, groups=8),
        ),
        OwnArchitecture(
            name="wrn16_4_gn",
            side=None,
            epochs=100,
            make=lambda channels, classes, side: WideResNet16(
                width=4, in_channels=channels, num_classes=classes, groups=16
            ),
        ),
        OwnArchitecture(
            name="vgg19_gn",
            side=None,
            epochs=100,
            make=lambda channels, classes, side: Vgg19(in_channels=channels, num_classes=classes, groups=16),
        ),
        OwnArchitecture(
            name="tanh_cnn",
            side=None,
            epochs=40,
            make=lambda channels, classes, side: TanhCnn(
                in_channels=channels, num_classes=classes, side=side
            ),
        ),
        OwnArchitecture(
            name="scattering",
            side=None,
            epochs=30,
            fixed_features=True,
            make=lambda channels, classes, side: ScatteringLinear(
                in_channels=channels, num_classes=classes, side=side
            ),
        ),
    )
}
