"""Shifts of images by the search of arXiv:2404.02866, found once and kept."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hushsweep.workers.bounds.search import ShiftSearch, items_that_fit, search_shifts
from hushsweep.workers.devices import search_memory
from hushsweep.workers.measures.base import Subject
from hushsweep.workers.measures.kept import kept_arrays
from hushsweep.workers.noise import normal_draws

if TYPE_CHECKING:
    from hushsweep.workers.measures.hcr import Hcr

_SEARCH_OPTIONS = ("restarts", "rounds", "step", "lsqr_tolerance", "max_iterations", "precision")
"""What the shifts depend on; the other options only choose images and modes."""


class ShiftFinder:
    """Runs the search on some images in the precision asked for."""

    def __init__(self, options: "Hcr", subject: Subject) -> None:
        self._options, self._subject = options, subject
        self._dtype = getattr(torch, options.precision)
        self._model = subject.double_model if options.precision == "float64" else subject.model
        device = subject.activations.device
        zero = torch.zeros((1, *subject.model.input_shape), dtype=self._dtype, device=device)
        self.max_items = items_that_fit(self._model, zero, search_memory(device))

    def run(self, part: range, x: Tensor, seed: int) -> ShiftSearch:
        """Find the shifts of some images, or find them found: a level that is added later needs no new search."""
        indices = self._subject.image_indices(part)
        if self._subject.cache is None:
            return self._find(indices, x, seed)
        options = {name: getattr(self._options, name) for name in _SEARCH_OPTIONS}
        key = {
            **self._subject.key,
            "version": self._options.VERSION,
            "options": options,
            "seed": seed,
            "images": indices,
        }

        def compute() -> dict[str, np.ndarray]:
            found = self._find(indices, x, seed)
            return {name: value.cpu().numpy() for name, value in found._asdict().items()}

        stored = kept_arrays(self._subject.cache / "shifts", key, compute)
        return ShiftSearch(*(torch.from_numpy(stored[name]).to(x.device) for name in ShiftSearch._fields))

    def _find(self, indices: list[int], x: Tensor, seed: int) -> ShiftSearch:
        options, subject = self._options, self._subject
        starts = normal_draws(
            subject.model.feature_shape,
            seed=seed,
            purpose="hcr-start",
            image_indices=indices,
            count=options.restarts,
            device=x.device,
        )
        return search_shifts(
            self._model,
            subject.double_model,
            x.to(self._dtype),
            starts,
            noise_std=subject.rms(),
            rounds=options.rounds,
            step=options.step,
            lsqr_tolerance=options.lsqr_tolerance,
            max_iterations=options.max_iterations,
            max_items=self.max_items,
        )
