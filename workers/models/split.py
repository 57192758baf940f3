"""The network that measures see: features and head at a cut, frozen, on a device."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models.pixels import normalise, upsample

if TYPE_CHECKING:
    from hushsweep.workers.models.cuts import Cut


class SplitModel:
    """A frozen network as ``head(features(x))``; its halves go through torch.func's jvp, vjp and vmap.

    Attributes:
        input_shape: ``(channels, height, width)`` of an image, before any up-sampling.
        feature_shape: Of one image's features, without the batch.
        num_classes: Length of the logits.
        head_is_linear: Whether the head is affine, found by evaluating it in float64.
        mean: ``(channels, 1, 1)``, pixels 0..1.
        std: ``(channels, 1, 1)``, pixels 0..1.
    """

    def __init__(
        self,
        cut: Cut,
        *,
        input_shape: tuple[int, int, int],
        mean: Tensor,
        std: Tensor,
        network_size: int | None,
    ) -> None:
        self._cut = cut.eval().requires_grad_(False)
        self._network_size = network_size
        self.input_shape = input_shape
        self.mean = mean.reshape(-1, 1, 1)
        self.std = std.reshape(-1, 1, 1)
        probe = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0)).to(self.mean)
        with torch.no_grad():
            features = self.features(probe)
            before = features._version
            logits = self._cut.head(features)
        # torch counts writes into a tensor: this shows whether the head begins with an in-place operation.
        self._head_writes = features._version != before
        if logits.ndim != 2:
            raise PlugInError(f"the network's output has shape {tuple(logits.shape)}, not (images, classes)")
        self.feature_shape = tuple(features.shape[1:])
        self.num_classes = logits.shape[1]
        self.head_is_linear = self._is_affine(features.square().mean().sqrt().item() or 1.0)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.mean.device

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return self.mean.dtype

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 images ``(n, channels, height, width)`` into the input that ``features`` expects."""
        return normalise(images, self.mean, self.std)

    def features(self, x: Tensor) -> Tensor:
        """The activation at the cut, ``(n, *feature_shape)``, of normalised images ``(n, *input_shape)``."""
        with plain_attention():
            return self._cut.features(upsample(x, self._network_size)).clone()

    def head(self, a: Tensor) -> Tensor:
        """Logits ``(n, num_classes)`` of features ``(n, *feature_shape)``, which stay as they are."""
        with plain_attention():
            return self._cut.head(a.clone() if self._head_writes else a)

    def double(self) -> SplitModel:
        """Return a float64 copy; this one stays as it is."""
        other = copy.deepcopy(self)
        other._cut = other._cut.double()
        other.mean, other.std = other.mean.double(), other.std.double()
        return other

    def _is_affine(self, scale: float) -> bool:
        """Test f(a + b) - f(a) - f(b) + f(0) = 0 on random a and b of the features' scale and far above."""
        generator = torch.Generator().manual_seed(1)
        a, b = scale * torch.randn(2, 2, *self.feature_shape, generator=generator, dtype=torch.float64)
        a[1], b[1] = 100 * a[1], 100 * b[1]

        def affine(model: SplitModel, rounding: float) -> bool:
            with torch.no_grad():
                of = [model.head(t.to(model.mean)) for t in (a, b, a + b, torch.zeros_like(a))]
            curvature = (of[2] - of[0] - of[1] + of[3]).abs()
            return bool((curvature <= rounding * torch.stack(of).abs().max()).all())

        # Most heads that are not affine show it in float32 already, without a copy of the network.
        return affine(self, 1e-3) and affine(self.double(), 1e-12)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Compute attention by plain matrix products: the fused kernels have no forward-mode derivative."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
