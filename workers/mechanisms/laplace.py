"""Laplace dithering: independent double-exponential noise on every activation."""

from dataclasses import dataclass
from typing import ClassVar

from hushsweep.workers.mechanisms.base import Dithering


@dataclass(frozen=True, kw_only=True)
class LaplaceDithering(Dithering):
    """Add Laplace noise of standard deviation sigma, that is of scale sigma / sqrt(2), to every activation."""

    LAW: ClassVar[str] = "laplace"
