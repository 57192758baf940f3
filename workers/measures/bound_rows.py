"""One noise level: every bound of some images as rows, as maps over the modes and as pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from hushsweep.datasets.results import arrow_schema
from hushsweep.workers.bounds import (
    barankin_from_gram,
    cramer_rao_estimate,
    hcr_std_bound,
    idct,
    two_point_mse_bound,
    two_point_mse_bound_laplace,
    van_trees_mse_bound,
)
from hushsweep.workers.bounds.search import SEARCHES
from hushsweep.workers.measures.base import FittedPoint, MeasureRows, Subject
from hushsweep.workers.measures.geometry import STILL, Geometry, Moves
from hushsweep.workers.mechanisms import AdditiveNoise
from hushsweep.workers.noise import stream_generator

if TYPE_CHECKING:
    from hushsweep.workers.measures.bounds import Bounds

_UNBIASED = "unbiased estimators"
HOLDS_FOR = {
    "cramer_rao": _UNBIASED,
    "barankin": _UNBIASED,
    "hcr": _UNBIASED,
    "dfil": f"{_UNBIASED}; average over the pixels",
    "van_trees": "every estimator; average over the image blurred by the prior",
    "two_point": "every estimator; average over the image and the image moved",
    "mmse": "no bound: the least error if the network were linear and images Gaussian",
    "rero": "every attacker, if each of the images is equally likely",
    "cramer_rao_estimate": f"no bound: an estimate of what holds for {_UNBIASED}",
}
"""By bound: whom it holds for, and what it is an average over."""
_NOWHERE = "no move to another valid image stays within this feature distance"
_GAUSSIAN_ONLY = "proved for Gaussian noise only"


@dataclass(frozen=True)
class Found:
    """One bound of ``n`` images at one noise level; what is None has no value."""

    bound: str
    search: str | None = None
    variance: Tensor | None = None
    """``(n, k)``: per coordinate of the basis."""
    mse: Tensor | None = None
    """``(n,)``: where it is not the mean of the variances."""
    mse_grey: Tensor | None = None
    estimate: bool = False
    columns: Mapping[str, Tensor | float | int | None] = field(default_factory=dict)
    """Further columns, each ``(n,)`` or the same for all images."""
    shares: tuple[Tensor, Tensor] | None = None
    """Non-identifiable and unresolved share per coordinate, ``(n, k)`` each."""
    moved: Tensor | None = None
    """``(n, *input)``: a move that the noise hides."""
    missing: Sequence[str | None] | str | None = None
    """Why there is no number, for all images or for each."""
    notes: Sequence[str | None] | None = None
    """What to know of the number of each image."""


def bound_rows(options: Bounds, geometry: Geometry, point: FittedPoint) -> list[Found]:
    """Return every bound asked for, at one noise level."""
    noise = point.cut_noise
    assert noise is not None
    level = _Level(options, geometry, noise)
    return [found for name in options.bounds for found in _BOUNDS[name](level)]


class _Level:
    """One noise level on some images."""

    def __init__(self, options: Bounds, geometry: Geometry, noise: AdditiveNoise) -> None:
        self.options, self.geometry, self.noise = options, geometry, noise
        self.decomposed = geometry.decomposed
        self.inputs = geometry.probe.inputs
        self.gaussian = noise.law == "gaussian"

    @property
    def rounding(self) -> float:
        """Bound on the relative error of a displacement: that of two features' difference, for the shortest kept."""
        probe = self.geometry.probe
        shortest = STILL * probe.step / math.sqrt(probe.features)  # in units of the features' own length
        return max(1e-11, 8 * torch.finfo(torch.float64).eps / shortest)

    def moves(self, search: str) -> Moves:
        """Return the shifts of a search.

        Raises:
            ValueError: it needs the exact Jacobian, which is too large.
        """
        if SEARCHES[search].needs_jacobian and self.decomposed is not None and self.decomposed.too_large:
            raise ValueError(self.decomposed.too_large)
        return self.geometry.moves_at(search, self.noise.noise_std)

    def searches(self) -> list[str]:
        """Return the searches for hcr and barankin: those asked for, and the estimate's samples where there are any.

        Moves that leave the features as they are bound no unbiased estimator by a number.
        """
        wanted = [name for name in self.options.shifts if name != "nullspace"]
        return [
            *wanted,
            *(name for name in self.geometry.moves if name == "pseudo_inverse" and name not in wanted),
        ]


def _cramer_rao(level: _Level) -> Iterator[Found]:
    decomposed, fisher = level.decomposed, level.noise.fisher_std
    assert decomposed is not None
    active = {"active_features": decomposed.active.features.sum(1)}
    if decomposed.too_large is not None:
        yield Found("cramer_rao", missing=decomposed.too_large, columns=active)
        yield _estimate(level)
        return
    images = decomposed.images
    lost = "the features do not depend on this image at all: no unbiased estimator exists"
    non_identifiable = torch.stack([image.non_identifiable for image in images])
    unresolved = torch.stack([image.unresolved for image in images])
    yield Found(
        "cramer_rao",
        variance=fisher**2 * torch.stack([image.unit_variance for image in images]),
        columns={
            **active,
            "rank": torch.tensor([image.rank for image in images]),
            "non_identifiable": non_identifiable.mean(1),
            "unresolved": unresolved.mean(1),
        },
        shares=(non_identifiable, unresolved),
        missing=[None if image.rank else lost for image in images],
    )


def _estimate(level: _Level) -> Found:
    moves, probe = level.moves("pseudo_inverse"), level.geometry.probe
    # the search scales its samples of J^+ w to small steps
    samples = moves.modes / (probe.target / math.sqrt(probe.features))
    estimate, spread = cramer_rao_estimate(samples), samples.square().mean(2)
    draws, scale = spread.shape[1], level.noise.fisher_std**2
    return Found(
        "cramer_rao_estimate",
        "pseudo_inverse",
        variance=scale * estimate.variance,
        estimate=True,
        columns={
            "mse_estimate_stderr": scale * spread.std(1) / math.sqrt(draws),
            **_solves(moves),
        },
        notes=_unconverged(level, moves),
    )


def _unconverged(level: _Level, moves: Moves) -> list[str | None]:
    assert moves.iterations is not None
    limit = level.options.max_iterations or 2 * level.inputs
    ended = (moves.iterations >= limit).sum(1).tolist()
    note = f"{{}} of {moves.iterations.shape[1]} solves ended at max_iterations: the estimate is too small"
    return [note.format(count) if count else None for count in ended]


def _barankin(level: _Level) -> Iterator[Found]:
    for search in level.searches():
        if not level.gaussian:
            yield Found("barankin", search, missing=_GAUSSIAN_ONLY)
            continue
        try:
            moves = level.moves(search)
        except ValueError as error:
            yield Found("barankin", search, missing=str(error))
            continue
        kept = torch.where(moves.still, 0.0, 1.0)  # a shift that moves nothing to rounding is left aside
        gram = moves.gram * kept[:, :, None] * kept[:, None, :]
        variance = barankin_from_gram(
            moves.modes * kept[..., None], gram, level.noise.noise_std, rounding=level.rounding
        )
        yield _from_shifts("barankin", search, variance, moves, rank=_independent(gram, level.rounding))


def _independent(gram: Tensor, rounding: float) -> Tensor:
    """How many displacements rounding can tell from combinations of the others, ``(n,)``.

    Fewer than the shifts mean that some combination of shifts moves nothing: the true bound along it is infinite, and
    the number given is what rounding leaves of it.
    """
    length = gram.diagonal(dim1=1, dim2=2).sqrt()
    unit = (
        gram
        / torch.where(length > 0, length, 1.0)[:, :, None]
        / torch.where(length > 0, length, 1.0)[:, None]
    )
    values: Tensor = torch.linalg.eigvalsh(unit)
    return values.gt(100 * gram.shape[1] * rounding).sum(1)


def _hcr(level: _Level) -> Iterator[Found]:
    for search in level.searches():
        try:
            moves = level.moves(search)
        except ValueError as error:
            yield Found("hcr", search, missing=str(error))
            continue
        chi_square = torch.where(moves.still, math.inf, level.noise.chi_square(moves.feature_shift))
        variance = hcr_std_bound(moves.modes, chi_square).amax(1).square()
        yield _from_shifts("hcr", search, variance, moves)


def _from_shifts(
    bound: str, search: str, variance: Tensor, moves: Moves, rank: Tensor | None = None
) -> Found:
    still = moves.still.sum(1)
    moved = ~moves.still
    missing = "no shift of this search moves the features: no finite bound"
    return Found(
        bound,
        search,
        variance=variance,
        columns={
            "shifts": moved.sum(1),
            "still_shifts": still,
            "linear_shifts": (moves.linear & moved).sum(1),
            "rank": rank,
            **_solves(moves),
        },
        missing=[None if some else missing for some in moved.any(1).tolist()],
    )


def _solves(moves: Moves) -> dict[str, Tensor | float | int | None]:
    return {
        "lsqr_iterations": None if moves.iterations is None else moves.iterations.sum(1),
        "lsqr_residual": None if moves.residual is None else moves.residual.amax(1),
    }


def _dfil(level: _Level) -> Iterator[Found]:
    decomposed = level.decomposed
    assert decomposed is not None
    if decomposed.too_large is not None:
        yield Found("dfil", missing=decomposed.too_large)
        return
    norm = torch.tensor([image.squared_norm for image in decomposed.images], dtype=torch.float64)
    norm = norm.to(level.geometry.probe.x.device)
    lost = "the features do not depend on this image at all"
    yield Found(
        "dfil",
        mse=level.inputs * level.noise.fisher_std**2 / norm,
        missing=[None if value > 0 else lost for value in norm.tolist()],
    )


def _van_trees(level: _Level) -> Iterator[Found]:
    blurred = level.geometry.blurred
    assert blurred is not None
    # two standard errors up, so that chance in the average does not make the bound larger than it is
    norm = blurred.mean(1) + 2 * blurred.std(1) / math.sqrt(blurred.shape[1])
    mean_dfil = norm / (level.inputs * level.noise.fisher_std**2)
    yield Found("van_trees", mse=van_trees_mse_bound(mean_dfil, 1 / level.options.prior_std**2))


def _two_point(level: _Level) -> Iterator[Found]:
    noise, probe = level.noise, level.geometry.probe
    grey = _grey_factor(level.geometry)
    for search in ("two_point", *({"nullspace"} & set(level.options.shifts))):
        try:
            moves = level.moves(search)
        except ValueError as error:
            yield Found("two_point", search, missing=str(error))
            continue
        norm = moves.input_shift.flatten(2).norm(dim=2)
        grey_norm = (moves.input_shift * grey).flatten(2).norm(dim=2)
        distance = moves.feature_shift.norm(dim=2) / noise.noise_std

        def total(lengths: Tensor, moves: Moves = moves, distance: Tensor = distance) -> Tensor:
            if level.gaussian:
                return two_point_mse_bound(lengths, distance)
            scale = noise.noise_std / math.sqrt(2)
            return two_point_mse_bound_laplace(lengths, moves.feature_shift, scale)

        # the move was rounded to float32, which may put it a little beyond the distance asked for
        near = distance <= level.options.distance * (1 + 1e-6)
        if search == "nullspace":
            near &= distance * noise.noise_std <= probe.still[:, None]
        radius, best = torch.where(near, norm, 0.0).max(1)
        rows = torch.arange(len(best), device=best.device)
        yield Found(
            "two_point",
            search,
            mse=total(norm).amax(1) / probe.inputs,
            mse_grey=total(grey_norm).amax(1) / probe.inputs,
            columns={"radius": radius, "distance": distance[rows, best], "shifts": norm.shape[1]},
            moved=moves.input_shift[rows, best],
            missing=[None if length > probe.step else _NOWHERE for length in radius.tolist()],
        )


def _mmse(level: _Level) -> Iterator[Found]:
    if not level.gaussian:
        yield Found("mmse", missing=_GAUSSIAN_ONLY)
        return
    assert level.decomposed is not None
    try:
        mse = level.decomposed.mmse(level.noise.noise_std)
    except ValueError as error:
        yield Found("mmse", missing=str(error))
        return
    yield Found("mmse", mse=mse, estimate=True)


def _rero(level: _Level) -> Iterator[Found]:
    if not level.gaussian:
        yield Found("rero", missing=_GAUSSIAN_ONLY)
        return
    yield Found("rero", columns={"distance": level.geometry.reference_distance / level.noise.noise_std})


_BOUNDS: dict[str, Callable[[_Level], Iterator[Found]]] = {
    "cramer_rao": _cramer_rao,
    "barankin": _barankin,
    "hcr": _hcr,
    "dfil": _dfil,
    "van_trees": _van_trees,
    "two_point": _two_point,
    "mmse": _mmse,
    "rero": _rero,
}


def _grey_factor(geometry: Geometry) -> Tensor:
    """Grey levels 0..255 per normalised unit, ``(channels, 1, 1)``: the box of valid pixels is 255 of them wide."""
    return 255 / (geometry.probe.high - geometry.probe.low)


class Collector:
    """Turns bounds into tables, chunk by chunk."""

    def __init__(self, options: Bounds, subject: Subject) -> None:
        self._options, self._subject = options, subject
        self._rows = list[dict[str, Any]]()
        self._modes = dict[tuple[str, str, str | None], _ModeSums]()
        self._pictures = list[dict[str, Any]]()

    def add(
        self,
        point: FittedPoint,
        geometry: Geometry,
        found: Sequence[Found],
        reported: Sequence[bool],
        drawn: Container[int],
    ) -> None:
        """Keep one point's bounds of the images that it reports, and pictures of those at positions ``drawn``."""
        images = self._subject.activations.images
        chosen = [row for row, is_reported in enumerate(reported) if is_reported]
        for bound in found:
            columns = _columns(bound, geometry, self._options)
            complete = list[int]()
            for row in chosen:
                position = geometry.positions[row]
                values = {name: column[row] for name, column in columns.items()}
                reason = _missing(bound, row, values)
                if reason is None:
                    complete.append(row)
                else:
                    values = dict.fromkeys(values)
                self._rows.append(
                    {
                        "point_id": point.point_id,
                        "image_index": int(images.indices[position]),
                        "image": images.names[position],
                        "label": int(images.labels[position]),
                        "bound": bound.bound,
                        "search": bound.search,
                        "holds_for": HOLDS_FOR[bound.bound],
                        "basis": self._options.basis if bound.variance is not None else None,
                        **values,
                        "status": "complete" if reason is None else "not_applicable",
                        "reason": reason or (bound.notes[row] if bound.notes else None),
                    }
                )
            if complete and bound.variance is not None:
                key = (point.point_id, bound.bound, bound.search)
                self._modes.setdefault(key, _ModeSums()).add(bound, complete)
            self._draw(point, geometry, bound, [row for row in complete if geometry.positions[row] in drawn])
        for row in chosen:
            if geometry.positions[row] in drawn:
                self._picture(point, geometry, row, "original", None, geometry.probe.x[row])

    def rows(self) -> MeasureRows:
        """Return what was collected as tables."""
        names = [
            name
            for name in arrow_schema("per_image/bounds").names
            if name not in ("measure_id", "computed_by")
        ]
        schema = pa.schema([arrow_schema("per_image/bounds").field(name) for name in names])
        modes = [self._mode_table(*key, sums) for key, sums in self._modes.items()]
        return MeasureRows(
            per_image=[pa.Table.from_pylist(self._rows, schema=schema)],
            modes=pa.concat_tables(modes, promote_options="permissive") if modes else None,
            pictures=pa.Table.from_pylist(self._pictures) if self._pictures else None,
        )

    def _mode_table(self, point_id: str, bound: str, search: str | None, sums: _ModeSums) -> pa.Table:
        channel, row, column = np.indices(self._subject.model.input_shape, dtype=np.int32).reshape(3, -1)
        size = channel.size
        nothing = pa.nulls(size, pa.float64())
        shares = [nothing if share is None else (share / sums.count).cpu().numpy() for share in sums.shares]
        std = (sums.std / sums.count).cpu().numpy()
        return pa.table(
            {
                "point_id": pa.repeat(point_id, size),
                "bound": pa.repeat(bound, size),
                "search": pa.array([search] * size, pa.string()),
                "basis": pa.repeat(self._options.basis, size),
                "channel": channel,
                "row": row,
                "column": column,
                "std_bound": nothing if sums.estimate else std,
                "std_estimate": std if sums.estimate else nothing,
                "non_identifiable": shares[0],
                "unresolved": shares[1],
                "n": np.full(size, sums.count, np.int64),
            }
        )

    def _draw(self, point: FittedPoint, geometry: Geometry, bound: Found, complete: Sequence[int]) -> None:
        for row in complete:
            x = geometry.probe.x[row]
            if bound.variance is not None and not bound.estimate:
                index = int(self._subject.activations.images.indices[geometry.positions[row]])
                generator = stream_generator(
                    seed=point.seed, purpose="bounds-picture-signs", image_index=index
                )
                signs = torch.from_numpy(generator.choice((-1.0, 1.0), size=x.shape)).to(x.device)
                offset = signs * bound.variance[row].sqrt().reshape(x.shape)
                offset = idct(offset) if self._options.basis == "dct" else offset
                self._picture(point, geometry, row, "bound", bound, x + offset)
            if bound.moved is not None:
                self._picture(point, geometry, row, "moved", bound, x + bound.moved[row])

    def _picture(
        self, point: FittedPoint, geometry: Geometry, row: int, kind: str, bound: Found | None, x: Tensor
    ) -> None:
        low, high = geometry.probe.low, geometry.probe.high
        grey = (255 * (x - low) / (high - low)).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        name = None if bound is None else "_".join(dict.fromkeys(filter(None, (bound.bound, bound.search))))
        self._pictures.append(
            {
                "point_id": point.point_id,
                "image_index": int(self._subject.activations.images.indices[geometry.positions[row]]),
                "kind": kind,
                "bound": name,
                "channels": grey.shape[0],
                "height": grey.shape[1],
                "width": grey.shape[2],
                "pixels": grey.tobytes(),
            }
        )


class _ModeSums:
    """Sums over images of what the map over modes shows."""

    def __init__(self) -> None:
        self.count, self.estimate = 0, False
        self.std: Tensor = torch.zeros(())
        self.shares: list[Tensor | None] = [None, None]

    def add(self, bound: Found, rows: Sequence[int]) -> None:
        assert bound.variance is not None
        self.count += len(rows)
        self.estimate = bound.estimate
        self.std = self.std + bound.variance[rows].sqrt().sum(0)
        if bound.shares is not None:
            sums = [share[rows].sum(0) for share in bound.shares]
            self.shares = [
                new if old is None else old + new for old, new in zip(self.shares, sums, strict=True)
            ]


def _columns(bound: Found, geometry: Geometry, options: Bounds) -> dict[str, list[Any]]:
    """Turn a bound into columns of the table, a value per image."""
    n = len(geometry.positions)
    columns = dict[str, Any](bound.columns)
    grey = _grey_factor(geometry)
    kind = "estimate" if bound.estimate else "bound"
    if bound.variance is not None:
        channels, height, width = geometry.probe.x.shape[1:]
        variance = bound.variance.reshape(n, channels, height, width)
        std = bound.variance.sqrt()
        columns[f"std_{kind}_mean"] = std.mean(1)
        columns[f"std_{kind}_median"] = std.quantile(0.5, dim=1)
        columns[f"mse_{kind}"] = variance.mean((1, 2, 3))
        if not bound.estimate:
            columns["std_bound_max"] = std.amax(1)
            columns["mse_bound_grey"] = (variance * grey.square()).mean((1, 2, 3))
            if options.basis == "dct":
                low = options.low_frequency
                columns["std_bound_low_mean"] = variance[:, :, :low, :low].sqrt().mean((1, 2, 3))
    elif bound.mse is not None:
        columns[f"mse_{kind}"] = bound.mse
        if not bound.estimate:
            # the error in grey levels is at least that of the channel with the fewest grey levels per unit
            least = bound.mse * grey.square().min()
            columns["mse_bound_grey"] = least if bound.mse_grey is None else bound.mse_grey
    return {
        name: value.tolist() if isinstance(value, Tensor) else [value] * n for name, value in columns.items()
    }


def _missing(bound: Found, row: int, values: dict[str, Any]) -> str | None:
    """Say why a row has no number; None if it has."""
    reason = bound.missing if bound.missing is None or isinstance(bound.missing, str) else bound.missing[row]
    if reason is not None:
        return reason
    if any(isinstance(value, float) and not math.isfinite(value) for value in values.values()):
        return "the bound is not finite in float64 at this noise"
    return None
