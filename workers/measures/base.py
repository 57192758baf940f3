"""What a measure is, and what it is given of a trial."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import pyarrow as pa

from hushsweep.datasets.results import arrow_schema
from hushsweep.workers.features import Activations
from hushsweep.workers.mechanisms import AdditiveNoise, FittedMechanism
from hushsweep.workers.models import SplitModel


@dataclass(frozen=True)
class FittedStage:
    """A mechanism of a chain, ready to act."""

    purpose: str
    """Names its noise stream: where it acts and its place in the chain, e.g. ``cut/0``."""
    at: str
    mechanism: FittedMechanism


def reports(position: int, step: int) -> bool:
    """Tell whether points of a step report the image at ``position``; see `FittedPoint.step`."""
    return step == 1 or position % step == 1


@dataclass(frozen=True, kw_only=True)
class FittedPoint:
    """A point with every mechanism of its chain fitted."""

    point_id: str
    seed: int
    stages: tuple[FittedStage, ...]
    step: int = 1
    """2 if every other image chose the level: then only positions 1, 3, 5, ... are reported."""

    def reports(self, position: int) -> bool:
        """Tell whether this point reports the image at ``position`` of the image set."""
        return reports(position, self.step)

    @property
    def cut_noise(self) -> AdditiveNoise | None:
        """The noise, if all that the chain does is to add noise of a known law once, at the cut."""
        if len(self.stages) == 1 and self.stages[0].at == "cut":
            mechanism = self.stages[0].mechanism
            return mechanism if isinstance(mechanism, AdditiveNoise) else None
        return None


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What all measures of a trial share: the model, the images of this shard and their clean activations."""

    activations: Activations
    positions: range
    """This shard's part of the image set."""
    rms: Callable[[], float]
    """RMS of the clean activations at the cut over all images."""
    cache: Path | None = None
    """Folder for what later runs can use again; None keeps nothing."""
    key: dict[str, Any] = field(default_factory=dict)
    """Identifies data, model, weights and cut."""
    progress: Callable[[int], None] = field(default=lambda images: None)

    def image_indices(self, positions: Iterable[int]) -> list[int]:
        """Return the places in the full data set of images at positions: the keys of their noise."""
        return [int(self.activations.images.indices[position]) for position in positions]

    @property
    def model(self) -> SplitModel:
        """The network, in float32 on the device."""
        return self.activations.model

    @cached_property
    def double_model(self) -> SplitModel:
        """The same network in float64, made when first asked for."""
        return self.model.double()


def check_limits(options: Any) -> None:
    """Hold a dataclass to the limits ``ge`` and ``gt`` in its fields' metadata; null may stand where it is default.

    Raises:
        ValueError: naming the field, the limit and what was found.
    """
    for declared in fields(options):
        value, limits = getattr(options, declared.name), declared.metadata
        if limits and value is None and declared.default is None:
            continue
        if "ge" in limits and not value >= limits["ge"]:
            raise ValueError(f"{declared.name}: expected a number >= {limits['ge']}, got {value}")
        if "gt" in limits and not (math.isfinite(value) and value > limits["gt"]):
            raise ValueError(f"{declared.name}: expected a finite number > {limits['gt']}, got {value}")


class Statistic(NamedTuple):
    """One number of a point, with the spread of its mean over images."""

    name: str
    value: float | None
    """None where there is none, with the reason."""
    unit: str
    n: int
    stderr: float | None = None
    reason: str | None = None
    holds_for: str | None = None
    """Of a bound: which attackers it holds for, and what it is an average over."""


def row_schema(table: str) -> pa.Schema:
    """Arrow schema of a measure's rows per image, without the ids that the commit adds."""
    return pa.schema(
        [column for column in arrow_schema(table) if column.name not in ("measure_id", "computed_by")]
    )


@dataclass(frozen=True)
class MeasureRows:
    """What a measure found on the images of one shard."""

    per_image: Iterable[pa.Table]
    """In parts, one held in memory at a time; a part per point is read back fastest."""
    modes: pa.Table | None = None
    shifts: pa.Table | None = None
    pictures: pa.Table | None = None


@runtime_checkable
class Measure(Protocol):
    """A frozen dataclass whose fields are exactly the options that a sweep file may use."""

    VERSION: ClassVar[int]

    def inapplicable(self, point: FittedPoint) -> str | None:
        """Say why this measure has no value for a point, or None if it has one."""
        ...

    def measure(self, subject: Subject, points: Sequence[FittedPoint]) -> MeasureRows:
        """Measure the points on the images of one shard."""
        ...

    def summarise(self, per_image: pa.Table) -> Sequence[Statistic]:
        """Reduce the rows of one point, over the images of all shards, to its numbers."""
        ...
