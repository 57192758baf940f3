"""Counter-based noise streams: one stream per (seed, purpose, image, draw), whatever the batch or the worker.

On the CPU the stream is numpy's Philox4x64 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") with
the key (seed, purpose) and the counter (image, draw); on a GPU it is torch's own Philox generator, seeded with a hash
of the same four values. The two give different numbers, which is why the device type belongs to a point's identity.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

UNIT_LAWS = ("gaussian", "laplace")


def unit_noise(
    law: str,
    shape: Sequence[int],
    *,
    seed: int,
    purpose: str,
    image_indices: Sequence[int],
    draw: int,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw noise of standard deviation 1, the same for an image in whatever company it is asked for.

    Args:
        law: ``gaussian``, or ``laplace`` (scale ``1/sqrt(2)``, so that the standard deviation is 1).
        shape: shape of one image's noise.
        seed: the point's seed.
        purpose: names the stream, e.g. ``cut/0``: noise for different purposes is independent.
        image_indices: position of each image in its data set, ``(n,)``.
        draw: number of the repetition, >= 0.
        device: where the noise is made and left.

    Returns:
        ``(n, *shape)`` float32.

    Raises:
        ValueError: unknown law.
    """
    if law not in UNIT_LAWS:
        raise ValueError(f"unknown noise law {law!r}; known: {', '.join(UNIT_LAWS)}")
    device = torch.device(device)
    if device.type == "cpu":
        return torch.from_numpy(_numpy_noise(law, tuple(shape), seed, purpose, image_indices, draw))
    noise = torch.empty((len(image_indices), *shape), dtype=torch.float32, device=device)
    generator = torch.Generator(device=device)
    for row, image in zip(noise, image_indices, strict=True):
        generator.manual_seed(_stream_seed(seed, purpose, int(image), draw))
        if law == "gaussian":
            row.normal_(generator=generator)
        else:
            # the difference of two standard exponentials is Laplace with scale 1, whose variance is 2
            row.exponential_(generator=generator)
            row.sub_(torch.empty_like(row).exponential_(generator=generator)).mul_(2**-0.5)
    return noise


def normal_draws(
    shape: Sequence[int],
    *,
    seed: int,
    purpose: str,
    image_indices: Sequence[int],
    count: int,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Stack the first ``count`` draws of Gaussian `unit_noise`, ``(n, count, *shape)`` float32."""
    draws = [
        unit_noise(
            "gaussian",
            shape,
            seed=seed,
            purpose=purpose,
            image_indices=image_indices,
            draw=draw,
            device=device,
        )
        for draw in range(count)
    ]
    return torch.stack(draws, dim=1)


def stream_generator(*, seed: int, purpose: str, image_index: int = 0, draw: int = 0) -> np.random.Generator:
    """Open one stream as a numpy generator on the CPU (Philox keyed by seed and purpose)."""
    counter = [0, draw, image_index, 0]  # the lowest word counts the blocks drawn within the stream
    return np.random.Generator(np.random.Philox(key=_stream_key(seed, purpose), counter=counter))


def _numpy_noise(
    law: str, shape: tuple[int, ...], seed: int, purpose: str, image_indices: Sequence[int], draw: int
) -> np.ndarray:
    noise = np.empty((len(image_indices), *shape), dtype=np.float32)
    for row, image in zip(noise, image_indices, strict=True):
        generator = stream_generator(seed=seed, purpose=purpose, image_index=int(image), draw=draw)
        if law == "gaussian":
            generator.standard_normal(dtype=np.float32, out=row)
        else:
            generator.standard_exponential(dtype=np.float32, out=row)
            row -= generator.standard_exponential(shape, dtype=np.float32)
            row *= np.float32(2**-0.5)
    return noise


def _stream_key(seed: int, purpose: str) -> np.ndarray:
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return np.frombuffer(digest[:16], dtype=np.uint64)


def _stream_seed(seed: int, purpose: str, image: int, draw: int) -> int:
    digest = hashlib.sha256(f"{seed}/{purpose}/{image}/{draw}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)
