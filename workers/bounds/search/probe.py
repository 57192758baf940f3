"""What every search is given, what it returns, and the measurement that all of them share."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hushsweep.workers.bounds.chi_square import require_positive
from hushsweep.workers.bounds.shifts import FeatureMap

if TYPE_CHECKING:
    from hushsweep.workers.bounds.cramer_rao import Decomposition

STILL = 2.0**-40
"""Displacements below this share of the features' norm are rounding: about 4000 times that of one float64."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One chunk of ``n`` images and all that a search may ask about them; lengths in units of ``x``.

    Raises:
        ValueError: a shape, length or count is not as stated.
    """

    model: FeatureMap
    """The network in the precision of the linear solves."""
    exact: FeatureMap
    """The same network in float64."""
    x: Tensor
    """``(n, channels, height, width)`` float64, normalised."""
    clean: Tensor
    """``(n, features)`` float64, the exact features of ``x``."""
    reference_std: float
    """Noise that directions are scaled for, feature units: one RMS of the features, > 0."""
    step: float
    """Length of the feature displacement that small shifts aim at, in units of ``reference_std``, > 0."""
    count: int
    """Shifts per image at most, >= 1."""
    decompositions: Callable[[], Sequence["Decomposition"]]
    """One per image, computed when first asked for; a ValueError says why that is impossible."""
    noise: Callable[[str, int], Tensor]
    """(purpose, how many) to ``(n, how many, *feature)``, unit normal, the same for an image in any company."""
    low: Tensor
    """``(channels, 1, 1)``, normalised value of a black pixel."""
    high: Tensor
    """``(channels, 1, 1)``, normalised value of a white pixel."""
    max_items: int
    """Network inputs at once, >= 1."""
    dtype: torch.dtype = torch.float64
    """Precision of ``model``."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of single searches, each named in the search that reads it."""

    def __post_init__(self) -> None:
        if self.x.dim() != 4 or self.x.dtype != torch.float64:
            raise ValueError(
                "x: expected float64 images (n, channels, height, width), "
                f"got {self.x.dtype} {tuple(self.x.shape)}"
            )
        if self.clean.dim() != 2 or len(self.clean) != len(self.x):
            raise ValueError(
                f"clean: expected features of {len(self.x)} images, got shape {tuple(self.clean.shape)}"
            )
        for name in ("reference_std", "step"):
            require_positive(name, getattr(self, name))
        for name in ("count", "max_items"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a whole number >= 1, got {getattr(self, name)}")
        if not bool((self.low < self.high).all()):
            raise ValueError("low, high: expected low < high in every channel")

    @property
    def inputs(self) -> int:
        """Number of entries of one input."""
        return self.x[0].numel()

    @property
    def features(self) -> int:
        """Number of features."""
        return self.clean.shape[1]

    @property
    def target(self) -> float:
        """Length of the feature displacement that small shifts aim at, feature units."""
        return self.step * self.reference_std

    @property
    def diameter(self) -> float:
        """Length of the diagonal of the box of valid inputs, from all black to all white."""
        return float((self.high - self.low).expand(self.x.shape[1:]).norm())

    @property
    def still(self) -> Tensor:
        """``(n,)``, feature units: a displacement up to here cannot be told from rounding, hence from zero."""
        still: Tensor = STILL * self.clean.norm(dim=1).clamp(
            min=self.reference_std * math.sqrt(self.features)
        )
        return still

    @torch.no_grad()
    def displacements(self, input_shift: Tensor) -> Iterator[Tensor]:
        """Yield the displacements that shifts ``(n, m, *input)`` cause, exact in the network, ``(part, features)``.

        All ``n m`` rows come in order, at most ``max_items`` together.
        """
        m, shift = input_shift.shape[1], input_shift.flatten(0, 1)
        for rows in torch.split(torch.arange(len(shift), device=shift.device), self.max_items):
            yield self.exact.features(self.x[rows // m] + shift[rows]).flatten(1) - self.clean[rows // m]

    def distances(self, input_shift: Tensor) -> Tensor:
        """Return the lengths of the displacements that shifts cause, exact in the network.

        Args:
            input_shift: ``(n, m, *input)``.

        Returns:
            ``(n, m)`` float64, feature units.
        """
        found = [part.norm(dim=1) for part in self.displacements(input_shift)]
        return torch.cat(found).reshape(input_shift.shape[:2])


class Shifts(NamedTuple):
    """Shifts found for ``n`` images, equally many for each; one that is less is filled up with scaled repeats."""

    input_shift: Tensor  # (n, m, *input) float64, units of x
    iterations: Tensor | None = None  # (n, m) int64, of the linear solves
    residual: Tensor | None = None  # (n, m) float64, relative, of the last linear solve
    linear_distance: Tensor | None = None  # (n, m) float64, |J e|, feature units, where the search knows it


@dataclass(frozen=True)
class Search:
    """An entry of the table of searches."""

    find: Callable[..., Shifts]
    """``find(probe)``, or ``find(probe, noise_std, start)`` for one that depends on the noise."""
    needs_jacobian: bool = False
    """Whether it asks for the exact decompositions; one per noise does so only without ``start``."""
    per_noise: bool = False
    """Whether it depends on the noise: ``start`` is the Shifts of another search, or None."""
