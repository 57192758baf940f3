"""What the primary label alone tells of the secondary one: the least that any client gives away."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class SecondaryEntropy(NamedTuple):
    """Entropies of the secondary label, in bits.

    Attributes:
        entropy: H(Z).
        given_primary: H(Z | Y).
    """

    entropy: float
    given_primary: float


def blind_floor(primary: NDArray[np.int64], secondary: NDArray[np.int64]) -> float:
    """Accuracy of the best guess of the secondary label by one who is told the primary label and nothing else.

    A client that gives the server a perfect primary label cannot push an attacker below it. MNIST's test part with
    the task ``less_than_5`` gives (1135 + 1028) / 10000.

    Args:
        primary: ``(n,)`` labels.
        secondary: ``(n,)`` labels.

    Returns:
        Fraction of these images.

    Raises:
        ValueError: no labels, or not as many of both.
    """
    return float(_joint_counts(primary, secondary).max(axis=1).sum() / len(primary))


def secondary_entropy(primary: NDArray[np.int64], secondary: NDArray[np.int64]) -> SecondaryEntropy:
    """Entropy of the secondary label, and what is left of it once the primary label is known.

    Plug-in estimates from the counts of these labels.

    Args:
        primary: ``(n,)`` labels.
        secondary: ``(n,)`` labels.

    Raises:
        ValueError: no labels, or not as many of both.
    """
    joint = _joint_counts(primary, secondary) / len(primary)
    return SecondaryEntropy(
        entropy=_entropy(joint.sum(axis=0)),
        given_primary=max(0.0, _entropy(joint.ravel()) - _entropy(joint.sum(axis=1))),
    )


def _joint_counts(primary: NDArray[np.int64], secondary: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(primary classes, secondary classes)`` counts of the labels that occur."""
    if len(primary) != len(secondary) or not len(primary):
        raise ValueError(
            f"expected as many primary as secondary labels, at least one, got {len(primary)} and {len(secondary)}"
        )
    rows, row = np.unique(primary, return_inverse=True)
    columns, column = np.unique(secondary, return_inverse=True)
    counts = np.zeros((len(rows), len(columns)), np.int64)
    np.add.at(counts, (row, column), 1)
    return counts


def _entropy(shares: NDArray[np.float64]) -> float:
    """In bits; shares of 0 add nothing."""
    positive = shares[shares > 0]
    return max(0.0, float(-(positive * np.log2(positive)).sum()))
