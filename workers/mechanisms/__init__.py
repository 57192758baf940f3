"""What is done to activations before they leave: one idea per file, named in one table."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.workers.mechanisms.base import ActivationStatistics as ActivationStatistics
    from hushsweep.workers.mechanisms.base import AdditiveNoise as AdditiveNoise
    from hushsweep.workers.mechanisms.base import FittedMechanism as FittedMechanism
    from hushsweep.workers.mechanisms.base import Mechanism as Mechanism
    from hushsweep.workers.mechanisms.base import Unchanged as Unchanged
    from hushsweep.workers.mechanisms.base import UnitNoise as UnitNoise
    from hushsweep.workers.mechanisms.gaussian import GaussianDithering as GaussianDithering
    from hushsweep.workers.mechanisms.laplace import LaplaceDithering as LaplaceDithering
    from hushsweep.workers.mechanisms.none import NoMechanism as NoMechanism
    from hushsweep.workers.mechanisms.registry import MECHANISMS as MECHANISMS
    from hushsweep.workers.mechanisms.registry import find_mechanism as find_mechanism

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": [
            "ActivationStatistics",
            "AdditiveNoise",
            "FittedMechanism",
            "Mechanism",
            "Unchanged",
            "UnitNoise",
        ],
        "gaussian": ["GaussianDithering"],
        "laplace": ["LaplaceDithering"],
        "none": ["NoMechanism"],
        "registry": ["MECHANISMS", "find_mechanism"],
    },
)
