"""An attack held against the bounds that hold for every estimator, each on the very quantity that it bounds.

The two-point bound speaks of the error averaged over an image and the image moved, van Trees' inequality of the error
averaged over blurred images; neither speaks of the error on the image itself. Here the attack is given what leaves of
exactly those inputs. An attack below such a bound is an error in a program, not a discovery.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from hushsweep.workers.attacks.reconstruction import Knowledge, Reconstructor
from hushsweep.workers.attacks.reconstruction.options import AttackOptions
from hushsweep.workers.bounds import two_point_mse_bound, two_point_mse_bound_laplace
from hushsweep.workers.devices import threads
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.measures.base import FittedPoint, MeasureRows, Statistic, Subject, reports, row_schema
from hushsweep.workers.measures.bounds import BoundName, Bounds
from hushsweep.workers.measures.geometry import Geometry, GeometryFinder
from hushsweep.workers.measures.information import evenly
from hushsweep.workers.measures.kept import kept_arrays
from hushsweep.workers.measures.noise_level import HOLDS_FOR, NOWHERE, bounds_at
from hushsweep.workers.measures.reconstruction import BLOCK, clipped
from hushsweep.workers.mechanisms import AdditiveNoise
from hushsweep.workers.noise import normal_draws

BOUNDS: tuple[BoundName, ...] = ("two_point", "van_trees")
CERTAIN = 4.0
"""Standard errors by which an attack has to be below a bound to be called so."""
_PIXEL = "normalised pixel^2"


@dataclass(frozen=True, kw_only=True)
class Sandwich(AttackOptions):
    """Errors of an attack beside bounds for every estimator, on the inputs that the bounds speak of."""

    VERSION: ClassVar[int] = 1

    images: int = field(default=32, metadata={"ge": 1})
    """So many of the decodable images at most, evenly spaced."""
    draws: int = field(default=8, metadata={"ge": 2})
    """Repetitions of noise and blur over which errors are averaged."""
    distance: float = field(default=1.0, metadata={"gt": 0})
    """Feature distance of the image and the image moved, in units of the noise, as in the measure bounds."""
    prior_std: float = field(default=0.5, metadata={"gt": 0})
    """Blur of the prior of van Trees' inequality, normalised pixels, as in the measure bounds."""
    prior_draws: int = field(default=16, metadata={"ge": 2})
    """Blurred images over which that bound averages."""

    def inapplicable(self, point: FittedPoint) -> str | None:
        """Only additive noise at the cut has both bounds, and no bound holds for who knows the image."""
        if self.attack in self.ORACLES:
            return "an oracle that knows the image: no bound holds for it"
        if point.cut_noise is None:
            return "no sandwich: the chain is not a single additive noise at the cut"
        if point.cut_noise.noise_std == 0:
            return "no bound: without noise nothing bounds the reader"
        if self.queries > 1 and point.cut_noise.law != "gaussian":
            return "no bound for several queries: the mean of their noise has a known density for Gaussian noise only"
        return self.why_not(point)

    def measure(self, subject: Subject, points: Sequence[FittedPoint]) -> MeasureRows:
        """Hold the attack on every point against the bounds, on the images of the shard."""
        run = _Run(self, subject, points)
        return MeasureRows(per_image=[run.point(point) for point in points])

    def summarise(self, per_image: pa.Table) -> Sequence[Statistic]:
        """Means over images of bound and error, their ratio, and whether the error is below for certain.

        Raises:
            ValueError: the attack could not be made ready, or there is no image.
        """
        rows = per_image.filter(pc.equal(per_image["status"], "complete"))
        found = list[Statistic]()
        for bound in BOUNDS:
            own = rows.filter(pc.equal(rows["bound"], bound))
            if own.num_rows:
                found += _summary(bound, own)
        if not found:
            other = per_image.filter(pc.is_valid(per_image["reason"]))
            raise ValueError(other["reason"][0].as_py() if other.num_rows else "no decodable image is left")
        return found


def _summary(bound: str, rows: pa.Table) -> list[Statistic]:
    n, holds_for = rows.num_rows, HOLDS_FOR[bound]
    least, error = (rows[name].to_numpy().mean() for name in ("mse_bound", "attack_mse"))
    # the images are the ones that the bound speaks of: only noise and blur were drawn
    stderr = math.sqrt(np.square(rows["attack_mse_stderr"].to_numpy()).sum()) / n
    below = bool(error + CERTAIN * stderr < least)
    note = (
        "the attack is below a bound on the very quantity that it bounds: one of the two programs is wrong"
        if below
        else None
    )
    return [
        Statistic(f"{bound}_mse_bound", float(least), _PIXEL, n, None, None, holds_for),
        Statistic(f"{bound}_attack_mse", float(error), _PIXEL, n, stderr),
        Statistic(
            f"{bound}_gap", float(error / least), "ratio", n, None, "error of the attack over the bound"
        ),
        Statistic(f"{bound}_violated", float(below), "0 or 1", n, None, note),
    ]


class _Errors(NamedTuple):
    """Of ``n`` images, each ``(n,)``: the mean over draws, and its standard error."""

    mse: Tensor
    stderr: Tensor


class _Sides(NamedTuple):
    """Of ``n`` images, float64: where the bounds speak of an error, and how small they let it be."""

    x: Tensor  # (n, *input)
    moved: Tensor  # (n, *input), zero where no move is hidden by the noise
    two_point: Tensor  # (n,)
    van_trees: Tensor  # (n,)


class _Run:
    """One measure on the images of a shard."""

    def __init__(self, options: Sandwich, subject: Subject, points: Sequence[FittedPoint]) -> None:
        self._options, self._subject = options, subject
        self._knowledge = Knowledge(subject)
        self._bounds = Bounds(
            bounds=BOUNDS,
            shifts=(),
            images=options.images,
            distance=options.distance,
            prior_std=options.prior_std,
            prior_draws=options.prior_draws,
        )
        averaged = (self._averaged(point).cut_noise for point in points)
        self._finder = GeometryFinder(
            self._bounds, subject, sorted({noise.noise_std for noise in averaged if noise is not None})
        )

    def _averaged(self, point: FittedPoint) -> FittedPoint:
        """The point whose one output is worth as much as the mean of the queries, under Gaussian noise."""
        noise = point.cut_noise
        assert noise is not None
        one = AdditiveNoise(noise.law, noise.noise_std / math.sqrt(self._options.queries))
        return replace(point, stages=(replace(point.stages[0], mechanism=one),))

    def point(self, point: FittedPoint) -> pa.Table:
        """Hold the attack on one point against the bounds."""
        options, subject = self._options, self._subject
        available = [p for p in range(len(subject.activations.images)) if reports(p, point.step)]
        chosen = evenly(available, options.images)
        parts = [part for part in self._finder.parts(chosen) if part[0] in subject.positions]
        rows = list[dict[str, Any]]()
        if parts:
            with threads(options.training_threads):
                try:
                    attack = options.fit(options.target(self._knowledge, point))
                except PlugInError as error:
                    attack, reason = None, str(error)
                for part in parts:
                    if attack is None:
                        rows += [
                            {**self._names(point, p), "status": "failed", "reason": reason} for p in part
                        ]
                    else:
                        rows += self._part(point, attack, part)
                    subject.progress(len(part))
        return pa.Table.from_pylist(rows, schema=row_schema("per_image/sandwich"))

    def _names(self, point: FittedPoint, position: int) -> dict[str, Any]:
        images = self._subject.activations.images
        return {
            "point_id": point.point_id,
            "image_index": int(images.indices[position]),
            "image": images.names[position],
            "label": int(images.labels[position]),
            "attack": self._options.attack,
        }

    def _part(
        self, point: FittedPoint, attack: Reconstructor, part: Sequence[int]
    ) -> Iterator[dict[str, Any]]:
        sides = self._sides(point, part)
        errors = {
            "two_point": self._on_pairs(point, attack, part, sides),
            "van_trees": self._on_blurred(point, attack, part, sides.x),
        }
        for bound in BOUNDS:
            for row, position in enumerate(part):
                names = {**self._names(point, position), "bound": bound}
                if bound == "two_point" and not sides.moved[row].any():
                    yield {**names, "status": "not_applicable", "reason": NOWHERE}
                    continue
                yield {
                    **names,
                    "holds_for": HOLDS_FOR[bound],
                    "mse_bound": float(getattr(sides, bound)[row]),
                    "attack_mse": float(errors[bound].mse[row]),
                    "attack_mse_stderr": float(errors[bound].stderr[row]),
                    "draws": self._options.draws,
                    "status": "complete",
                }

    def _sides(self, point: FittedPoint, part: Sequence[int]) -> _Sides:
        """The bounds of some images, which all attacks share: found once."""
        subject, averaged = self._subject, self._averaged(point)
        x = subject.activations.inputs(part).double()
        if subject.cache is None:
            found = self._find(averaged, part)
        else:
            key = {
                **subject.key,
                "version": Sandwich.VERSION,
                "noise": repr(averaged.cut_noise),
                "options": [self._bounds.distance, self._bounds.prior_std, self._bounds.prior_draws],
                "seed": point.seed,
                "images": subject.image_indices(part),
            }
            found = kept_arrays(subject.cache / "sandwiches", key, lambda: self._find(averaged, part))
        return _Sides(x, *(torch.from_numpy(found[name]).to(x.device) for name in ("moved", *BOUNDS)))

    @torch.no_grad()
    def _find(self, point: FittedPoint, part: Sequence[int]) -> dict[str, np.ndarray]:
        """Move the images as far as the noise hides, and bound the error; a move of zero is none."""
        geometry = self._finder.find(part, point.seed)
        found = {bound.bound: bound for bound in bounds_at(self._bounds, geometry, point)}
        two_point, van_trees = found["two_point"], found["van_trees"]
        assert two_point.moved is not None
        assert van_trees.mse is not None
        moved = two_point.moved.clone()
        assert isinstance(two_point.missing, list)
        moved[[row for row, reason in enumerate(two_point.missing) if reason is not None]] = 0
        arrays = {
            "moved": moved,
            "two_point": self._two_point(geometry, point, moved),
            "van_trees": van_trees.mse,
        }
        return {name: value.cpu().numpy() for name, value in arrays.items()}

    @torch.no_grad()
    def _two_point(self, geometry: Geometry, point: FittedPoint, moved: Tensor) -> Tensor:
        """The bound for exactly this move, ``(n,)``, per entry of the image."""
        noise, probe, model = point.cut_noise, geometry.probe, self._subject.double_model
        assert noise is not None
        shift = torch.cat([model.features(one[None]).flatten(1) for one in probe.x + moved]) - probe.clean
        norm = moved.flatten(1).norm(dim=1)
        if noise.law == "gaussian":
            total = two_point_mse_bound(norm, shift.norm(dim=1) / noise.noise_std)
        else:
            total = two_point_mse_bound_laplace(norm, shift, noise.noise_std / math.sqrt(2))
        return total / probe.inputs

    def _on_pairs(
        self, point: FittedPoint, attack: Reconstructor, part: Sequence[int], sides: _Sides
    ) -> _Errors:
        """Errors averaged over the images and the images moved, each with noise of its own."""
        draws = [
            torch.stack(
                [
                    self._attacked(point, attack, part, x, 2 * draw + which)
                    for which, x in enumerate((sides.x, sides.x + sides.moved))
                ]
            ).mean(0)
            for draw in range(self._options.draws)
        ]
        return _over_draws(draws)

    def _on_blurred(
        self, point: FittedPoint, attack: Reconstructor, part: Sequence[int], x: Tensor
    ) -> _Errors:
        """Errors averaged over images with N(0, prior_std^2) on every entry, which the attack is not told."""
        blurs = normal_draws(
            self._subject.model.input_shape,
            seed=point.seed,
            purpose="sandwich-prior",
            image_indices=self._subject.image_indices(part),
            count=self._options.draws,
            device=x.device,
        ).unbind(1)
        std, first = self._options.prior_std, 2 * self._options.draws
        draws = [
            self._attacked(point, attack, part, x + std * blur, first + draw, clip=False)
            for draw, blur in enumerate(blurs)
        ]
        return _over_draws(draws)

    @torch.no_grad()
    def _attacked(
        self,
        point: FittedPoint,
        attack: Reconstructor,
        part: Sequence[int],
        inputs: Tensor,
        draw: int,
        *,
        clip: bool = True,
    ) -> Tensor:
        """Mean squared error per entry on some inputs, ``(n,)``."""
        model = self._subject.model
        view = self._options.view(point, self._subject)
        indices = self._subject.image_indices(part)
        x, errors = inputs.float(), list[Tensor]()
        for rows in torch.arange(len(x)).split(BLOCK):  # type: ignore[no-untyped-call]
            block = x[rows]
            clean = self._subject.activations.cut(block) if view.starts_at_cut else block
            seen = view.see(clean, view.counted_noise([indices[row] for row in rows.tolist()], draw))
            found = attack.reconstruct(seen, block)
            found = clipped(found, model) if clip else found
            errors.append((found - block).double().square().flatten(1).mean(1))
        return torch.cat(errors)


def _over_draws(draws: Sequence[Tensor]) -> _Errors:
    errors = torch.stack(list(draws))
    return _Errors(errors.mean(0), errors.std(0) / math.sqrt(len(errors)))
