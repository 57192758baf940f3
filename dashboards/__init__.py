"""What people look at: SQL views, figures and the MLflow mirror. Opens without torch."""

from typing import TYPE_CHECKING

import lazy_loader

if not __name__.startswith("hushsweep."):
    raise ImportError(
        f"this folder is the package hushsweep.dashboards, imported here as {__name__!r}; "
        "use 'import hushsweep.dashboards'"
    )

if TYPE_CHECKING:
    from hushsweep.dashboards.figures import draw_epsilons as draw_epsilons
    from hushsweep.dashboards.figures import draw_privacy as draw_privacy
    from hushsweep.dashboards.figures import draw_tradeoff as draw_tradeoff
    from hushsweep.dashboards.opened import Results as Results
    from hushsweep.dashboards.opened import open as open  # noqa: A004
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
    from hushsweep.dashboards.reports import Report as Report
    from hushsweep.dashboards.reports import write_report as write_report
    from hushsweep.dashboards.server import ui_address as ui_address
    from hushsweep.dashboards.server import ui_command as ui_command
    from hushsweep.dashboards.status import SweepStatus as SweepStatus
    from hushsweep.dashboards.status import sweep_status as sweep_status
    from hushsweep.dashboards.tracking import MirrorReport as MirrorReport
    from hushsweep.dashboards.tracking import mirror as mirror

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "figures": ["draw_epsilons", "draw_privacy", "draw_tradeoff"],
        "opened": ["Results", "open"],
        "queries.output": ["write_result"],
        "queries.ready_made": ["ready_made"],
        "queries.run": [
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
        "reports": ["Report", "write_report"],
        "server": ["ui_address", "ui_command"],
        "status": ["SweepStatus", "sweep_status"],
        "tracking": ["MirrorReport", "mirror"],
    },
)
