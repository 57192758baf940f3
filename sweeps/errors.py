"""A user's mistakes in a sweep file, reported all at once."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is in the file and what to do about it."""

    location: tuple[str | int, ...]
    message: str


class SpecError(ValueError):
    """A sweep file that cannot be run; one line per mistake."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


class RunError(ValueError):
    """A run that cannot start or go on, for a reason that the user can mend."""
