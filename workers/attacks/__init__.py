"""Attackers: programs that learn from what leaves what the client did not want to tell."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.workers.attacks.networks import NETWORKS as NETWORKS
    from hushsweep.workers.attacks.networks import Attacker as Attacker
    from hushsweep.workers.attacks.training import Attack as Attack
    from hushsweep.workers.attacks.training import Trained as Trained
    from hushsweep.workers.attacks.training import trained_attacker as trained_attacker
    from hushsweep.workers.attacks.view import View as View

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "networks": ["NETWORKS", "Attacker"],
        "training": ["Attack", "Trained", "trained_attacker"],
        "view": ["View"],
    },
)
