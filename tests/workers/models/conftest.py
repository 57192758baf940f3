"""Descriptions of data sets, and networks whose weights are all alive."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from hushsweep.datasets.images import DatasetInfo


@pytest.fixture(scope="session")
def info_of() -> Callable[..., DatasetInfo]:
    """Describe a data set that is never read."""

    def describe(
        *, channels: int = 3, side: int | None = None, classes: int = 7, **more: object
    ) -> DatasetInfo:
        values: dict[str, object] = {
            "name": "some",
            "split": "test",
            "fingerprint": "00",
            "size": 10,
            "total": 10,
            "classes": classes,
            "channels": channels,
            "height": side,
            "width": side,
            "mean": None,
            "std": None,
            "class_names": None,
        }
        return DatasetInfo(**{**values, **more})  # type: ignore[arg-type]

    return describe


@pytest.fixture(scope="session")
def enliven() -> Callable[[nn.Module, int], nn.Module]:
    """Redraw every weight, since fresh networks hide mistakes behind zeros (zero heads, zero residual branches)."""

    def redraw(network: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, value in [*network.named_parameters(), *network.named_buffers()]:
                noise = torch.randn(value.shape, generator=generator)
                if name.endswith("running_var"):
                    value.copy_(1 + 0.2 * torch.rand(value.shape, generator=generator))
                elif "running_mean" in name:
                    value.copy_(0.1 * noise)
                elif isinstance(value, nn.Parameter) and value.ndim > 1:
                    value.copy_(noise * (2 / value[0].numel()) ** 0.5)
                elif isinstance(value, nn.Parameter):
                    value.copy_((0.1 if name.endswith("bias") else 1) + 0.1 * noise)
        return network.eval()

    return redraw
