"""Confidentiality bounds: pure functions in float64."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.workers.bounds.chi_square import chi_square_gaussian as chi_square_gaussian
    from hushsweep.workers.bounds.chi_square import chi_square_laplace as chi_square_laplace
    from hushsweep.workers.bounds.cosine import dct as dct
    from hushsweep.workers.bounds.cosine import idct as idct
    from hushsweep.workers.bounds.hcr import hcr_std_bound as hcr_std_bound
    from hushsweep.workers.bounds.shifts import FeatureMap as FeatureMap
    from hushsweep.workers.bounds.shifts import ShiftBounds as ShiftBounds
    from hushsweep.workers.bounds.shifts import bound_modes as bound_modes

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "chi_square": ["chi_square_gaussian", "chi_square_laplace"],
        "cosine": ["dct", "idct"],
        "hcr": ["hcr_std_bound"],
        "shifts": ["FeatureMap", "ShiftBounds", "bound_modes"],
    },
)
