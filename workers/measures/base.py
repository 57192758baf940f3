"""What a measure is, and what it is given of a trial."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import pyarrow as pa

from hushsweep.datasets.images import ImageSet
from hushsweep.datasets.results import arrow_schema
from hushsweep.workers.features import Activations
from hushsweep.workers.mechanisms import AdditiveNoise, FittedMechanism
from hushsweep.workers.models import SplitModel, Trainable


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


def no_part(name: str) -> ImageSet:
    """Stand for the parts of a subject that was made without any.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"there is no part {name!r} of these images to learn from")


def no_fresh_network(classes: int, extra_channels: int, seed: int) -> Trainable:
    """Stand for the architecture of a subject that was made without one.

    Raises:
        ValueError: always.
    """
    raise ValueError("the architecture of this network is not known, so no fresh one can be built")


@dataclass(frozen=True, kw_only=True)
class FittedPoint:
    """A point with every mechanism of its chain fitted."""

    point_id: str
    seed: int
    stages: tuple[FittedStage, ...]
    leaves: str = "cut"
    """Where what leaves is taken: ``cut``, or ``input`` if the last mechanism acts there."""
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

    @property
    def channel(self) -> FittedStage | None:
        """The stage, if what leaves is, given the image, Gaussian with independent entries, and not `cut_noise`."""
        if len(self.stages) != 1 or self.cut_noise is not None:
            return None
        return self.stages[0] if hasattr(self.stages[0].mechanism, "moments") else None


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
    part: Callable[[str], ImageSet] = field(default=no_part)
    """``train`` and ``validation``: images to learn from and to choose on, as the network sees the reported ones."""
    fresh: Callable[[int, int, int], Trainable] = field(default=no_fresh_network)
    """Given classes, channels beside the image's own, and a seed: an untrained network of the server's architecture."""
    full_epochs: int | None = None
    """Of a training of the server's architecture, where it names a number."""

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
