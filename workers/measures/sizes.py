"""How large the Jacobian of a network at a cut will be, told before the weights are there."""

from typing import NamedTuple

import torch

from hushsweep.datasets.images import DatasetInfo
from hushsweep.workers.bounds.cramer_rao import exact_bytes
from hushsweep.workers.bounds.jacobian import active_entries
from hushsweep.workers.models import InputTransform, ModelConfig, load_model

GIB = 2**30


class JacobianSize(NamedTuple):
    """Sizes of one image's Jacobian; which features depend on the input is known of the image at hand only."""

    inputs: int
    features: int
    active_features: int
    active_inputs: int

    @property
    def rows(self) -> int:
        """Backward (or forward) derivative passes that the exact Jacobian takes."""
        return min(self.active_features, self.active_inputs)

    def memory_gb(self, precision: str) -> float:
        """GiB that the exact route takes; ``precision`` is that of the Jacobian, float64 or float32."""
        return exact_bytes(self.active_features, self.inputs, getattr(torch, precision).itemsize) / GIB


def jacobian_size(
    config: ModelConfig, cut: str, *, info: DatasetInfo, transform: InputTransform
) -> JacobianSize:
    """Look at a network with fresh weights and one random image: how many features are active there.

    Raises:
        PlugInError: the model or its cut is impossible.
    """
    fresh = ModelConfig(**{**vars(config), "weights": "random"})
    model = load_model(fresh, cut, info=info, transform=transform)
    generator = torch.Generator().manual_seed(0)
    active = active_entries(model, torch.randn(1, *model.input_shape, generator=generator))
    return JacobianSize(
        inputs=active.inputs.numel(),
        features=active.features.numel(),
        active_features=int(active.features.sum()),
        active_inputs=int(active.inputs.sum()),
    )
