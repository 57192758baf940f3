"""Shifts of images by the search of arXiv:2404.02866, found once and kept."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hushsweep.datasets.results.files import write_atomically
from hushsweep.workers.bounds.search import ShiftSearch, items_that_fit, search_shifts
from hushsweep.workers.measures.base import Subject
from hushsweep.workers.noise import unit_noise
from hushsweep.workers.trial import content_id

if TYPE_CHECKING:
    from hushsweep.workers.measures.hcr import Hcr

_MEMORY = 2**31
"""Bytes that a search may take in main memory; on a GPU a quarter of its memory."""
_SEARCH_OPTIONS = ("restarts", "rounds", "step", "lsqr_tolerance", "max_iterations", "precision")
"""What the shifts depend on; the other options only choose images and modes."""


class ShiftFinder:
    """Runs the search on some images in the precision asked for."""

    def __init__(self, options: "Hcr", subject: Subject) -> None:
        self._options, self._subject = options, subject
        self._dtype = getattr(torch, options.precision)
        self._model = subject.double_model if options.precision == "float64" else subject.model
        device = subject.activations.device
        memory = torch.cuda.mem_get_info(device)[1] // 4 if device.type == "cuda" else _MEMORY
        zero = torch.zeros((1, *subject.model.input_shape), dtype=self._dtype, device=device)
        self.max_items = items_that_fit(self._model, zero, memory)

    def run(self, part: range, x: Tensor, seed: int) -> ShiftSearch:
        """Find the shifts of some images, or find them found: a level that is added later needs no new search."""
        indices = [int(index) for index in self._subject.activations.images.indices[part.start : part.stop]]
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
        file = self._subject.cache / "shifts" / f"{content_id(key)}.npz"
        if not file.exists():
            found = self._find(indices, x, seed)
            arrays = {name: value.cpu().numpy() for name, value in found._asdict().items()}
            write_atomically(file, lambda stream: np.savez(stream, **arrays))
        with np.load(file, allow_pickle=False) as stored:
            return ShiftSearch(*(torch.from_numpy(stored[name]).to(x.device) for name in ShiftSearch._fields))

    def _find(self, indices: list[int], x: Tensor, seed: int) -> ShiftSearch:
        options, subject = self._options, self._subject
        starts = [
            unit_noise(
                "gaussian",
                subject.model.feature_shape,
                seed=seed,
                purpose="hcr-start",
                image_indices=indices,
                draw=restart,
                device=x.device,
            )
            for restart in range(options.restarts)
        ]
        return search_shifts(
            self._model,
            subject.double_model,
            x.to(self._dtype),
            torch.stack(starts, dim=1),
            noise_std=subject.rms(),
            rounds=options.rounds,
            step=options.step,
            lsqr_tolerance=options.lsqr_tolerance,
            max_iterations=options.max_iterations,
            max_items=self.max_items,
        )
