"""Searches for the input shifts that probe a bound."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.workers.bounds.search.paper import ShiftSearch as ShiftSearch
    from hushsweep.workers.bounds.search.paper import items_that_fit as items_that_fit
    from hushsweep.workers.bounds.search.paper import search_shifts as search_shifts
    from hushsweep.workers.bounds.search.probe import Probe as Probe
    from hushsweep.workers.bounds.search.probe import Search as Search
    from hushsweep.workers.bounds.search.probe import Shifts as Shifts
    from hushsweep.workers.bounds.search.registry import SEARCHES as SEARCHES

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "paper": ["ShiftSearch", "items_that_fit", "search_shifts"],
        "probe": ["Probe", "Search", "Shifts"],
        "registry": ["SEARCHES"],
    },
)
