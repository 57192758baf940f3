"""What to run: sweep files, points, the planner, the Ray Tune driver and the command line."""

if not __name__.startswith("hushsweep."):
    raise ImportError(
        f"this folder is the package hushsweep.sweeps, imported here as {__name__!r}; use 'import hushsweep.sweeps'"
    )

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.sweeps.errors import RunError as RunError
    from hushsweep.sweeps.errors import SpecError as SpecError
    from hushsweep.sweeps.planner import Plan as Plan
    from hushsweep.sweeps.session import Summary as Summary
    from hushsweep.sweeps.session import plan as plan
    from hushsweep.sweeps.session import run as run
    from hushsweep.sweeps.spec import SweepSpec as SweepSpec
    from hushsweep.sweeps.spec import json_schema as json_schema

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "errors": ["RunError", "SpecError"],
        "planner": ["Plan"],
        "session": ["Summary", "plan", "run"],
        "spec": ["SweepSpec", "json_schema"],
    },
)
