"""SQL over the results: views and the functions that run them."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.dashboards.queries.connection import connect as connect
    from hushsweep.dashboards.queries.connection import one_moment as one_moment
    from hushsweep.dashboards.queries.output import write_result as write_result
    from hushsweep.dashboards.queries.ready_made import ready_made as ready_made
    from hushsweep.dashboards.queries.run import QueryError as QueryError
    from hushsweep.dashboards.queries.run import bounds as bounds
    from hushsweep.dashboards.queries.run import dp as dp
    from hushsweep.dashboards.queries.run import frontier as frontier
    from hushsweep.dashboards.queries.run import overview as overview
    from hushsweep.dashboards.queries.run import privacy as privacy
    from hushsweep.dashboards.queries.run import reconstructions as reconstructions
    from hushsweep.dashboards.queries.run import run_query as run_query
    from hushsweep.dashboards.queries.run import sandwich as sandwich
    from hushsweep.dashboards.queries.run import secondary_drop as secondary_drop
    from hushsweep.dashboards.queries.run import tradeoff as tradeoff

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "connection": ["connect", "one_moment"],
        "output": ["write_result"],
        "ready_made": ["ready_made"],
        "run": [
            "QueryError",
            "bounds",
            "dp",
            "frontier",
            "overview",
            "privacy",
            "reconstructions",
            "run_query",
            "sandwich",
            "secondary_drop",
            "tradeoff",
        ],
    },
)
