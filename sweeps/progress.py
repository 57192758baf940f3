"""The live table of a run: quiet where nobody watches."""

import contextlib
import threading
import time
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from hushsweep.sweeps.planner import Plan
from hushsweep.workers.progress import Progress, Report


@contextlib.contextmanager
def live_table(plan: Plan, console: Console) -> Iterator[Report]:
    """Show points done and failed, images per second and time left while the block runs."""
    state = _State(plan)
    if not console.is_terminal or not (plan.missing or plan.asking):
        yield state.add
        return
    with Live(
        get_renderable=state.render,
        console=console,
        refresh_per_second=4,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield state.add


class _State:
    def __init__(self, plan: Plan) -> None:
        self._sweep, self._missing = plan.sweep, plan.missing + plan.asking
        self._trials = plan.parts
        self._images = self._complete = self._failed = 0
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def add(self, progress: Progress) -> None:
        with self._lock:
            self._images += progress.images
            self._complete += progress.complete
            self._failed += progress.failed

    def render(self) -> Table:
        elapsed = time.monotonic() - self._started
        # a repeated attempt may report the same rows twice
        complete = min(self._complete, self._missing)
        done = min(complete + self._failed, self._missing)
        left = elapsed / done * (self._missing - done) if done else None
        table = Table(title=f"{self._sweep}: {self._trials} trials", min_width=60)
        for name in ("measures done", "failed", "images/s", "elapsed", "left"):
            table.add_column(name, justify="right")
        table.add_row(
            f"{complete} of {self._missing}",
            str(self._failed),
            f"{self._images / elapsed:.0f}" if self._images else "-",
            clock(elapsed),
            clock(left) if left is not None else "-",
        )
        table.add_section()
        table.add_row(ProgressBar(total=self._missing, completed=done, width=16))
        return table


def clock(seconds: float) -> str:
    """Spell a duration: 42 s, 3:07, 2:04:30."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
