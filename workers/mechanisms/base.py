"""What a mechanism is: parameters as a sweep file spells them, fitted to the activations it will act on."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from hushsweep.workers.bounds import chi_square_gaussian, chi_square_laplace

UnitNoise = Callable[[str], Tensor]
"""Gives noise of standard deviation 1 of a named law in the shape of the batch; asked again, the same noise."""


class ActivationStatistics:
    """What a mechanism may know of the clean activations where it acts; computed when first asked for."""

    def __init__(self, rms: Callable[[], float]) -> None:
        self._rms = rms

    @cached_property
    def rms(self) -> float:
        """Root of the mean square over all decodable images and entries, the mean not removed (arXiv:2404.02866)."""
        return self._rms()


class FittedMechanism(Protocol):
    """A mechanism ready to act. One with a density between shifted inputs also has ``chi_square``.

    One whose output is, given its input, Gaussian with independent entries also has ``moments``: mean and standard
    deviation, ``(n, d)`` each. Where what leaves is a code of the activations, ``moments`` are the code's, ``code``
    gives it without noise and ``back`` is what the server makes of it.
    """

    def apply(self, activations: Tensor, noise: UnitNoise) -> Tensor:
        """Return what leaves, of the same shape and dtype; ``activations`` stay as they are."""
        ...


@runtime_checkable
class Mechanism(Protocol):
    """A frozen dataclass whose fields are exactly the keys that a sweep file may use."""

    VERSION: ClassVar[int]
    """Part of every point's identity: raise it when a change moves a number."""
    LEVELS: ClassVar[tuple[str, ...]]
    """Fields that express the strength, of which one is given; the first is the one that a search for a level sets."""

    def fit(self, statistics: ActivationStatistics) -> FittedMechanism:
        """Bind the parameters to the activations."""
        ...


@dataclass(frozen=True)
class Unchanged:
    """Lets activations leave as they are."""

    def apply(self, activations: Tensor, noise: UnitNoise) -> Tensor:
        """Return ``activations``."""
        return activations


@dataclass(frozen=True)
class AdditiveNoise:
    """Independent noise of one law and one standard deviation on every entry."""

    law: str
    noise_std: float

    def apply(self, activations: Tensor, noise: UnitNoise) -> Tensor:
        """Return ``activations`` plus noise of standard deviation ``noise_std``, in activation units."""
        return activations + self.noise_std * noise(self.law).to(activations.dtype)

    @property
    def fisher_std(self) -> float:
        """Standard deviation of the Gaussian noise with the same Fisher information: b of Laplace noise of scale b."""
        return self.noise_std if self.law == "gaussian" else self.noise_std / math.sqrt(2)

    @property
    def moments(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """Mean and standard deviation, ``(n, d)`` each, of what leaves given activations; of Gaussian noise alone."""
        if self.law != "gaussian":
            raise AttributeError(f"{self.law} noise is not Gaussian")
        return self._moments

    def _moments(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        mean = activations.flatten(1)
        return mean, torch.full_like(mean, self.noise_std)

    def chi_square(self, feature_shift: Tensor) -> Tensor:
        """Chi-square divergence of the noised activations shifted by ``feature_shift``.

        Args:
            feature_shift: ``(..., features)`` float64, activation units.

        Returns:
            ``(...)`` float64, >= 0, ``inf`` on overflow.
        """
        if self.law == "gaussian":
            return chi_square_gaussian(feature_shift, self.noise_std)
        return chi_square_laplace(feature_shift, self.noise_std / math.sqrt(2))


@dataclass(frozen=True, kw_only=True)
class Dithering:
    """Additive noise whose standard deviation is given relative to the activations' RMS, or absolutely."""

    VERSION: ClassVar[int] = 1
    LEVELS: ClassVar[tuple[str, ...]] = ("noise_scale", "noise_std")
    LAW: ClassVar[str]

    noise_scale: float | None = field(default=None, metadata={"ge": 0})
    """Standard deviation of the noise in units of the clean activations' RMS, >= 0."""
    noise_std: float | None = field(default=None, metadata={"ge": 0})
    """Standard deviation of the noise in activation units, >= 0."""

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in self.LEVELS if getattr(self, name) is not None}
        if len(given) != 1:
            raise ValueError(f"expected exactly one of {', '.join(self.LEVELS)}, got {len(given)}")
        for name, value in given.items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: expected a finite number >= 0, got {value}")

    def fit(self, statistics: ActivationStatistics) -> AdditiveNoise:
        """Turn the level into an absolute standard deviation."""
        if self.noise_std is not None:
            return AdditiveNoise(self.LAW, self.noise_std)
        assert self.noise_scale is not None
        return AdditiveNoise(self.LAW, self.noise_scale * statistics.rms)
