"""The table of measures by the name that a sweep file uses."""

from typing import Any

from hushsweep.workers.measures.accuracy import Accuracy
from hushsweep.workers.measures.bounds import Bounds
from hushsweep.workers.measures.hcr import Hcr
from hushsweep.workers.plugins import find_plugin

MEASURES: dict[str, type[Any]] = {"accuracy": Accuracy, "bounds": Bounds, "hcr": Hcr}


def find_measure(name: str) -> type[Any]:
    """Return the measure called ``name``.

    Raises:
        PlugInError: no such measure; the message suggests the nearest name.
    """
    return find_plugin("measure", name, MEASURES, needs=("VERSION", "inapplicable", "measure", "summarise"))
