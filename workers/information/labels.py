"""What a trained reader proves that it knows of a label: the information that a user cares about."""

import numpy as np


def label_entropy(labels: np.ndarray) -> float:
    """Entropy of a label as often as it occurs, ``H(Z) = -sum_z p(z) ln p(z)``: what a reader without the image lacks.

    Args:
        labels: ``(n,)`` integers.

    Returns:
        Nats, >= 0.

    Raises:
        ValueError: no labels.
    """
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"labels: expected at least one, in one row, got shape {labels.shape}")
    counts = np.unique(labels, return_counts=True)[1]
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum()) + 0.0


def label_entropy_given(secondary: np.ndarray, primary: np.ndarray) -> float:
    """Entropy of a secondary label that is left to a reader who knows the primary one, ``H(Z|Y)``.

    ``H(Z) - H(Z|Y)`` is what a mechanism that keeps the primary label cannot hide: the floor of `label_information`.

    Args:
        secondary: ``(n,)`` integers.
        primary: ``(n,)`` integers, of the same images.

    Returns:
        Nats, >= 0.

    Raises:
        ValueError: no labels, or the numbers of labels differ.
    """
    if secondary.shape != primary.shape:
        raise ValueError(f"labels of {len(secondary)} and {len(primary)} images: expected the same images")
    both = np.unique(np.stack([secondary, primary]), axis=1, return_inverse=True)[1].reshape(-1)
    return max(0.0, label_entropy(both) - label_entropy(primary))


def label_information(labels: np.ndarray, cross_entropy: np.ndarray) -> np.ndarray:
    """Terms whose mean is ``H(Z) - CE``, a lower bound on I(Z; X') that a probe on held-out images proves.

    ``E[-ln q(Z|X')] = H(Z|X') + E KL(p || q) >= H(Z|X')`` for every probe q that did not see the images. Negative if
    the probe is worse than a guess by frequency: then it proves nothing. H(Z) is that of the labels given; a probe that
    is overconfident loses here, and its temperature may be set on other images beforehand.

    Args:
        labels: secondary label of each image, ``(n,)`` integers.
        cross_entropy: ``-ln q(label | x')`` of each image, ``(n,)``, nats.

    Returns:
        ``(n,)`` float64, nats: ``H(Z) - cross_entropy``.

    Raises:
        ValueError: no labels, or their number is not that of the cross-entropies, or one of these is NaN or negative.
    """
    if labels.shape != cross_entropy.shape:
        raise ValueError(
            f"{len(labels)} labels but {len(cross_entropy)} cross-entropies: expected the same images"
        )
    if not bool((cross_entropy >= 0).all()):
        raise ValueError("cross_entropy: expected numbers >= 0, got NaN or a negative one")
    found: np.ndarray = label_entropy(labels) - cross_entropy.astype(np.float64)
    return found
