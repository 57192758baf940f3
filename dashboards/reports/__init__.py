"""A sweep to hand on: one page that needs nothing else, or a folder of Markdown and pictures."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.dashboards.reports.write import Report as Report
    from hushsweep.dashboards.reports.write import write_report as write_report

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"write": ["Report", "write_report"]}
)
