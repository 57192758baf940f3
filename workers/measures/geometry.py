"""What bounds need of a few images before any noise is chosen: the Jacobian's decomposition, shifts, displacements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hushsweep.workers.bounds import dct
from hushsweep.workers.bounds.search import SEARCHES, Probe, Shifts, items_that_fit
from hushsweep.workers.devices import search_memory
from hushsweep.workers.measures.base import Subject
from hushsweep.workers.measures.decomposed import Decomposed, image_covariance
from hushsweep.workers.measures.kept import kept_arrays
from hushsweep.workers.noise import normal_draws

if TYPE_CHECKING:
    from hushsweep.workers.measures.bounds import Bounds

MAX_IMAGES = 32
JACOBIANS = 2**30
"""Bytes of Jacobians held at once: several images where they are small, one where it is large."""
STILL = 0.01
"""A displacement below this share of the length aimed at is as good as none: rounding would show in its bound."""
_LINEAR = 1e-6
"""Largest relative deviation that counts as linear; a kink or a curve shows far above it."""


STARTS = {"large_step": "jacobian", "two_point": "nullspace"}
"""Where the searches that depend on the noise begin: shifts that do not."""
_STARTING = 16
"""So many of them: every one costs dozens of passes through the network per level, and the first ones gain most."""
_FULL_PRECISION = ("nullspace",)
"""Shifts that rounding to float32 would spoil: it alone moves the features."""


@dataclass(frozen=True)
class Moves:
    """Shifts of one search for ``n`` images, and what they do to the features, float64."""

    input_shift: Tensor  # (n, m, *input)
    modes: Tensor  # (n, m, k)
    feature_shift: Tensor  # (n, m, features)
    still: Tensor  # (n, m) bool
    linear: Tensor  # (n, m) bool
    iterations: Tensor | None  # (n, m)
    residual: Tensor | None  # (n, m)

    @cached_property
    def gram(self) -> Tensor:
        """Products of the displacements, ``(n, m, m)``: Barankin needs no more of them at any noise level."""
        return self.feature_shift @ self.feature_shift.mT


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some images that are bounded together."""

    positions: Sequence[int]
    probe: Probe

    @property
    def grey_levels(self) -> Tensor:
        """Grey levels per normalised unit, ``(channels, 1, 1)``: the box of valid pixels is 255 of them wide."""
        return 255 / (self.probe.high - self.probe.low)


@dataclass(frozen=True, kw_only=True)
class Geometry(Chunk):
    """Some images of one seed, under noise that does not depend on them."""

    decomposed: Decomposed | None
    moves: Mapping[str, Moves]
    """By search, as far as they serve all noise levels."""
    blurred: Tensor | None
    """``(n, draws)``: squared norm of J'u, J at the blurred image, u a random sign per feature."""
    reference_distance: Tensor
    """``(n,)``: of the features from those of the data set's mean image."""
    measure_moves: Callable[[Shifts], Moves]
    found: dict[tuple[str, float], Moves] = field(default_factory=dict)
    """What searches that depend on the noise have found so far, by its standard deviation."""

    def moves_at(self, search: str, noise_std: float) -> Moves:
        """Shifts of a search: the common ones, or those found for this noise level."""
        if not SEARCHES[search].per_noise:
            return self.moves[search]
        # not from the level before: a number must not depend on which other levels a sweep has
        start = self.moves.get(STARTS[search])
        begin = None if start is None else Shifts(start.input_shift[:, :_STARTING])
        if (search, noise_std) not in self.found:
            shifts = SEARCHES[search].find(self.probe, noise_std, begin)
            self.found[search, noise_std] = self.measure_moves(shifts)
        return self.found[search, noise_std]


def valid_box(subject: Subject) -> tuple[Tensor, Tensor]:
    """Normalised values of a black and of a white pixel, ``(channels, 1, 1)`` float64 each."""
    std, mean = subject.model.std.double(), subject.model.mean.double()
    return (0 - mean) / std, (1 - mean) / std


class GeometryFinder:
    """Finds the geometry of images chunk by chunk; the decomposition is shared by all seeds."""

    def __init__(self, options: Bounds, subject: Subject, noise_stds: Sequence[float]) -> None:
        self._options, self._subject, self._noise_stds = options, subject, noise_stds
        self._model = subject.double_model if options.precision == "float64" else subject.model
        self._low, self._high = valid_box(subject)
        self._last: tuple[Sequence[int], Tensor, Decomposed | None] | None = None
        with torch.no_grad():
            zero = torch.zeros(
                (1, *subject.model.input_shape), dtype=torch.float64, device=subject.activations.device
            )
            self._mean_features = subject.double_model.features(zero).flatten(1)
        self._max_items = items_that_fit(subject.double_model, zero, search_memory(zero.device))

    @cached_property
    def _covariance(self) -> Tensor:
        return image_covariance(self._subject)

    def parts(self, positions: Sequence[int]) -> list[Sequence[int]]:
        """Cut the positions into chunks whose Jacobians fit together."""
        model = self._subject.model
        one = 8 * int(np.prod(model.input_shape)) * int(np.prod(model.feature_shape))
        size = max(1, min(MAX_IMAGES, JACOBIANS // one))
        return [positions[start : start + size] for start in range(0, len(positions), size)]

    @torch.no_grad()
    def find(self, part: Sequence[int], seed: int) -> Geometry:
        """Find what all noise levels of a seed share on the images at positions ``part``."""
        if self._last is None or self._last[0] != part:
            x = self._subject.activations.inputs(part).double()
            decomposed = None
            if self._options.needing_jacobian:
                decomposed = Decomposed(
                    self._options,
                    self._subject,
                    model=self._model,
                    part=part,
                    x=x,
                    noise_stds=self._noise_stds,
                    covariance=lambda: self._covariance,
                )
            self._last = (part, x, decomposed)
        _, x, decomposed = self._last
        probe = self._probe(part, seed, x, decomposed)

        def measure_moves(shifts: Shifts) -> Moves:
            return _moves(shifts, probe, self._options)

        moves = {
            name: measure_moves(self._shifts(name, probe, part, seed))
            for name in self._searches_at_hand(decomposed)
            if not SEARCHES[name].per_noise
        }
        return Geometry(
            positions=part,
            probe=probe,
            decomposed=decomposed,
            moves=moves,
            blurred=self._blurred(part, seed, x) if "van_trees" in self._options.bounds else None,
            reference_distance=(probe.clean - self._mean_features).norm(dim=1),
            measure_moves=measure_moves,
        )

    def _searches_at_hand(self, decomposed: Decomposed | None) -> list[str]:
        if decomposed is None or decomposed.too_large is None:
            return list(self._options.searches)
        searches = [name for name in self._options.searches if not SEARCHES[name].needs_jacobian]
        if "cramer_rao" in self._options.bounds and "pseudo_inverse" not in searches:
            searches.append("pseudo_inverse")  # what the estimate in place of the exact bound is made of
        return searches

    def _probe(self, part: Sequence[int], seed: int, x: Tensor, decomposed: Decomposed | None) -> Probe:
        options, subject = self._options, self._subject
        batches = torch.split(x, self._max_items)
        return Probe(
            model=self._model,
            exact=subject.double_model,
            x=x,
            clean=torch.cat([subject.double_model.features(batch).flatten(1) for batch in batches]),
            reference_std=subject.rms(),
            step=options.step,
            count=options.directions,
            decompositions=lambda: [] if decomposed is None else decomposed.images,
            noise=lambda purpose, count: self._noise(purpose, subject.model.feature_shape, part, seed, count),
            low=self._low,
            high=self._high,
            max_items=self._max_items,
            dtype=self._model.dtype,
            options={
                name: getattr(options, name)
                for name in (
                    "restarts",
                    "rounds",
                    "lsqr_tolerance",
                    "solve_tolerance",
                    "max_iterations",
                    "distance",
                )
            },
        )

    def _noise(
        self, purpose: str, shape: Sequence[int], part: Sequence[int], seed: int, count: int
    ) -> Tensor:
        return normal_draws(
            shape,
            seed=seed,
            purpose=f"bounds-{purpose}",
            image_indices=self._subject.image_indices(part),
            count=count,
            device=self._subject.activations.device,
        )

    def _shifts(self, name: str, probe: Probe, part: Sequence[int], seed: int) -> Shifts:
        """Run a search, or find it run: a level that is added later needs no new one."""
        if name == "pseudo_inverse":
            probe = replace(probe, count=self._options.restarts)
        cache = self._subject.cache
        if cache is None:
            return _as_stored(name, SEARCHES[name].find(probe))
        key = {
            **self._subject.key,
            "version": self._options.VERSION,
            "search": name,
            "options": {**probe.options, "step": probe.step, "count": probe.count},
            "precision": self._options.precision,
            "seed": seed,
            "images": self._subject.image_indices(part),
        }

        def compute() -> dict[str, np.ndarray]:
            found = SEARCHES[name].find(probe)._asdict()
            arrays = {key: value.cpu().numpy() for key, value in found.items() if value is not None}
            if name not in _FULL_PRECISION:
                arrays["input_shift"] = arrays["input_shift"].astype(np.float32)
            return arrays

        stored = kept_arrays(cache / "shifts", key, compute)
        kept = {key: torch.from_numpy(value).to(probe.x.device) for key, value in stored.items()}
        return Shifts(kept.pop("input_shift").double(), **kept)

    def _blurred(self, part: Sequence[int], seed: int, x: Tensor) -> Tensor:
        """Squared norms of J'u at blurred images: their mean over blur and signs u is that of tr J'J."""
        options, model = self._options, self._model
        blurs, normals = (
            self._noise(purpose, shape, part, seed, options.prior_draws).unbind(1)
            for purpose, shape in (("prior", model.input_shape), ("signs", model.feature_shape))
        )
        found = []
        for blur, normal in zip(blurs, normals, strict=True):
            signs = torch.where(normal > 0, 1.0, -1.0).to(model.dtype)
            with torch.enable_grad():
                points = (x + options.prior_std * blur).to(model.dtype).requires_grad_()
                (product,) = torch.autograd.grad(model.features(points), points, signs)
            found.append(product.flatten(1).double().square().sum(1))
        return torch.stack(found, dim=1)


def _as_stored(name: str, shifts: Shifts) -> Shifts:
    """Round shifts as they are stored, so that what is found again gives the same bound to the last digit."""
    if name in _FULL_PRECISION:
        return shifts
    return shifts._replace(input_shift=shifts.input_shift.float().double())


def _moves(shifts: Shifts, probe: Probe, options: Bounds) -> Moves:
    """Send shifted images through the exact network: nothing of a bound is linearised."""
    shift = shifts.input_shift
    feature_shift = _feature_shift(probe, shift)
    modes = dct(shift) if options.basis == "dct" else shift
    return Moves(
        shift,
        modes.flatten(2),
        feature_shift,
        feature_shift.norm(dim=2) <= STILL * probe.target,
        _is_linear(probe, shifts, feature_shift),
        shifts.iterations,
        shifts.residual,
    )


def _feature_shift(probe: Probe, shift: Tensor) -> Tensor:
    return torch.cat(list(probe.displacements(shift))).reshape(*shift.shape[:2], -1)


def _is_linear(probe: Probe, shifts: Shifts, feature_shift: Tensor) -> Tensor:
    """Tell along which shifts the network is linear: their displacement has the length that the derivative gives it.

    Where that length is not known, half the shift has to cause half the displacement: neither a kink on the way nor a
    curve lets it.
    """
    moved: Tensor = feature_shift.norm(dim=2)
    if shifts.linear_distance is not None:
        return moved.sub(shifts.linear_distance).abs().le(_LINEAR * moved)
    half = _feature_shift(probe, shifts.input_shift / 2)
    bent: Tensor = (feature_shift - 2 * half).norm(dim=2)
    return bent.le(_LINEAR * moved)
