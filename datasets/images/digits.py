"""The 1,797 scanned digits, 8x8, that scikit-learn carries: needs no file and no network."""

from functools import cache

import numpy as np

from hushsweep.datasets.images.base import DatasetConfig
from hushsweep.datasets.images.published import DIGITS
from hushsweep.datasets.images.roots import check_split
from hushsweep.datasets.images.source import ImageSource, array_bytes, digest, from_array, numbered


def open_digits(config: DatasetConfig) -> ImageSource:
    """Open scikit-learn's digits; every third image (positions 2, 5, 8, ...) is the test split.

    The original counts 0..16 are scaled to 0..255 and rounded half up. ``root`` is ignored.

    Raises:
        DatasetError: unknown split.
    """
    check_split(config, ("train", "test"))
    split = config.split or "test"
    counts, digits = _published()
    is_test = np.arange(len(digits)) % 3 == 2
    chosen = is_test if split == "test" else ~is_test
    images = ((counts[chosen].astype(np.int64) * 255 + 8) // 16).astype(np.uint8)
    labels = digits[chosen].astype(np.int64)
    return ImageSource(
        split=split,
        fingerprint=digest([array_bytes(images), array_bytes(labels)]),
        labels=labels,
        contents=from_array(images),
        name_of=numbered(split),
        classes=DIGITS.classes,
        channels=DIGITS.channels,
        height=DIGITS.side,
        width=DIGITS.side,
        mean=DIGITS.mean,
        std=DIGITS.std,
        class_names=DIGITS.class_names,
    )


@cache
def _published() -> tuple[np.ndarray, np.ndarray]:
    """Counts and digits: reading the text that they are published as takes longer than a small trial."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images, bunch.target
