"""The Hammersley-Chapman-Robbins bound on what an unbiased reader of the noised features can know of the input.

One search per image serves all noise levels: it runs for a noise of one RMS of the features, and at noise sigma the
shift is scaled by sigma / RMS; what displacement that causes is then computed exactly, in float64.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from hushsweep.workers.bounds import bound_modes
from hushsweep.workers.bounds.search import ShiftSearch
from hushsweep.workers.limits import check_limits
from hushsweep.workers.measures.accuracy import mean_statistic
from hushsweep.workers.measures.base import (
    FittedPoint,
    MeasureRows,
    Statistic,
    Subject,
    row_schema,
)
from hushsweep.workers.measures.shift_finder import ShiftFinder

_UNBOUNDED = "no finite bound: in float64 the features do not change along a shift of this size"
_UNIT = "normalised pixel"
_MEANS = ("std_bound_mean", "std_bound_low_mean", "mse_bound")


@dataclass(frozen=True, kw_only=True)
class Hcr:
    """Bounds from the shifts that Algorithm 1 of arXiv:2404.02866 finds; the defaults are its for MNIST."""

    VERSION: ClassVar[int] = 1

    images: int | None = field(default=None, metadata={"ge": 1})
    """Only the first so many decodable images; null is all."""
    restarts: int = field(default=25, metadata={"ge": 1})
    """Searches per image; the bound of a mode is the largest over them."""
    rounds: int = field(default=10, metadata={"ge": 1})
    """Linear solves per restart."""
    step: float = field(default=1 / 200, metadata={"gt": 0})
    """Length of the feature displacement aimed at, in units of the noise standard deviation."""
    lsqr_tolerance: float = field(default=0.02, metadata={"gt": 0})
    """Tolerance of a linear solve, relative to the length of its target."""
    max_iterations: int | None = field(default=None, metadata={"ge": 1})
    """Iterations of a linear solve at most; null is twice the number of inputs."""
    precision: Literal["float64", "float32"] = "float64"
    """Number format of the linear solves; the bound itself is always float64. float32 halves the time of a search (a
    quarter for convolutions on a CPU), but rounding then moves single modes by 1e-3."""
    low_frequency: int = field(default=8, metadata={"ge": 1})
    """Side of the block of low-frequency modes that is reported on its own."""

    def __post_init__(self) -> None:
        check_limits(self)
        if self.precision not in ("float64", "float32"):
            raise ValueError(f"precision: expected float64 or float32, got {self.precision!r}")

    def inapplicable(self, point: FittedPoint) -> str | None:
        """Only noise of a known density at the cut has a chi-square divergence."""
        if point.cut_noise is None:
            return "no HCR bound: the chain is not a single additive noise at the cut"
        if point.cut_noise.noise_std == 0:
            return "no HCR bound: without noise nothing bounds the reader"
        return None

    def measure(self, subject: Subject, points: Sequence[FittedPoint]) -> MeasureRows:
        """Bound every point on the images of the shard; points of one seed share the search."""
        search = ShiftFinder(self, subject)
        collector = _Collector(subject, self.low_frequency, search.max_items)
        positions = self._positions(subject.positions, points)
        for part in _split(positions, max(1, search.max_items // self.restarts)):
            x = subject.activations.inputs(part)
            collector.begin(part, x)
            for seed in sorted({point.seed for point in points}):
                found = search.run(part, x, seed)
                collector.add_shifts(seed, found)
                for point in points:
                    if point.seed == seed:
                        collector.add_bounds(point, self._reported(point, part), found)
            subject.progress(len(part))
        return collector.rows()

    def _positions(self, shard: range, points: Sequence[FittedPoint]) -> range:
        """Positions of the shard that some point reports within its first ``images`` images."""
        if self.images is None:
            return shard
        return range(
            shard.start, max(shard.start, min(shard.stop, self.images * max(p.step for p in points)))
        )

    def _reported(self, point: FittedPoint, positions: range) -> list[bool]:
        last = math.inf if self.images is None else self.images * point.step
        return [point.reports(position) and position < last for position in positions]

    def summarise(self, per_image: pa.Table) -> Sequence[Statistic]:
        """Means, medians and the largest over images of what each image's modes have."""
        complete = per_image.filter(pc.equal(per_image["status"], "complete"))
        if complete.num_rows == 0 and per_image.num_rows > 0:
            raise ValueError(f"no image has a finite bound; the first: {per_image['reason'][0]}")
        columns = {name: complete[name].to_numpy() for name in (*_MEANS, "std_bound_max")}
        statistics = [
            mean_statistic(name, columns[name], f"{_UNIT}^2" if name == "mse_bound" else _UNIT)
            for name in _MEANS
        ]
        for name, source, reduce in (
            ("std_bound_median", "std_bound_mean", np.median),
            ("std_bound_low_median", "std_bound_low_mean", np.median),
            ("std_bound_max", "std_bound_max", np.max),
        ):
            statistics.append(Statistic(name, float(reduce(columns[source])), _UNIT, complete.num_rows))
        return statistics


class _Collector:
    """Turns shifts into rows, chunk by chunk."""

    def __init__(self, subject: Subject, low_frequency: int, max_batch: int) -> None:
        self._subject, self._low, self._max_batch = subject, low_frequency, max_batch
        self._rows = list[dict[str, Any]]()
        self._modes = dict[str, tuple[Tensor, int]]()
        self._shifts = list[pa.Table]()

    @torch.no_grad()
    def begin(self, part: range, x: Tensor) -> None:
        """Turn to the images at positions ``part``, normalised in ``x``."""
        self._part, self._x = part, x.double()
        batches = torch.split(self._x, self._max_batch)
        self._clean = torch.cat([self._subject.double_model.features(batch).flatten(1) for batch in batches])

    def add_shifts(self, seed: int, search: ShiftSearch) -> None:
        """Keep the images' shifts as they are."""
        n, restarts = search.input_shift.shape[:2]
        flat = search.input_shift.flatten(2).cpu().numpy()
        indices = self._subject.activations.images.indices[self._part.start : self._part.stop]
        self._shifts.append(
            pa.table(
                {
                    "seed": np.full(n * restarts, seed, np.int64),
                    "image_index": np.repeat(indices, restarts),
                    "restart": np.tile(np.arange(restarts, dtype=np.int32), n),
                    "reference_noise_std": np.full(n * restarts, self._subject.rms()),
                    "input_shift": pa.ListArray.from_arrays(
                        np.arange(n * restarts + 1, dtype=np.int32) * flat.shape[2], flat.ravel()
                    ),
                }
            )
        )

    def add_bounds(self, point: FittedPoint, reported: list[bool], search: ShiftSearch) -> None:
        """Bound the modes of the reported images under one point's noise."""
        noise, images = point.cut_noise, self._subject.activations.images
        assert noise is not None
        chosen = [row for row, is_reported in enumerate(reported) if is_reported]
        if not chosen:
            return
        bounds = bound_modes(
            self._subject.double_model,
            self._x[chosen],
            search.input_shift[chosen].double() * (noise.noise_std / self._subject.rms()),
            noise.chi_square,
            clean=self._clean[chosen],
            max_batch=self._max_batch,
        )
        for row, modes, input_norm, feature_norm, chi_square in zip(chosen, *bounds, strict=True):
            position = self._part[row]
            found: dict[str, Any] = {
                "point_id": point.point_id,
                "image_index": int(images.indices[position]),
                "image": images.names[position],
                "label": int(images.labels[position]),
                "shift_norm": input_norm.tolist(),
                "feature_shift_norm": feature_norm.tolist(),
                "chi_square": chi_square.tolist(),
                "lsqr_iterations": search.iterations[row].tolist(),
                "lsqr_residual": search.residual[row].tolist(),
            }
            if bool(modes.isfinite().all()):
                low = modes[:, : self._low, : self._low]
                found |= {
                    "status": "complete",
                    "reason": None,
                    "std_bound_mean": float(modes.mean()),
                    "std_bound_median": float(modes.quantile(0.5)),
                    "std_bound_max": float(modes.max()),
                    "std_bound_low_mean": float(low.mean()),
                    "mse_bound": float(modes.square().mean()),
                }
                total, count = self._modes.get(point.point_id, (torch.zeros_like(modes), 0))
                self._modes[point.point_id] = (total + modes, count + 1)
            else:
                found |= {"status": "not_applicable", "reason": _UNBOUNDED}
            self._rows.append(found)

    def rows(self) -> MeasureRows:
        """Return what was collected as tables."""
        channels, height, width = self._subject.model.input_shape
        channel, row, column = np.indices((channels, height, width), dtype=np.int32).reshape(3, -1)
        modes = [
            pa.table(
                {
                    "point_id": pa.repeat(point_id, channel.size),
                    "bound": pa.repeat("hcr", channel.size),
                    "basis": pa.repeat("dct", channel.size),
                    "channel": channel,
                    "row": row,
                    "column": column,
                    "std_bound": (total / count).flatten().cpu().numpy(),
                    "n": np.full(channel.size, count, np.int64),
                }
            )
            for point_id, (total, count) in self._modes.items()
        ]
        return MeasureRows(
            per_image=[pa.Table.from_pylist(self._rows, schema=row_schema("per_image/hcr"))],
            modes=pa.concat_tables(modes) if modes else None,
            shifts=pa.concat_tables(self._shifts) if self._shifts else None,
        )


def _split(positions: range, size: int) -> list[range]:
    return [positions[start : start + size] for start in range(0, len(positions), size)]
