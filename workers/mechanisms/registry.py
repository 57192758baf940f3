"""The table of mechanisms by the name that a sweep file uses."""

from typing import Any

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.mechanisms.ani import Ani
from hushsweep.workers.mechanisms.bottleneck import Bottleneck
from hushsweep.workers.mechanisms.cloak import Cloak
from hushsweep.workers.mechanisms.dp_sgd import DpSgd
from hushsweep.workers.mechanisms.dpfe import Dpfe
from hushsweep.workers.mechanisms.gaussian import GaussianDithering
from hushsweep.workers.mechanisms.laplace import LaplaceDithering
from hushsweep.workers.mechanisms.learned import LearnedMechanism
from hushsweep.workers.mechanisms.none import NoMechanism
from hushsweep.workers.mechanisms.obfuscator import Obfuscator
from hushsweep.workers.mechanisms.private_activations import PrivateActivations
from hushsweep.workers.mechanisms.scaled_noise import TrainedGaussian
from hushsweep.workers.mechanisms.shredder import Shredder
from hushsweep.workers.plugins import find_plugin

MECHANISMS: dict[str, type[Any]] = {
    "none": NoMechanism,
    "gaussian": GaussianDithering,
    "laplace": LaplaceDithering,
    "trained_gaussian": TrainedGaussian,
    "bottleneck": Bottleneck,
    "ani": Ani,
    "cloak": Cloak,
    "shredder": Shredder,
    "dpfe": Dpfe,
    "obfuscator": Obfuscator,
    "dp_sgd": DpSgd,
    "private_activations": PrivateActivations,
}


def find_mechanism(name: str) -> type[Any]:
    """Return the mechanism called ``name``, or the one a plug-in spells ``package.module:Name``.

    Raises:
        PlugInError: no such mechanism (the message suggests the nearest name), or a class that is none.
    """
    found: type[Any] = find_plugin("mechanism", name, MECHANISMS, needs=("VERSION", "LEVELS"))
    if not (issubclass(found, LearnedMechanism) or hasattr(found, "fit")):
        raise PlugInError(
            f"{name!r} is no mechanism: it lacks fit; one that learns is derived from "
            "hushsweep.workers.mechanisms.learned.LearnedMechanism"
        )
    return found
