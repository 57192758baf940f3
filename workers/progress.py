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
    epoch: int | None = None
    """Epochs of a mechanism's training that are done."""
    epochs: int | None = None
    """Epochs that this training has in all."""
    score: float | None = None
    """Accuracy of the primary task on the validation part after that epoch, under noise."""
    measure: str | None = None
    """Which measure is complete or failed."""


Report = Callable[[Progress], None]
