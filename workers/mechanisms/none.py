"""No mechanism: the clean network, the reference of every trade-off."""

from dataclasses import dataclass
from typing import ClassVar

from hushsweep.workers.mechanisms.base import ActivationStatistics, Unchanged


@dataclass(frozen=True, kw_only=True)
class NoMechanism:
    """Let the activations leave as they are. It has no noise, hence no chi-square and no bound."""

    VERSION: ClassVar[int] = 1
    LEVELS: ClassVar[tuple[str, ...]] = ()

    def fit(self, statistics: ActivationStatistics) -> Unchanged:
        """Need nothing of the activations."""
        return Unchanged()
