"""The best affine reconstruction: what any attacker can compute from examples without training a network.

For additive noise of variance s^2 the least mean squared error of an affine map is that of
``m + C_xa (C_aa + s^2 I)^-1 (a - m_a)``, with the moments of training images: linear minimum mean squared error
estimation (e.g. Kay 1993, section 12.3). One eigendecomposition of C_aa serves all noise levels. Other mechanisms are
sampled: the moments are those of what has really left. What is added to s^2 on top, against moments that are known from
finitely many images, is chosen on validation images.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hushsweep.workers.attacks.reconstruction.base import Knowledge, Target
from hushsweep.workers.learning.task import derived_seed

_LARGEST = 4096
"""Entries of what leaves up to which their covariance is decomposed; above it that of so many training images."""
_EXAMPLES = 2**28
"""Entries of all examples at most in that case: 1 GiB."""
_MOST = 1e38
"""Noise in which nothing can be told, near the largest number of float32."""
_PASSES = 2
"""Times that training images are sent through a mechanism that is sampled."""
_GRID = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Tried on top of the noise, in units of the mean variance of an entry."""


class Moments(NamedTuple):
    """Second moments of what leaves and of images, in the eigenbasis of the former, float64.

    The affine map at a noise of variance t is ``mean_x + to_image diag(1 / (values + t)) to_basis (a - mean_a)``.
    """

    mean_a: Tensor  # (d)
    mean_x: Tensor  # (p)
    values: Tensor  # (k) variances along the basis
    to_basis: Tensor  # (k, d)
    to_image: Tensor  # (p, k)
    variance: float  # mean over the entries of what leaves


class Affine(nn.Module):
    """The affine map as a module: float32, a variance per image."""

    def __init__(self, moments: Moments, variance: float) -> None:
        super().__init__()
        for name in ("mean_a", "mean_x", "values", "to_basis", "to_image"):
            self.register_buffer(name, getattr(moments, name).float().contiguous())
        self.register_buffer("noise", torch.tensor(variance, dtype=torch.float32))

    mean_a: Tensor
    mean_x: Tensor
    values: Tensor
    to_basis: Tensor
    to_image: Tensor
    noise: Tensor

    def forward(self, seen: Tensor, variance: Tensor | None = None) -> Tensor:
        """``(n, *shape)`` and, if not the map's own, ``(n, 1)`` variances to flat images ``(n, p)``."""
        variance = self.noise if variance is None else variance
        along = (seen.flatten(1) - self.mean_a) @ self.to_basis.T
        # without noise a direction that never varied is left out
        weights = torch.where(self.values + variance > 0, 1 / (self.values + variance), 0.0)
        return self.mean_x + (along * weights) @ self.to_image.T


@dataclass(frozen=True)
class Ridge:
    """The affine attack on one point."""

    module: Affine
    shape: tuple[int, ...]
    digest: str | None = None

    @classmethod
    def fit(cls, target: Target) -> "Ridge":
        """Solve for the map; choose what regularises it on validation images.

        Raises:
            PlugInError: there are too few images.
        """
        moments = moments_of(target)
        module = Affine(moments, 0.0).to(target.subject.activations.device)
        seen, truth = target.validation()
        noise = known_variance(target)
        module.noise.fill_(noise + chosen_extra(module, moments, noise, seen, truth))
        return cls(module, tuple(target.subject.model.input_shape))

    @torch.no_grad()
    def reconstruct(self, seen: Tensor, inputs: Tensor) -> Tensor:
        """Apply the map."""
        found: Tensor = self.module(seen)
        return found.reshape(len(seen), *self.shape)


def known_variance(target: Target) -> float:
    """Variance of the noise that the moments leave out; 0 where they are of what has really left."""
    return min((target.noise_std or 0.0) ** 2, _MOST)


@torch.no_grad()
def chosen_extra(module: Affine, moments: Moments, noise: float, seen: Tensor, truth: Tensor) -> float:
    """What to add to the noise's variance: the candidate of the least error on images that were not learned from."""
    errors = dict[float, float]()
    for share in _GRID:
        extra = share * moments.variance
        variance = torch.tensor(noise + extra, dtype=torch.float32, device=seen.device)
        if noise + extra > 0:
            error = (module(seen, variance) - truth.flatten(1)).double().square().mean()
            errors[extra] = float(error) if math.isfinite(float(error)) else math.inf
    return min(errors, key=lambda extra: (errors[extra], -extra))


def moments_of(target: Target) -> Moments:
    """Moments of a point: those of the clean activations, shared by all levels, or sampled from what leaves."""
    if target.noise_std is None:
        return _moments(target, clean=False)
    kept = target.knowledge.kept
    if "moments" not in kept:
        kept["moments"] = _moments(target, clean=True)
    found: Moments = kept["moments"]
    return found


@torch.no_grad()
def _moments(target: Target, *, clean: bool) -> Moments:
    entries, knowledge = math.prod(target.seen_shape), target.knowledge
    primal = entries <= _LARGEST
    blocks = knowledge.blocks("train", None if primal else max(2, min(_LARGEST, _EXAMPLES // entries)))
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed("reconstruction", "ridge", target.point.seed))

        def seen(rows: np.ndarray) -> Tensor:
            return knowledge.clean("train", rows, at_cut=True) if clean else target.seen("train", rows)

        passes = 1 if clean or not primal else _PASSES
        return (_primal if primal else _dual)(knowledge, [b for _ in range(passes) for b in blocks], seen)


def _primal(
    knowledge: Knowledge, blocks: Sequence[np.ndarray], seen: Callable[[np.ndarray], Tensor]
) -> Moments:
    """Decompose the covariance of what leaves."""
    count, sums = 0, list[Tensor]()
    for rows in blocks:
        a, x = seen(rows).flatten(1).double(), knowledge.inputs("train", rows).flatten(1).double()
        parts = [a.sum(0), x.sum(0), a.T @ a, x.T @ a]
        sums = [total + part for total, part in zip(sums, parts, strict=True)] if sums else parts
        count += len(rows)
    mean_a, mean_x = sums[0] / count, sums[1] / count
    covariance = sums[2] / count - mean_a[:, None] * mean_a
    cross = sums[3] / count - mean_x[:, None] * mean_a
    values, vectors = torch.linalg.eigh(covariance)
    return _in_basis(mean_a, mean_x, values, vectors.T, cross @ vectors, len(mean_a))


def _dual(
    knowledge: Knowledge, blocks: Sequence[np.ndarray], seen: Callable[[np.ndarray], Tensor]
) -> Moments:
    """Decompose the products of examples, which span all that their covariance does."""
    a = torch.cat([seen(rows).flatten(1) for rows in blocks])
    x = torch.cat([knowledge.inputs("train", rows).flatten(1) for rows in blocks])
    mean_a, mean_x = a.double().mean(0), x.double().mean(0)
    a, x = a - mean_a.float(), x - mean_x.float()
    gram = torch.zeros((len(a), len(a)), dtype=torch.float64, device=a.device)
    for part in torch.split(a, 2**14, dim=1):
        gram += part.double() @ part.double().T
    values, vectors = torch.linalg.eigh(gram / len(a))
    scaled = (vectors / math.sqrt(len(a))).float()
    return _in_basis(mean_a, mean_x, values, scaled.T @ a, x.T @ scaled, a.shape[1])


def _in_basis(
    mean_a: Tensor, mean_x: Tensor, values: Tensor, to_basis: Tensor, to_image: Tensor, entries: int
) -> Moments:
    kept = values > 1e-12 * values.amax().clamp(
        min=1e-300
    )  # what is left are rounding errors of directions that never vary
    return Moments(
        mean_a, mean_x, values[kept], to_basis[kept], to_image[:, kept], float(values[kept].sum()) / entries
    )
