"""Training: one loop that can be killed at any moment, and what is learned with it."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.workers.learning.loop import History as History
    from hushsweep.workers.learning.loop import Schedule as Schedule
    from hushsweep.workers.learning.loop import run_epochs as run_epochs
    from hushsweep.workers.learning.options import Learning as Learning

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"loop": ["History", "Schedule", "run_epochs"], "options": ["Learning"]},
)
