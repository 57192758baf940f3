"""Probes of small networks for tests of searches."""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from hushsweep.workers.bounds import FeatureMap
from hushsweep.workers.bounds.cramer_rao import Decomposition, decompose
from hushsweep.workers.bounds.search.probe import Probe, Search, Shifts


class Map:
    """Features that are a function of flattened inputs."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def features(self, x: Tensor) -> Tensor:
        """Map ``(n, *input)`` to ``(n, features)``."""
        return self.function(x.flatten(1))


def digits(n: int) -> Tensor:
    """Embedded digits ``(n, 1, 8, 8)`` in 0..1, many of their pixels black."""
    return torch.from_numpy(load_digits().images[:n, None] / 16)


def probe_of(net: FeatureMap, x: Tensor, *, low: float = 0.0, high: float = 1.0, **changes: Any) -> Probe:
    """Probe some images; each has its own noise, whatever the others."""
    with torch.no_grad():
        features = net.features(x)
    kept = list[Decomposition]()

    def decompositions() -> list[Decomposition]:
        if not kept:
            kept.extend(decompose(j, directions=x[0].numel(), keep_row_space=True) for j in jacobians(net, x))
        return kept

    def noise(purpose: str, count: int) -> Tensor:
        rows = []
        for name in range(len(x)):
            generator = torch.Generator().manual_seed(zlib.crc32(f"{purpose} {name}".encode()))
            rows.append(
                torch.randn(count, *features.shape[1:], generator=generator, dtype=torch.float64).float()
            )
        return torch.stack(rows)

    channels = (x.shape[1], 1, 1)
    settings = {
        "model": net,
        "exact": net,
        "x": x,
        "clean": features.flatten(1),
        "reference_std": 0.5,
        "step": 1e-3,
        "count": 5,
        "decompositions": decompositions,
        "noise": noise,
        "low": torch.full(channels, low, dtype=torch.float64),
        "high": torch.full(channels, high, dtype=torch.float64),
        "max_items": 64,
    }
    return Probe(**{**settings, **changes})


def some_of(probe: Probe, rows: list[int]) -> Probe:
    """Probe some of the images by themselves."""
    return dataclasses.replace(
        probe,
        x=probe.x[rows],
        clean=probe.clean[rows],
        decompositions=lambda: [probe.decompositions()[row] for row in rows],
        noise=lambda purpose, count: probe.noise(purpose, count)[rows],
    )


def found_by(search: Search, probe: Probe, noise_std: float = 0.5) -> Shifts:
    """Run a search of either kind."""
    return search.find(probe, noise_std, None) if search.per_noise else search.find(probe)


def jacobians(net: FeatureMap, x: Tensor) -> Tensor:
    """Jacobians ``(n, features, inputs)`` by reverse-mode differentiation."""
    rows = [torch.func.jacrev(lambda z: net.features(z[None]).flatten())(row) for row in x]
    return torch.stack(rows).flatten(2)
