"""As many training images of each class as of the largest one: repeated, or mixed of neighbours (SMOTE)."""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hushsweep.datasets.images import ImageSet
from hushsweep.datasets.images.source import digest
from hushsweep.workers.accounting.extra import require_dp
from hushsweep.workers.errors import PlugInError

Kind = Literal["random", "smote"]
_NEIGHBOURS = 5  # of SMOTE as published (Chawla et al. 2002, arXiv:1106.1813), and imbalanced-learn's default


def oversample(images: ImageSet, kind: Kind, seed: int) -> tuple[ImageSet, int]:
    """Add images to every class that there are images of until it has as many as the largest.

    Every record then counts as one of its own in the accounting per record, although several are made of one person's
    image. How many at most is returned where it can be counted; SMOTE puts a new image between one image of the class
    and one of its nearest neighbours, so that one person's image may be in any number of others.

    Args:
        images: What there is to learn from.
        kind: ``random`` repeats images drawn with replacement; ``smote`` mixes pixels, with 5 neighbours, or as many
            as the smallest class has.
        seed: of the draws.

    Returns:
        The images that there were, in their order, and after them those that were made, in memory alone: the set
        cannot be pickled. Images that SMOTE made have index -1, and the set then no secondary labels. And the largest
        number of these images that are made of one image, itself included; 0 where that is unknown.

    Raises:
        PlugInError: imbalanced-learn is not installed, or ``smote`` and a class of a single image.
    """
    require_dp(f"over-sampling ({kind})")
    counts = np.unique(images.labels, return_counts=True)[1]
    if (counts == counts[0]).all():
        return images, 1
    return _repeated(images, seed) if kind == "random" else _mixed(images, seed, int(counts.min()))


def _repeated(images: ImageSet, seed: int) -> tuple[ImageSet, int]:
    from imblearn.over_sampling import RandomOverSampler

    sampler = RandomOverSampler(random_state=seed)
    sampler.fit_resample(np.arange(len(images))[:, None], images.labels)
    chosen: NDArray[np.int64] = sampler.sample_indices_
    names = images.names[:]
    found = replace(
        images,
        images=images.images[chosen],
        labels=images.labels[chosen],
        indices=images.indices[chosen],
        names=[names[place] for place in chosen],
        secondary=None if images.secondary is None else images.secondary[chosen],
    )
    return _in_memory(found, "random", seed), int(np.bincount(chosen).max())


def _mixed(images: ImageSet, seed: int, smallest: int) -> tuple[ImageSet, int]:
    from imblearn.over_sampling import SMOTE
    from threadpoolctl import threadpool_limits

    if smallest == 1:
        raise PlugInError(
            "over-sampling (smote) mixes images of a class, and one class has a single image to learn from; raise its "
            "number (dataset.class_counts or dataset.train_limit), or use random"
        )
    sampler = SMOTE(random_state=seed, k_neighbors=min(_NEIGHBOURS, smallest - 1))
    with threadpool_limits(
        1
    ):  # or its search for neighbours takes every core from the trials beside this one
        mixed, labels = sampler.fit_resample(
            images.images.reshape(len(images), -1).astype(np.float32), images.labels
        )
    made = len(labels) - len(images)
    found = replace(
        images,
        images=np.rint(mixed).clip(0, 255).astype(np.uint8).reshape(-1, *images.images.shape[1:]),
        labels=labels,
        indices=np.concatenate([images.indices, np.full(made, -1)]),
        names=[*images.names, *(f"smote/{number:05d}" for number in range(made))],
        secondary=None,
    )
    return _in_memory(found, "smote", seed), 0


def _in_memory(images: ImageSet, kind: Kind, seed: int) -> ImageSet:
    """What is made of a set is not the set: another fingerprint and number, and no folder to be opened again."""
    fingerprint = digest([images.info.fingerprint.encode(), f"{kind}/{seed}".encode()])
    size = len(images.labels)
    info = replace(images.info, fingerprint=fingerprint, size=size, total=size)
    return replace(images, path=images.path / kind, info=info, undecodable=())
