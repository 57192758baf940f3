"""The exact Jacobian of a few images, decomposed once and kept, or the reason why it is too large for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from hushsweep.workers.bounds import dct, linear_gaussian_mmse
from hushsweep.workers.bounds.cramer_rao import Decomposition, decompose, exact_bytes
from hushsweep.workers.bounds.jacobian import Active, active_entries, jacobian
from hushsweep.workers.bounds.shifts import FeatureMap
from hushsweep.workers.measures.base import Subject
from hushsweep.workers.measures.kept import kept_arrays
from hushsweep.workers.measures.sizes import GIB

if TYPE_CHECKING:
    from hushsweep.workers.measures.bounds import Bounds

_WORKING = 2 * GIB
_LARGEST_COVARIANCE = 4096
"""Entries of an image up to which the covariance of all pairs is formed: 134 MB."""


class Differentiable(FeatureMap, Protocol):
    """A network, or anything else whose Jacobian is asked for."""

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        ...


class Decomposed:
    """Decompositions of the Jacobians of some images; nothing is computed before it is asked for."""

    def __init__(
        self,
        options: Bounds,
        subject: Subject,
        *,
        model: Differentiable,
        part: Sequence[int],
        x: Tensor,
        noise_stds: Sequence[float],
        covariance: Callable[[], Tensor],
    ) -> None:
        self._options, self._subject, self._model, self._part = options, subject, model, part
        self._x, self._noise_stds, self._covariance = x.to(model.dtype), noise_stds, covariance
        self._inputs = x[0].numel()
        self._directions = options.directions if "jacobian" in options.searches else 0
        self._row_space = "nullspace" in options.searches
        self._mmse: Tensor | None = None

    @cached_property
    def active(self) -> Active:
        """Which features depend on the image at all, and on which of its entries."""
        return active_entries(self._model, self._x)

    @cached_property
    def too_large(self) -> str | None:
        """Why these Jacobians are not decomposed, or None if they are."""
        rows = int(self.active.features.sum(1).max())
        needed = exact_bytes(rows, self._inputs, self._model.dtype.itemsize) / GIB
        if needed <= self._options.memory_gb:
            return None
        return (
            f"the exact Jacobian, {rows:,} x {self._inputs:,}, takes {needed:.1f} GiB of memory, "
            f"more than memory_gb: {self._options.memory_gb:g}"
        )

    @cached_property
    def images(self) -> Sequence[Decomposition]:
        """One decomposition per image.

        Raises:
            ValueError: the Jacobian is too large; the message says how large.
        """
        if self.too_large is not None:
            raise ValueError(self.too_large)
        if self._subject.cache is None or self._wants_mmse or self._row_space:
            return self._decompose()  # more of the Jacobian is needed than is kept
        options = self._options
        key = {
            **self._subject.key,
            "version": options.VERSION,
            "basis": options.basis,
            "precision": options.precision,
            "directions": self._directions,
            "images": self._subject.image_indices(self._part),
        }
        stored = kept_arrays(self._subject.cache / "jacobians", key, lambda: _arrays(self._decompose()))
        return _decompositions(stored, self._x.device)

    def mmse(self, noise_std: float) -> Tensor:
        """Error of linear-Gaussian Bayes per image, ``(n,)``, squared units of the input.

        Raises:
            ValueError: the images have too many entries for their covariance, or the Jacobian is too large.
        """
        if self._inputs > _LARGEST_COVARIANCE:
            raise ValueError(
                f"the covariance of {self._inputs:,} entries is not formed; images of up to "
                f"{_LARGEST_COVARIANCE:,} have one"
            )
        assert self.images
        assert self._mmse is not None
        return self._mmse[:, self._noise_stds.index(noise_std)]

    @property
    def _wants_mmse(self) -> bool:
        return "mmse" in self._options.bounds and self._inputs <= _LARGEST_COVARIANCE

    def _decompose(self) -> list[Decomposition]:
        basis = flat_dct(self._x.shape[1:]) if self._options.basis == "dct" else None
        found, mmse = list[Decomposition](), list[Tensor]()
        noise_stds = torch.tensor(self._noise_stds, dtype=torch.float64, device=self._x.device)
        held = int(self.active.features.sum()) * self._inputs * self._x.element_size()
        # more copies of an image than fit in this gain nothing, and the budget is for the decomposition
        memory = int(min(self._options.memory_gb * GIB, held + _WORKING))
        for matrix in jacobian(self._model, self._x, memory=memory, active=self.active):
            if self._wants_mmse:
                mmse.append(linear_gaussian_mmse(matrix, noise_stds, self._covariance()))
            found.append(
                decompose(matrix, basis=basis, directions=self._directions, keep_row_space=self._row_space)
            )
        self._mmse = torch.stack(mmse) if mmse else None
        return found


def _arrays(images: Sequence[Decomposition]) -> dict[str, np.ndarray]:
    arrays = {}
    for number, image in enumerate(images):
        for name, value in image._asdict().items():
            if value is not None:
                arrays[f"{number}.{name}"] = (
                    value.cpu().numpy() if isinstance(value, Tensor) else np.array(value)
                )
    return arrays


def _decompositions(arrays: dict[str, np.ndarray], device: torch.device) -> list[Decomposition]:
    images = dict[int, dict[str, Tensor | int | float | None]]()
    for key, value in arrays.items():
        number, _, name = key.partition(".")
        loaded = torch.from_numpy(value).to(device) if value.ndim else value.item()
        images.setdefault(int(number), {}).update({name: loaded})
    empty = dict.fromkeys(Decomposition._fields)
    return [Decomposition(**{**empty, **images[number]}) for number in sorted(images)]  # type: ignore[arg-type]


def flat_dct(shape: torch.Size) -> Callable[[Tensor], Tensor]:
    """Return the DCT of flat images ``(..., p)`` of a shape ``(channels, height, width)``."""

    def basis(v: Tensor) -> Tensor:
        return dct(v.reshape(*v.shape[:-1], *shape)).flatten(-3)

    return basis


def image_covariance(subject: Subject) -> Tensor:
    """Covariance of the entries of all images of the set, ``(p, p)`` float64, normalised units."""
    count, p = len(subject.activations.images), int(np.prod(subject.model.input_shape))
    mean = torch.zeros(p, dtype=torch.float64, device=subject.activations.device)
    covariance = torch.zeros((p, p), dtype=torch.float64, device=mean.device)

    def batches() -> Iterator[Tensor]:
        for start in range(0, count, 512):
            yield subject.activations.inputs(range(start, min(start + 512, count))).flatten(1).double()

    for batch in batches():
        mean += batch.sum(0) / count
    for batch in batches():  # centred first: a pixel that never changes then has a variance of exactly 0
        covariance.addmm_((batch - mean).T, batch - mean, alpha=1 / count)
    return covariance
