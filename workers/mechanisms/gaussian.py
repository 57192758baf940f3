"""Gaussian dithering: independent normal noise on every activation."""

from dataclasses import dataclass
from typing import ClassVar

from hushsweep.workers.mechanisms.base import Dithering


@dataclass(frozen=True, kw_only=True)
class GaussianDithering(Dithering):
    """Add N(0, sigma^2) to every activation (Chaudhuri et al. 2024, arXiv:2404.02866)."""

    LAW: ClassVar[str] = "gaussian"
