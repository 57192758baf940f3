"""What a reconstruction attack is: it learns once per point, and then makes an image of what has left.

An attacker knows the client's network, the mechanism and its level, images like the client's, and the range of their
pixels; never the noise that was drawn.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from hushsweep.datasets.images import ImageSet
from hushsweep.workers.attacks.view import BLOCK, CleanImages, View
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning.task import derived_seed
from hushsweep.workers.measures.base import FittedPoint, Subject

VERSION = 1
"""Raise it when the same settings give other reconstructions."""
_HELD_OUT = 10
_TRIED_ON = 1000
"""Validation images on which an attacker is chosen."""


class Reconstructor(Protocol):
    """An attack on one point, ready to be used."""

    @property
    def digest(self) -> str | None:
        """Name of the file that it is kept in; None where nothing is kept."""

    def reconstruct(self, seen: Tensor, inputs: Tensor) -> Tensor:
        """Make images of what has left.

        Args:
            seen: ``(n, *shape)``, what left of n images, the mean of the point's queries.
            inputs: ``(n, *input)``, the true images in normalised units: **for oracles alone**, which say so.

        Returns:
            ``(n, *input)`` float32, normalised units, not yet clipped to what pixels can be.
        """
        ...


class _Part(NamedTuple):
    """Some of the images of an image set."""

    images: ImageSet
    rows: np.ndarray


class Knowledge:
    """Images that attackers learn from, and what several attacks on several points want to know of them."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._clean = dict[tuple[str, bool], CleanImages]()
        self._parts = dict[str, _Part]()
        self.kept = dict[str, Any]()
        """What attacks have computed of the training images for all points."""

    def parts(self) -> tuple[ImageSet, ImageSet]:
        """The image sets that are learned from and chosen on; the same one where a data set has no validation part."""
        return self._part("train").images, self._part("validation").images

    def size(self, part: str) -> int:
        """Images of ``train`` or ``validation``.

        Raises:
            PlugInError: there are none, or too few.
        """
        return len(self._part(part).rows)

    def clean(self, part: str, places: np.ndarray, *, at_cut: bool) -> Tensor:
        """Images of a part where a chain begins; at the cut they are computed once for all points.

        Args:
            part: ``train`` or ``validation``.
            places: ``(n,)``, below `size`.
            at_cut: activations at the cut; else normalised images.

        Returns:
            ``(n, *shape)`` float32 on the device.
        """
        images, rows = self._part(part)
        key = (images.path.name, at_cut)
        if key not in self._clean:
            self._clean[key] = CleanImages(self.subject, images, at_cut=at_cut, keep=True)
        return self._clean[key].rows(rows[places])

    def inputs(self, part: str, places: np.ndarray) -> Tensor:
        """Normalised images ``(n, *input)`` of a part, float32 on the device."""
        return self.clean(part, places, at_cut=False)

    def blocks(self, part: str, at_most: int | None = None) -> list[np.ndarray]:
        """Places of a part in fixed blocks; evenly spaced ones if there are more than ``at_most``."""
        size = self.size(part)
        count = min(size, at_most or size)
        return np.array_split(np.arange(count) * size // count, range(BLOCK, count, BLOCK))

    def _part(self, part: str) -> _Part:
        if not self._parts:
            train = self._images("train")
            try:
                chosen_on = self._images("validation")
            except PlugInError:  # without a task there is no such part: every tenth image is kept for it
                rows = np.arange(len(train))
                held_out = rows % _HELD_OUT == _HELD_OUT - 1
                self._parts = {
                    "train": _Part(train, rows[~held_out]),
                    "validation": _Part(train, rows[held_out]),
                }
            else:
                self._parts = {
                    name: _Part(images, np.arange(len(images)))
                    for name, images in (("train", train), ("validation", chosen_on))
                }
            few = {name: len(found.rows) for name, found in self._parts.items()}
            if few["train"] < 2 or few["validation"] < 1:
                raise PlugInError(
                    "reconstruction: this attack learns from at least 2 images and is chosen on at least 1 more, but "
                    f"there are {few['train']} and {few['validation']}; take a larger data set or train_limit, or the "
                    "attack map with a weight of its total_variation, which needs none"
                )
        return self._parts[part]

    def _images(self, part: str) -> ImageSet:
        try:
            return self.subject.part(part)
        except ValueError as error:
            raise PlugInError(f"reconstruction: no images to learn from: {error}") from error

    @cached_property
    def mean(self) -> Tensor:
        """Mean training image, ``(*input)`` float64."""
        sums, counts = self._sums
        return sums.sum(0) / counts.sum()

    @cached_property
    def class_means(self) -> Tensor:
        """Mean training image of each class, ``(classes, *input)`` float64; of a class without images that of all."""
        sums, counts = self._sums
        shape = (-1,) + (1,) * (sums.dim() - 1)
        return torch.where(counts.reshape(shape) > 0, sums / counts.clamp(min=1).reshape(shape), self.mean)

    @cached_property
    def _sums(self) -> tuple[Tensor, Tensor]:
        model, (images, rows) = self.subject.model, self._part("train")
        labels = np.asarray(images.labels)[rows].astype(np.int64)
        classes = max(model.num_classes, int(labels.max()) + 1)
        device = self.subject.activations.device
        sums = torch.zeros((classes, *model.input_shape), dtype=torch.float64, device=device)
        for places in self.blocks("train"):
            of = torch.from_numpy(labels[places]).to(device)
            sums.index_add_(0, of, self.inputs("train", places).double())
        counts = torch.from_numpy(np.bincount(labels, minlength=classes)).to(device)
        return sums, counts


@dataclass(frozen=True, kw_only=True)
class Target:
    """A point under attack."""

    knowledge: Knowledge
    view: View
    """How the attacker looks at it; the point's noise is rounded, see `rounded`."""
    threads: int = 1
    """CPU threads for whatever a number depends on."""

    @property
    def subject(self) -> Subject:
        """The client's network up to the cut, and its images."""
        return self.view.subject

    @property
    def point(self) -> FittedPoint:
        """The mechanisms."""
        return self.view.point

    @property
    def noise_std(self) -> float | None:
        """Standard deviation of the noise on the mean of the queries, where that is all that the chain adds."""
        noise = self.point.cut_noise
        if noise is not None:
            return float(noise.noise_std) / math.sqrt(self.view.queries)
        return 0.0 if not self.point.stages and self.point.leaves == "cut" else None

    @property
    def seen_shape(self) -> tuple[int, ...]:
        """Of what leaves, for one image, with the channels of the mask where there is one."""
        model = self.subject.model
        shape = model.input_shape if self.point.leaves == "input" else model.feature_shape
        return (shape[0] * (1 + self.view.masked), *shape[1:])

    @torch.no_grad()
    def seen(self, part: str, places: np.ndarray) -> Tensor:
        """What leaves of some images of a part, with new noise from torch's generator."""
        clean = self.knowledge.clean(part, places, at_cut=self.view.starts_at_cut)
        return self._training_view.see(clean, self._training_view.new_noise)

    @cached_property
    def _training_view(self) -> View:
        few = np.arange(min(4, self.knowledge.size("train")))
        return self.view.in_training(self.knowledge.clean("train", few, at_cut=self.view.starts_at_cut))

    def validation(self) -> tuple[Tensor, Tensor]:
        """What leaves of up to 1,000 validation images, always with the same noise, and the images."""
        blocks = self.knowledge.blocks("validation", _TRIED_ON)
        with torch.random.fork_rng():
            torch.manual_seed(derived_seed("reconstruction", "validation", self.point.seed))
            seen = torch.cat([self.seen("validation", rows) for rows in blocks])
        return seen, torch.cat([self.knowledge.inputs("validation", rows) for rows in blocks])
