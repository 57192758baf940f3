"""The HCR bound of every DCT mode from given shifts of the input, exact in the network: nothing is linearised."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from hushsweep.workers.bounds.cosine import dct
from hushsweep.workers.bounds.hcr import hcr_std_bound


class FeatureMap(Protocol):
    """What bounds and searches need of a model: each row of the features is a function of that row of the input."""

    def features(self, x: Tensor) -> Tensor:
        """Map ``(n, *input)`` to ``(n, *feature)``."""
        ...


class ShiftBounds(NamedTuple):
    """Bounds for ``n`` images from ``r`` shifts each, float64."""

    modes: Tensor  # (n, channels, height, width), largest over the shifts, units of x
    input_norm: Tensor  # (n, r), Euclidean norm of the shift, units of x
    feature_norm: Tensor  # (n, r), of the displacement it causes, feature units
    chi_square: Tensor  # (n, r)


@torch.no_grad()
def bound_modes(
    model: FeatureMap,
    x: Tensor,
    input_shift: Tensor,
    chi_square: Callable[[Tensor], Tensor],
    *,
    clean: Tensor | None = None,
    max_batch: int = 512,
) -> ShiftBounds:
    """Bound the standard deviation of every unbiased estimate of each DCT mode of the images.

    Any shift gives a valid bound, however it was found, and so does the largest over several; a shift of zeros gives
    none, that is 0.

    Args:
        model: the network in float64.
        x: normalised images ``(n, channels, height, width)``.
        input_shift: ``(n, r, channels, height, width)``, units of ``x``.
        chi_square: divergence of the noise as a function of feature displacements ``(k, features)``.
        clean: the network's features of ``x``, ``(n, features)``, if at hand.
        max_batch: network inputs at once.
    """
    n, r = input_shift.shape[:2]
    x, shift = x.double(), input_shift.double().flatten(0, 1)
    if clean is None:
        clean = torch.cat([model.features(part).flatten(1) for part in torch.split(x, max_batch)])
    norms, divergences = list[Tensor](), list[Tensor]()
    for items in torch.split(torch.arange(n * r, device=x.device), max_batch):
        displacement = model.features(x[items // r] + shift[items]).flatten(1) - clean[items // r]
        norms.append(displacement.norm(dim=1))
        divergences.append(chi_square(displacement))
    divergence = torch.cat(divergences)
    bounds = dct(shift)
    told = bounds.flatten(1).any(1)
    bounds[told] = hcr_std_bound(
        bounds[told], divergence[told]
    )  # a shift of zeros bounds nothing and stays 0
    return ShiftBounds(
        bounds.reshape(input_shift.shape).amax(1),
        shift.flatten(1).norm(dim=1).reshape(n, r),
        torch.cat(norms).reshape(n, r),
        divergence.reshape(n, r),
    )
