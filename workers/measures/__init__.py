"""Measures: named numbers of a point, one per file."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.workers.measures.accuracy import Accuracy as Accuracy
    from hushsweep.workers.measures.base import Measure as Measure
    from hushsweep.workers.measures.base import MeasureRows as MeasureRows
    from hushsweep.workers.measures.base import Statistic as Statistic
    from hushsweep.workers.measures.base import Subject as Subject
    from hushsweep.workers.measures.bounds import Bounds as Bounds
    from hushsweep.workers.measures.epsilon import Epsilon as Epsilon
    from hushsweep.workers.measures.hcr import Hcr as Hcr
    from hushsweep.workers.measures.information import Information as Information
    from hushsweep.workers.measures.masks import Masks as Masks
    from hushsweep.workers.measures.membership import Membership as Membership
    from hushsweep.workers.measures.reconstruction import Reconstruction as Reconstruction
    from hushsweep.workers.measures.registry import MEASURES as MEASURES
    from hushsweep.workers.measures.registry import find_measure as find_measure
    from hushsweep.workers.measures.sandwich import Sandwich as Sandwich
    from hushsweep.workers.measures.secondary import Secondary as Secondary

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "accuracy": ["Accuracy"],
        "base": ["Measure", "MeasureRows", "Statistic", "Subject"],
        "bounds": ["Bounds"],
        "epsilon": ["Epsilon"],
        "hcr": ["Hcr"],
        "information": ["Information"],
        "masks": ["Masks"],
        "membership": ["Membership"],
        "registry": ["MEASURES", "find_measure"],
        "reconstruction": ["Reconstruction"],
        "sandwich": ["Sandwich"],
        "secondary": ["Secondary"],
    },
)
