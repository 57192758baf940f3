"""The dashboard: one page of pictures and tables over a results folder, for a browser on this machine."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.dashboards.app.process import dashboard_address as dashboard_address
    from hushsweep.dashboards.app.process import dashboard_command as dashboard_command

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"process": ["dashboard_address", "dashboard_command"]}
)
