"""What a trial tells about itself while it runs."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """What a trial has done since the last report."""

    images: int = 0
    """Images that went through the network."""
    complete: int = 0
    """(point, measure) pairs whose rows are durable."""
    failed: int = 0


Report = Callable[[Progress], None]
