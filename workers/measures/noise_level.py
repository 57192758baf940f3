"""Every bound of some images at one noise level."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hushsweep.workers.bounds import (
    barankin_from_gram,
    cramer_rao_estimate,
    hcr_std_bound,
    two_point_mse_bound,
    two_point_mse_bound_laplace,
    van_trees_mse_bound,
)
from hushsweep.workers.bounds.cramer_rao import Decomposition
from hushsweep.workers.bounds.search import SEARCHES
from hushsweep.workers.measures.base import FittedPoint
from hushsweep.workers.measures.geometry import STILL, Geometry, Moves
from hushsweep.workers.mechanisms import AdditiveNoise

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
NOWHERE = "no move to another valid image stays within this feature distance"
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


def bounds_at(options: Bounds, geometry: Geometry, point: FittedPoint) -> list[Found]:
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
    yield from_decompositions(decomposed.images, fisher, active)


def from_decompositions(
    images: Sequence[Decomposition], fisher_std: float, active: Mapping[str, Tensor]
) -> Found:
    """Return the Cramer-Rao bound of some images.

    Args:
        images: decompositions of their Jacobians, one per image.
        fisher_std: standard deviation of the Gaussian noise with the same Fisher information.
        active: further columns.
    """
    lost = "the features do not depend on this image at all: no unbiased estimator exists"
    non_identifiable = torch.stack([image.non_identifiable for image in images])
    unresolved = torch.stack([image.unresolved for image in images])
    return Found(
        "cramer_rao",
        variance=fisher_std**2 * torch.stack([image.unit_variance for image in images]),
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
    for search in ("two_point", *({"nullspace"} & set(level.options.shifts))):
        try:
            moves = level.moves(search)
        except ValueError as error:
            yield Found("two_point", search, missing=str(error))
            continue
        norm = moves.input_shift.flatten(2).norm(dim=2)
        grey_norm = (moves.input_shift * level.geometry.grey_levels).flatten(2).norm(dim=2)
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
            missing=[None if length > probe.step else NOWHERE for length in radius.tolist()],
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
