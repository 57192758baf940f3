"""Lower bounds on what a reader of the noised features can know of an image: exact, multi-point, estimator-free.

Everything that does not depend on the noise (Jacobian, its decomposition, shifts and the displacements they cause) is
found once per image and serves all noise levels; see `geometry`. What one bound is at one noise level is in
`noise_level`, what becomes of it in the tables in `bound_rows`. Noise that acts on the image or whose size depends on
it shares nothing between points: see `channel_geometry` and `channel_bounds`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import ClassVar, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hushsweep.workers.bounds import rero_bound
from hushsweep.workers.bounds.search import SEARCHES
from hushsweep.workers.limits import check_limits
from hushsweep.workers.measures.accuracy import mean_statistic
from hushsweep.workers.measures.base import (
    FittedPoint,
    MeasureRows,
    Statistic,
    Subject,
    reports,
)
from hushsweep.workers.measures.bound_rows import Collector
from hushsweep.workers.measures.channel_bounds import channel_bounds
from hushsweep.workers.measures.channel_geometry import ChannelMap, find_channel
from hushsweep.workers.measures.geometry import STARTS, Chunk, GeometryFinder
from hushsweep.workers.measures.noise_level import HOLDS_FOR, Found, bounds_at

BoundName = Literal["cramer_rao", "barankin", "hcr", "dfil", "van_trees", "two_point", "mmse", "rero"]
SearchName = Literal[
    "jacobian", "dct", "pixel", "inverse_iteration", "pseudo_inverse", "lsqr", "nullspace", "large_step"
]

_PIXEL, _GREY = "normalised pixel", "grey level"
_MEANS = {
    "std_bound_mean": ("std_mean", _PIXEL),
    "std_bound_low_mean": ("std_low_mean", _PIXEL),
    "mse_bound": ("mse", f"{_PIXEL}^2"),
    "mse_bound_grey": ("mse_grey", f"{_GREY}^2"),
    "std_estimate_mean": ("std_mean", _PIXEL),
    "mse_estimate": ("mse", f"{_PIXEL}^2"),
    "active_features": ("active_features", "features"),
    "rank": ("rank", ""),
    "non_identifiable": ("non_identifiable", "fraction"),
    "unresolved": ("unresolved", "fraction"),
    "radius": ("radius", _PIXEL),
}
"""Columns per image, the statistic that is their mean over images, and its unit."""
_MEDIANS = {
    "std_bound_mean": "std_median",
    "std_estimate_mean": "std_median",
    "mse_bound": "mse_median",
    "radius": "radius_median",
}


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Bounds from the exact Jacobian where it fits in memory, and from shifts of the image where it does not."""

    VERSION: ClassVar[int] = 1

    images: int | None = field(default=None, metadata={"ge": 1})
    """Only so many of the decodable images, evenly spaced; null is all."""
    bounds: tuple[BoundName, ...] = ("cramer_rao", "barankin", "hcr", "dfil", "van_trees")
    """Which bounds: cramer_rao, barankin, hcr, dfil, van_trees, two_point, mmse, rero."""
    shifts: tuple[SearchName, ...] = ("jacobian",)
    """Searches whose shifts barankin and hcr rest on; large_step searches anew for every noise level."""
    basis: Literal["dct", "pixel"] = "dct"
    """Whose coordinates are bounded: the modes of the DCT-II of every channel, or single pixels."""
    step: float = field(default=1 / 1000, metadata={"gt": 0})
    """Length of the displacement of the features that a shift aims at, in units of their RMS."""
    directions: int = field(default=64, metadata={"ge": 1})
    """Shifts per image and search at most."""
    restarts: int = field(default=25, metadata={"ge": 2})
    """Random starts of lsqr and pseudo_inverse, also those of the estimate where the Jacobian is too large."""
    rounds: int = field(default=10, metadata={"ge": 1})
    """Linear solves per start of lsqr and inverse_iteration."""
    lsqr_tolerance: float = field(default=0.02, metadata={"gt": 0})
    """Tolerance of a linear solve of lsqr, as in the measure hcr."""
    solve_tolerance: float = field(default=1e-6, metadata={"gt": 0})
    """Relative tolerance of the converged solves of pseudo_inverse."""
    max_iterations: int | None = field(default=None, metadata={"ge": 1})
    """Iterations of a linear solve at most; null is twice the number of inputs."""
    precision: Literal["float64", "float32"] = "float64"
    """Number format of Jacobian and linear solves; float64 after them, and wherever noise depends on the image."""
    memory_gb: float = field(default=8.0, metadata={"gt": 0})
    """Memory that the exact Jacobian of an image may take, GiB; above it, it is estimated."""
    distance: float = field(default=1.0, metadata={"gt": 0})
    """Feature distance within which two_point looks for the longest move, in units of the noise."""
    prior_std: float = field(default=0.5, metadata={"gt": 0})
    """Blur of the prior that van_trees speaks of: the image plus N(0, prior_std^2) on every normalised pixel."""
    prior_draws: int = field(default=16, metadata={"ge": 2})
    """Blurred images over which it averages."""
    low_frequency: int = field(default=8, metadata={"ge": 1})
    """Side of the block of low-frequency modes that is reported on its own."""
    pictures: int = field(default=0, metadata={"ge": 0})
    """Keep pictures of so many of the images, evenly spaced: as they are, plus the bound, and moved."""

    def __post_init__(self) -> None:
        check_limits(self)
        for name, known in {"bounds": get_args(BoundName), "shifts": get_args(SearchName)}.items():
            for value in getattr(self, name):
                if value not in known:
                    raise ValueError(f"{name}: unknown {value!r}; known: {', '.join(sorted(known))}")
            # in one order, so that the same set is the same measure; rows bring it as a list
            object.__setattr__(self, name, tuple(value for value in known if value in getattr(self, name)))
        for name, allowed in {"basis": ("dct", "pixel"), "precision": ("float64", "float32")}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: expected {' or '.join(allowed)}, got {getattr(self, name)!r}")
        if not self.bounds:
            raise ValueError("bounds: expected at least one")
        if {"barankin", "hcr"} & set(self.bounds) and not self.shifts:
            raise ValueError("shifts: barankin and hcr need at least one search")

    @property
    def searches(self) -> tuple[str, ...]:
        """Searches whose shifts some bound asked for rests on."""
        wanted: list[str] = list(self.shifts) if {"barankin", "hcr"} & set(self.bounds) else []
        if "two_point" in self.bounds:
            wanted += [name for name in ("nullspace",) if name in self.shifts and name not in wanted]
            wanted.append("two_point")
        if "large_step" in wanted and "jacobian" not in wanted:
            wanted.append(STARTS["large_step"])
        return tuple(wanted)

    @property
    def needing_jacobian(self) -> tuple[str, ...]:
        """Bounds and searches asked for that rest on the exact Jacobian."""
        bounds = tuple(name for name in self.bounds if name in ("cramer_rao", "dfil", "mmse"))
        return bounds + tuple(name for name in self.searches if SEARCHES[name].needs_jacobian)

    def inapplicable(self, point: FittedPoint) -> str | None:
        """Only noise of a known density at the cut has bounds, or any that is Gaussian given the image."""
        if point.cut_noise is None and point.channel is None:
            return (
                "no bound: the chain is not a single additive noise at the cut, nor a single noise that is Gaussian "
                "with independent entries given the image"
            )
        noise = point.cut_noise or (point.channel and point.channel.mechanism)
        if getattr(noise, "noise_std", None) == 0:
            return "no bound: without noise nothing bounds the reader"
        return None

    def measure(self, subject: Subject, points: Sequence[FittedPoint]) -> MeasureRows:
        """Bound every point on the images of the shard."""
        collector = Collector(self, subject)
        reported = {step: self._reported(subject, step) for step in {point.step for point in points}}
        additive = [point for point in points if point.cut_noise is not None]
        for point, chunk, found in chain(
            self._additive(subject, additive, reported),
            self._channels(subject, [point for point in points if point.channel is not None], reported),
        ):
            chosen = reported[point.step]
            collector.add(point, chunk, found, set(chosen), frozenset(_evenly(chosen, self.pictures)))
        return collector.rows()

    def _additive(
        self, subject: Subject, points: Sequence[FittedPoint], reported: Mapping[int, Sequence[int]]
    ) -> Iterator[tuple[FittedPoint, Chunk, list[Found]]]:
        """Bound points of additive noise at the cut; all of them share what does not depend on the noise."""
        if not points:
            return
        finder = GeometryFinder(self, subject, sorted({_noise_std(point) for point in points}))
        for part in finder.parts(_chosen(subject, points, reported)):
            for seed in sorted({point.seed for point in points}):
                geometry = finder.find(part, seed)
                for point in (point for point in points if point.seed == seed):
                    yield point, geometry, bounds_at(self, geometry, point)
            subject.progress(len(part))

    def _channels(
        self, subject: Subject, points: Sequence[FittedPoint], reported: Mapping[int, Sequence[int]]
    ) -> Iterator[tuple[FittedPoint, Chunk, list[Found]]]:
        """Bound points whose noise depends on the image: each has its own Jacobians."""
        for point in points:
            assert point.channel is not None
            channel = ChannelMap(point.channel, subject)
            for part in channel.parts(_chosen(subject, [point], reported)):
                geometry = find_channel(self, subject, point, channel, part)
                yield point, geometry, channel_bounds(self, geometry)
                subject.progress(len(part))

    def _reported(self, subject: Subject, step: int) -> list[int]:
        """Positions that points of a step report: evenly spaced, since folders go class by class."""
        positions = [p for p in range(len(subject.activations.images)) if reports(p, step)]
        return positions if self.images is None else _evenly(positions, self.images)

    def summarise(self, per_image: pa.Table) -> Sequence[Statistic]:
        """Means and medians over images of every bound."""
        rows = per_image.filter(pc.is_valid(per_image["bound"]))
        kinds = rows.group_by(["bound", "search"], use_threads=False).aggregate([]).to_pylist()
        if not kinds:
            raise ValueError("no decodable image is left to measure on")
        statistics = list[Statistic]()
        for kind in kinds:
            chosen = pc.equal(rows["bound"], kind["bound"])
            same = (
                pc.is_null(rows["search"])
                if kind["search"] is None
                else pc.equal(rows["search"], kind["search"])
            )
            statistics += _summary(rows.filter(pc.and_(chosen, same)), kind["bound"], kind["search"])
        return statistics


def _evenly(items: Sequence[int], count: int) -> list[int]:
    """Return the first item of each of ``count`` nearly equal parts; all of them if there are no more."""
    size = len(items)
    if count >= size:
        return list(items)
    return [item for rank, item in enumerate(items) if rank * count // size != (rank - 1) * count // size]


def _chosen(
    subject: Subject, points: Sequence[FittedPoint], reported: Mapping[int, Sequence[int]]
) -> list[int]:
    """Positions of this shard that some of the points report."""
    every = chain(*(reported[step] for step in {point.step for point in points}))
    return sorted(set(every).intersection(subject.positions))


def _noise_std(point: FittedPoint) -> float:
    assert point.cut_noise is not None
    return point.cut_noise.noise_std


def _summary(rows: pa.Table, bound: str, search: str | None) -> list[Statistic]:
    """Statistics of one bound; one row without a number, with the reason, if no image has it."""
    prefix = bound if search in (None, bound) else f"{bound}_{search}"
    holds_for = HOLDS_FOR.get(bound)
    complete = rows.filter(pc.equal(rows["status"], "complete"))
    if complete.num_rows == 0:
        return [Statistic(prefix, None, "", 0, None, rows["reason"][0].as_py(), holds_for)]
    if bound == "rero":
        return [_reconstruction(complete, prefix, holds_for)]
    note = next((reason for reason in complete["reason"].to_pylist() if reason is not None), None)
    found = list[Statistic]()
    for column, (name, unit) in _MEANS.items():
        values = complete[column].drop_null().to_numpy().astype(np.float64)
        if len(values):
            mean = mean_statistic(f"{prefix}_{name}", values, unit)
            found.append(mean._replace(holds_for=holds_for, reason=note))
            if column in _MEDIANS:
                median = float(np.median(values))
                found.append(
                    Statistic(
                        f"{prefix}_{_MEDIANS[column]}", median, unit, len(values), None, note, holds_for
                    )
                )
    missing = rows.num_rows - complete.num_rows
    if missing:
        without = rows.filter(pc.not_equal(rows["status"], "complete"))
        reason = without["reason"][0].as_py()
        found.append(Statistic(f"{prefix}_missing", missing, "images", rows.num_rows, None, reason))
    return found


def _reconstruction(complete: pa.Table, prefix: str, holds_for: str | None) -> Statistic:
    """No attacker that knows the images themselves picks the right one more often, had each the same chance."""
    images = complete.num_rows
    farthest = float(pc.max(complete["distance"]).as_py())
    success = float(rero_bound(1 / images, farthest))
    return Statistic(f"{prefix}_success", success, "fraction", images, None, None, holds_for)
