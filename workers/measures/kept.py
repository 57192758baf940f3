"""Arrays that a later run can use again: computed once, kept by content."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hushsweep.datasets.results.files import kept, write_atomically
from hushsweep.workers.trial import content_id


def kept_arrays(
    folder: Path, key: dict[str, Any], compute: Callable[[], dict[str, Any]]
) -> dict[str, np.ndarray]:
    """Return the named arrays kept for ``key``, computed and kept first if they are not there.

    Args:
        folder: where they lie, as ``<hash of key>.npz``.
        key: everything that they depend on, plain values.
        compute: makes them.

    Raises:
        StoreError: the disk is full or refuses.
    """
    file = folder / f"{content_id(key)}.npz"
    if not kept(file):
        arrays = compute()
        write_atomically(file, lambda stream: np.savez(stream, **arrays))
    with np.load(file, allow_pickle=False) as stored:
        return dict(stored)
