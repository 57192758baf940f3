"""Facts of the published data sets: sizes, class names, usual normalisation."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Published:
    """What is known of a data set without looking at it.

    Attributes:
        name: As in a sweep file.
        side: Height and width, pixels.
        channels: 1 or 3.
        classes: Number of classes.
        mean: Per channel, pixels 0..1.
        std: As ``mean``.
        class_names: By label; None where the files themselves hold them.
    """

    name: str
    side: int
    channels: int
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] | None


_DIGIT_NAMES = tuple("0123456789")
_GARMENTS = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_CIFAR10_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

# Mean and std: mnist and cifar10 as in arXiv:2404.02866, the others those of the training split.
DIGITS = Published(
    name="digits", side=8, channels=1, classes=10, mean=(0.3053,), std=(0.3761,), class_names=_DIGIT_NAMES
)
MNIST = Published(
    name="mnist", side=28, channels=1, classes=10, mean=(0.1307,), std=(0.3081,), class_names=_DIGIT_NAMES
)
FASHION_MNIST = Published(
    name="fashion_mnist",
    side=28,
    channels=1,
    classes=10,
    mean=(0.2860,),
    std=(0.3530,),
    class_names=_GARMENTS,
)
PNEUMONIA = Published(
    name="pneumonia",
    side=28,
    channels=1,
    classes=2,
    mean=(0.5719,),
    std=(0.1684,),
    class_names=("normal", "pneumonia"),
)
CIFAR10 = Published(
    name="cifar10",
    side=32,
    channels=3,
    classes=10,
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    class_names=_CIFAR10_NAMES,
)
CIFAR100 = Published(
    name="cifar100",
    side=32,
    channels=3,
    classes=100,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    class_names=None,
)
