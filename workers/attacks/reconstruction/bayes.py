"""Linear-Gaussian Bayes at the true image: an oracle's level, neither an attack nor a bound.

``m + C J' (J C J' + s^2 I)^-1 (a - f(x) - J (m - x))``: the mean of the image given what has left, were the network
its tangent at the true image x and images N(m, C) with the moments of training images. Whoever knew that tangent would
know the image; it tells how much of an attack's error the network's curvature and the images' shape account for.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hushsweep.workers.attacks.reconstruction.base import Knowledge, Target
from hushsweep.workers.bounds.jacobian import active_entries, jacobian
from hushsweep.workers.devices import search_memory
from hushsweep.workers.errors import PlugInError

_LARGEST = 4096
"""Entries of an image up to which the covariance of all pairs is formed: 134 MB."""


@dataclass(frozen=True)
class Bayes:
    """The oracle of one point."""

    target: Target
    mean: Tensor
    root: Tensor
    """``(p, k)``: C is its product with its transpose."""
    digest: str | None = None

    @classmethod
    def fit(cls, target: Target) -> "Bayes":
        """Compute the moments of the training images.

        Raises:
            PlugInError: the chain is not additive noise at the cut, or images are too large.
        """
        if target.noise_std is None:
            raise PlugInError("reconstruction: bayes needs additive noise of one size at the cut")
        mean, values, vectors = image_moments(target.knowledge)
        return cls(target, mean, vectors * values.clamp(min=0).sqrt())

    @torch.no_grad()
    def reconstruct(self, seen: Tensor, inputs: Tensor) -> Tensor:
        """Look at the true images, and return the mean of each given what has left of it."""
        model, x = self.target.subject.double_model, inputs.double()
        assert self.target.noise_std is not None
        features = torch.cat([model.features(one).flatten(1) for one in x[:, None]])
        active = active_entries(model, x)
        found = list[Tensor]()
        for row, matrix in enumerate(jacobian(model, x, memory=search_memory(x.device), active=active)):
            rows = active.features[row]
            away = self.mean - x[row].flatten()
            told = (seen[row].flatten().double() - features[row])[rows] - matrix @ away
            along = matrix @ self.root
            # (J C J' + s^2)^-1 by the singular values of J times a root of C: whichever side is smaller
            u, s, v = torch.linalg.svd(along, full_matrices=False)
            weights = torch.where(s > 1e-10 * s.amax(), s / (s.square() + self.target.noise_std**2), 0.0)
            found.append(self.mean + self.root @ (v.T @ (weights * (u.T @ told))))
        return torch.stack(found).reshape(inputs.shape).float()


def image_moments(knowledge: Knowledge) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of the training images, ``(p)``, and eigenvalues and eigenvectors of their covariance, float64.

    Raises:
        PlugInError: images of more than 4,096 entries.
    """
    entries = knowledge.subject.model.input_shape
    size = torch.Size(entries).numel()
    if size > _LARGEST:
        raise PlugInError(
            f"reconstruction: the covariance of {size:,} entries of an image is not formed; images of up to "
            f"{_LARGEST:,} have one"
        )
    if "images" not in knowledge.kept:
        mean = knowledge.mean.flatten()
        covariance, count = torch.zeros((size, size), dtype=torch.float64, device=mean.device), 0
        for rows in knowledge.blocks("train"):
            centred = knowledge.inputs("train", rows).flatten(1).double() - mean
            covariance.addmm_(centred.T, centred)
            count += len(rows)
        knowledge.kept["images"] = (mean, *torch.linalg.eigh(covariance / count))
    mean, values, vectors = knowledge.kept["images"]
    return mean, values, vectors
