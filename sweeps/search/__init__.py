"""Levels that are searched for: sampled over a range, or bisected for a loss of accuracy; and early stopping."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.sweeps.search.bisection import Bisection as Bisection
    from hushsweep.sweeps.search.judge import Judge as Judge
    from hushsweep.sweeps.search.outcomes import Outcome as Outcome
    from hushsweep.sweeps.search.sampling import Sampling as Sampling
    from hushsweep.sweeps.search.searches import Searches as Searches

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bisection": ["Bisection"],
        "judge": ["Judge"],
        "outcomes": ["Outcome"],
        "sampling": ["Sampling"],
        "searches": ["Searches"],
    },
)
