"""The floor that an attack has to beat: the same guess whatever leaves, or one per predicted class."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hushsweep.workers.attacks.reconstruction.base import Target


@dataclass(frozen=True)
class Blind:
    """The mean training image: what is known before anything leaves, and the best constant guess."""

    mean: Tensor
    digest: str | None = None

    @classmethod
    def fit(cls, target: Target) -> "Blind":
        """Compute the mean."""
        return cls(target.knowledge.mean.float())

    def reconstruct(self, seen: Tensor, inputs: Tensor) -> Tensor:
        """Return the same image for all."""
        return self.mean.expand(len(seen), *self.mean.shape)


@dataclass(frozen=True)
class ClassMean:
    """The mean training image of the class that the server itself predicts: what the answer alone gives away."""

    target: Target
    means: Tensor
    digest: str | None = None

    @classmethod
    def fit(cls, target: Target) -> "ClassMean":
        """Compute the means."""
        return cls(target, target.knowledge.class_means.float())

    @torch.no_grad()
    def reconstruct(self, seen: Tensor, inputs: Tensor) -> Tensor:
        """Ask the server's network what it sees, and return the mean of that class."""
        model = self.target.subject.model
        logits = model.head(seen if self.target.point.leaves == "cut" else model.features(seen))
        return self.means[logits.argmax(1)]
