"""The table of mechanisms by the name that a sweep file uses."""

from typing import Any

from hushsweep.workers.mechanisms.gaussian import GaussianDithering
from hushsweep.workers.mechanisms.laplace import LaplaceDithering
from hushsweep.workers.mechanisms.none import NoMechanism
from hushsweep.workers.plugins import find_plugin

MECHANISMS: dict[str, type[Any]] = {
    "none": NoMechanism,
    "gaussian": GaussianDithering,
    "laplace": LaplaceDithering,
}


def find_mechanism(name: str) -> type[Any]:
    """Return the mechanism called ``name``, or the one a plug-in spells ``package.module:Name``.

    Raises:
        PlugInError: no such mechanism; the message suggests the nearest name.
    """
    return find_plugin("mechanism", name, MECHANISMS, needs=("VERSION", "LEVELS", "fit"))
