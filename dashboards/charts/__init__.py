"""Interactive charts of rows of the views, for pages and notebooks: Altair, no drawing library besides."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.dashboards.charts.accuracy import accuracy_chart as accuracy_chart
    from hushsweep.dashboards.charts.attacks import attacks_chart as attacks_chart
    from hushsweep.dashboards.charts.bounds import bounds_chart as bounds_chart
    from hushsweep.dashboards.charts.epsilon import epsilon_chart as epsilon_chart
    from hushsweep.dashboards.charts.files import FORMATS as FORMATS
    from hushsweep.dashboards.charts.files import save_chart as save_chart
    from hushsweep.dashboards.charts.frontier import HIDES as HIDES
    from hushsweep.dashboards.charts.frontier import frontier_chart as frontier_chart
    from hushsweep.dashboards.charts.modes import modes_chart as modes_chart
    from hushsweep.dashboards.charts.modes import modes_sql as modes_sql
    from hushsweep.dashboards.charts.style import look as look
    from hushsweep.dashboards.charts.style import spec as spec

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "accuracy": ["accuracy_chart"],
        "attacks": ["attacks_chart"],
        "bounds": ["bounds_chart"],
        "epsilon": ["epsilon_chart"],
        "files": ["FORMATS", "save_chart"],
        "frontier": ["HIDES", "frontier_chart"],
        "modes": ["modes_chart", "modes_sql"],
        "style": ["look", "spec"],
    },
)
