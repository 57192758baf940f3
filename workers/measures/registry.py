"""The table of measures by the name that a sweep file uses."""

from typing import Any

from hushsweep.workers.measures.accuracy import Accuracy
from hushsweep.workers.measures.bounds import Bounds
from hushsweep.workers.measures.epsilon import Epsilon
from hushsweep.workers.measures.hcr import Hcr
from hushsweep.workers.measures.information import Information
from hushsweep.workers.measures.masks import Masks
from hushsweep.workers.measures.membership import Membership
from hushsweep.workers.measures.reconstruction import Reconstruction
from hushsweep.workers.measures.sandwich import Sandwich
from hushsweep.workers.measures.secondary import Secondary
from hushsweep.workers.plugins import find_plugin

MEASURES: dict[str, type[Any]] = {
    "accuracy": Accuracy,
    "bounds": Bounds,
    "epsilon": Epsilon,
    "hcr": Hcr,
    "information": Information,
    "masks": Masks,
    "membership": Membership,
    "reconstruction": Reconstruction,
    "sandwich": Sandwich,
    "secondary": Secondary,
}


def find_measure(name: str) -> type[Any]:
    """Return the measure called ``name``.

    Raises:
        PlugInError: no such measure; the message suggests the nearest name.
    """
    needs = ("VERSION", "inapplicable", "measure", "summarise")
    found: type[Any] = find_plugin("measure", name, MEASURES, needs=needs)
    return found
