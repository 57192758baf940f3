"""Mutual information between images and what leaves: bounds of the known channel, and the published estimator.

An estimate over all images belongs to no image and to no shard: the shard with the first of the images computes it. The
terms of the bounds that are means over images are rows of their own, of every shard.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from hushsweep.workers.information import (
    contrast,
    informative_entries,
    ite_knn,
    log_densities,
    upper_diagonal,
    upper_full,
    upper_held_out,
)
from hushsweep.workers.limits import check_limits
from hushsweep.workers.measures.accuracy import mean_statistic
from hushsweep.workers.measures.base import (
    FittedPoint,
    FittedStage,
    MeasureRows,
    Statistic,
    Subject,
    reports,
    row_schema,
)
from hushsweep.workers.measures.channel import Channels, active_stages
from hushsweep.workers.noise import stream_generator, unit_noise

_DRAWN = (
    "every attacker who sees what leaves once; images drawn like these, on average over them and the noise"
)
HOLDS_FOR = {
    "mi_upper_diagonal": "every attacker who sees what leaves once; images whose entries have the variances of these",
    "mi_upper_full": "every attacker who sees what leaves once; images that have the covariance of these",
    "mi_upper_held_out": _DRAWN,
    "mi_upper_leave_one_out": _DRAWN,
    "mi_lower_infonce": "what leaves once; images drawn like these, on average over them and the noise",
}
"""Of the bounds: the estimates of `ite_knn` are none."""
BIASED = "biased: ITE's nearest-neighbour estimator, for comparison with published numbers only"
_BOUNDS = (
    "mi_upper_diagonal",
    "mi_upper_full",
    "mi_upper_held_out",
    "mi_upper_leave_one_out",
    "mi_lower_infonce",
)
_PUBLISHED = ("mi_knn", "mi_knn_shuffled", "entropy_published", "mi_published")
_BOUND_BYTES, _KNN_BYTES = 56, 24
"""Memory per image and entry, at the peak."""
_ROWS = 2**24
"""Pairs of images whose densities are held at once: 128 MiB."""


@dataclass(frozen=True, kw_only=True)
class Information:
    """Bounds on the mutual information of image and what leaves, bits, beside the estimate that papers report."""

    VERSION: ClassVar[int] = 1

    images: int = field(default=1000, metadata={"ge": 8})
    """So many of the decodable images at most, evenly spaced; the lower bound is at most log2 of it."""
    knn: bool = True
    """Also the published estimator, which is biased, with its control."""
    knn_images: int = field(default=10_000, metadata={"ge": 8})
    """So many of the decodable images at most for that one, evenly spaced."""
    memory_gb: float = field(default=8.0, metadata={"gt": 0})
    """Memory that the images may take, GiB; above it there is no number, with the reason."""

    def __post_init__(self) -> None:
        check_limits(self)

    def inapplicable(self, point: FittedPoint) -> str | None:
        """Without noise the information is all there is; without known noise only the biased estimate is left."""
        if not active_stages(point):
            return "no information measured: nothing hides the image"
        return None if self.knn else unknown_channel(point)

    def measure(self, subject: Subject, points: Sequence[FittedPoint]) -> MeasureRows:
        """Measure the points, one after the other, on what they share."""
        channels = Channels(subject)
        return MeasureRows(per_image=(_Point(self, subject, channels, point).rows() for point in points))

    def summarise(self, per_image: pa.Table) -> Sequence[Statistic]:
        """Means of what has a term per image; the rest as it is."""
        rows = per_image.filter(pc.is_valid(per_image["estimate"]))
        if rows.num_rows == 0:
            raise ValueError("no decodable image is left to measure on")
        overall = rows.filter(pc.is_null(rows["image_index"])).to_pylist()
        found = {
            row["estimate"]: Statistic(
                row["estimate"],
                row["value"],
                row["unit"],
                row["images"],
                None,
                row["reason"],
                HOLDS_FOR.get(row["estimate"]) if row["value"] is not None else None,
            )
            for row in overall
        }
        terms = rows.filter(pc.is_valid(rows["image_index"]))
        for name in pc.unique(terms["estimate"]).to_pylist():
            values = terms.filter(pc.equal(terms["estimate"], name))["value"].to_numpy()
            mean = mean_statistic(name, values, "bits")
            found[name] = mean._replace(holds_for=HOLDS_FOR[name], reason=_note(mean))
        return [found[name] for name in sorted(found)]


def unknown_channel(point: FittedPoint) -> str | None:
    """Say why what leaves is not known to be Gaussian given the image, or None if it is."""
    *before, last = active_stages(point)
    if before:
        return "no bound on the information: something acts before the last mechanism"
    if not hasattr(last.mechanism, "moments"):
        return (
            "no bound on the information: what leaves is not known to be Gaussian with independent entries, given the "
            "image"
        )
    return None


class _Point:
    """One point on the images of a shard."""

    def __init__(
        self, options: Information, subject: Subject, channels: Channels, point: FittedPoint
    ) -> None:
        self._options, self._subject, self._channels, self._point = options, subject, channels, point
        self._rows = list[dict[str, Any]]()
        available = [p for p in range(len(subject.activations.images)) if reports(p, point.step)]
        self._positions = evenly(available, options.images)
        self._knn_positions = evenly(available, options.knn_images)
        self._whole = bool(available) and available[0] in subject.positions

    def rows(self) -> pa.Table:
        """Return all rows of the point that this shard owes."""
        missing = unknown_channel(self._point)
        if missing is None:
            try:
                self._bounds(active_stages(self._point)[-1])
            except ValueError as error:
                missing = str(error)
        if missing is not None:
            for name in _BOUNDS:
                self._add(name, None, len(self._positions), missing)
        if self._options.knn and self._whole:
            try:
                self._published()
            except ValueError as error:
                for name in _PUBLISHED:
                    self._add(name, None, len(self._knn_positions), str(error))
        return pa.Table.from_pylist(self._rows, schema=row_schema("per_image/information"))

    def _bounds(self, stage: FittedStage) -> None:
        positions = self._positions
        own = [place for place, position in enumerate(positions) if position in self._subject.positions]
        if not own:
            return
        self._require(len(positions), self._channels.entries(stage.at), _BOUND_BYTES)
        if len(positions) < 8:
            raise ValueError(f"no bound on the information: it needs 8 images, there are {len(positions)}")
        mean, std = informative_entries(*self._channels.moments(stage, positions))
        self._add("mi_lower_cap", math.log(len(positions)), len(positions))
        if self._whole:
            self._add("mi_upper_diagonal", upper_diagonal(mean, std), len(positions))
            self._possible("mi_upper_full", lambda: upper_full(mean, std), _few(*mean.shape))
        self._possible("mi_upper_held_out", lambda: upper_held_out(mean, std)[own])
        for part in _split(own, max(1, _ROWS // len(positions))):
            unit = self._unit_noise(stage, [positions[place] for place in part], mean.shape[1], mean.device)
            there = torch.tensor(part, device=mean.device)
            found = contrast(log_densities(unit, there, mean, std), there)
            self._add_terms("mi_lower_infonce", part, found.lower)
            self._add_terms("mi_upper_leave_one_out", part, found.upper)

    def _unit_noise(
        self, stage: FittedStage, positions: Sequence[int], entries: int, device: torch.device
    ) -> Tensor:
        return unit_noise(
            "gaussian",
            (entries,),
            seed=self._point.seed,
            purpose=f"information/{stage.purpose}",
            image_indices=self._subject.image_indices(positions),
            draw=0,
            device=device,
        )

    def _possible(self, name: str, compute: Callable[[], float | Tensor], reason: str | None = None) -> None:
        """Add a bound; one that is too large to compute leaves the others their chance."""
        try:
            found = compute()
        except ValueError as error:
            self._add(name, None, len(self._positions), str(error))
            return
        if isinstance(found, float):
            self._add(name, found, len(self._positions), reason)
        else:
            own = [row for row, p in enumerate(self._positions) if p in self._subject.positions]
            self._add_terms(name, own, found)

    def _published(self) -> None:
        """The estimate of papers, of real noised images; in one shard, since it takes all images."""
        positions, stages = self._knn_positions, active_stages(self._point)
        entries = self._channels.entries(stages[0].at) + self._channels.entries(stages[-1].at)
        self._require(len(positions), entries, _KNN_BYTES)
        left = self._channels.leaves(self._point, positions)
        if not left.noisy:
            raise ValueError(
                "no estimate: no noise is drawn, so of continuous values the information is infinite"
            )
        count = len(positions)
        # the estimator compares halves, and in the order of files these may be other classes or other writers
        order = self._rng("order").permutation(count)
        clean = self._channels.clean(stages[-1].at, positions).flatten(1).cpu().numpy()[order]
        after = left.values.cpu().numpy()[order]
        mixed = after[self._rng("shuffled").permutation(count)]
        information = ite_knn(clean, after, self._rng("halves"))
        entropy = ite_knn(clean, clean, self._rng("halves"))
        self._add("mi_knn", information, count, BIASED)
        self._add(
            "entropy_published", entropy, count, f"{BIASED}; the entropy of continuous values is infinite"
        )
        note = "what the estimator says of pairs that have nothing in common: 0 is right"
        self._add("mi_knn_shuffled", ite_knn(clean, mixed, self._rng("halves")), count, note)
        if entropy > 0:
            self._add("mi_published", information / entropy, count, BIASED, unit="fraction")
        else:
            self._add("mi_published", None, count, "no ratio: the estimated entropy is not positive")

    def _rng(self, purpose: str) -> np.random.Generator:
        return stream_generator(seed=self._point.seed, purpose=f"information/{purpose}")

    def _require(self, images: int, entries: int, size: int) -> None:
        needed = images * entries * size / 2**30
        if needed > self._options.memory_gb:
            raise ValueError(
                f"{images} images of {entries} entries take {needed:.1f} GiB, above memory_gb "
                f"{self._options.memory_gb:g}: raise it, or take fewer images"
            )

    def _add(
        self, name: str, value: float | None, images: int, reason: str | None = None, *, unit: str = "bits"
    ) -> None:
        """Add a number over all images, once over all shards; nats become bits."""
        if not self._whole:
            return
        if value is not None and unit == "bits":
            value = value / math.log(2)
        status = "complete" if value is not None else "not_applicable"
        self._rows.append(
            {
                "point_id": self._point.point_id,
                "estimate": name,
                "value": value,
                "unit": unit if value is not None else "",
                "images": images,
                "status": status,
                "reason": reason,
            }
        )

    def _add_terms(self, name: str, places: Sequence[int], nats: Tensor) -> None:
        images = self._subject.activations.images
        for place, value in zip(places, (nats / math.log(2)).tolist(), strict=True):
            position = self._positions[place]
            self._rows.append(
                {
                    "point_id": self._point.point_id,
                    "image_index": int(images.indices[position]),
                    "image": images.names[position],
                    "label": int(images.labels[position]),
                    "estimate": name,
                    "value": value,
                    "unit": "bits",
                    "images": len(self._positions),
                    "status": "complete",
                }
            )


def evenly(items: Sequence[int], count: int) -> list[int]:
    """Return the first item of each of ``count`` nearly equal parts; all of them if there are no more."""
    size = len(items)
    if count >= size:
        return list(items)
    return [items[-(-rank * size // count)] for rank in range(count)]


def _few(images: int, entries: int) -> str | None:
    if images >= 10 * entries:
        return None
    return (
        f"{images} images for {entries} noisy entries: of images drawn like these the covariance is not known well "
        "enough, and the number too small as a bound; mi_upper_held_out holds for them"
    )


def _note(mean: Statistic) -> str | None:
    if mean.name != "mi_lower_infonce" or mean.value is None or mean.value < math.log2(mean.n) - 0.1:
        return None
    return f"at its cap of log2 {mean.n}: the information may be any larger number"


def _split(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
