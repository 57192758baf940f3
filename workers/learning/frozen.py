"""What a network's frozen part makes of images: computed once for all trainings of what comes after it."""

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hushsweep.datasets.heartbeat import beat, locked
from hushsweep.datasets.results.files import write_atomically
from hushsweep.workers.devices import in_channels_last
from hushsweep.workers.models import Trainable


def frozen_features(
    network: Trainable, images: np.ndarray, batches: Callable[[np.ndarray], Iterator[Tensor]], folder: Path
) -> np.ndarray:
    """Return the activations at the cut, from a file, since they may be larger than the memory.

    Whoever has the same images and the same frozen weights finds the file; levels and labels play no role in it.

    Args:
        network: in eval mode; what is frozen has no ``requires_grad``.
        images: ``(n, channel, height, width)`` uint8, n >= 1.
        batches: gives images normalised, in pieces.
        folder: of such files; what lies there may be deleted.

    Returns:
        ``(n, *feature)`` float32, read-only.

    Raises:
        StoreError: the disk is full or refuses.
    """

    def activations(part: np.ndarray) -> Iterator[bytes]:
        with torch.no_grad():
            for x in batches(part):
                beat()
                yield network.features(in_channels_last(x)).float().cpu().numpy().tobytes()

    # what two images come to stands for the network's code and its cut
    digest = _digest(network, images, b"".join(activations(images[[0, -1]])))
    path = folder / f"{digest}.float32"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f".{digest}.lock"):
        if not path.is_file():
            for left in folder.glob(f".{path.name}.*.tmp"):  # by a process that was killed: we hold the lock
                left.unlink()
            write_atomically(path, lambda file: file.writelines(activations(images)))
    return np.memmap(path, np.float32, "r", shape=(len(images), *network.feature_shape))


def _digest(network: Trainable, images: np.ndarray, probe: bytes) -> str:
    """Of all that the activations depend on."""
    parts = sha256(probe)
    parts.update(np.ascontiguousarray(images).data)
    parts.update(f"{images.shape} {network.mean.device.type} {torch.get_num_threads()}".encode())
    frozen = [p for p in network.network.parameters() if not p.requires_grad]
    for tensor in (*frozen, *network.network.buffers(), network.mean, network.std):
        parts.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return parts.hexdigest()[:32]
