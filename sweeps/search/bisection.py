"""The largest level that loses no more accuracy than allowed, by bisection."""

from collections.abc import Collection
from math import exp, log

from hushsweep.sweeps.search.fields import TargetLevel, rounded
from hushsweep.sweeps.search.outcomes import Outcome


class Bisection:
    """Halves the level's logarithm: up where the loss is allowed, down where it is not, assuming that it grows.

    Every level follows from the numbers of those before it, so that a run that goes on asks for the same ones.
    """

    def __init__(self, levels: TargetLevel, reference: float) -> None:
        """Start a search.

        Args:
            levels: where to look, and for what loss.
            reference: accuracy of the clean network on the validation part.
        """
        self._levels, self._reference = levels, reference
        self._low, self._high = levels.bounds
        self._tried = dict[float, Outcome | None]()
        self._asked: float | None = None

    @property
    def finished(self) -> bool:
        """Whether no level will be asked for any more."""
        return self._asked is None and len(self._tried) >= self._levels.steps

    def ask(self) -> float | None:
        """Return the next level; None while one is being tried, or when all were."""
        if self._asked is not None or self.finished:
            return None
        self._asked = _middle(self._low, self._high, self._levels)
        return self._asked

    def tell(self, level: float, outcome: Outcome | None) -> None:
        """Take what came of the level; one that came to nothing (training failed) counts as too large."""
        self._asked, self._tried[level] = None, outcome
        if self._allowed(outcome):
            self._low = level
        else:
            self._high = level

    @property
    def chosen(self) -> float | None:
        """The largest level tried that lost no more than allowed."""
        return max((level for level, found in self._tried.items() if self._allowed(found)), default=None)

    @property
    def conclusion(self) -> str:
        """What was found, in a sentence."""
        loss, chosen = f"{100 * self._levels.target_accuracy_loss:g} points", self.chosen
        against = f"of validation accuracy, {100 * self._reference:.2f} % of the clean network"
        if not self.finished:
            return f"not finished: {len(self._tried)} of {self._levels.steps} levels tried"
        if chosen is None:
            return (
                f"all {len(self._tried)} levels tried lose more than {loss} {against}; choose a smaller low"
            )
        found = self._tried[chosen]
        assert found is not None
        more = "; it is the largest one tried, choose a larger high" if chosen == max(self._tried) else ""
        return (
            f"{chosen:g} is the largest level tried that loses no more than {loss} {against}: "
            f"{100 * found.primary:.2f} %{more}"
        )

    def _allowed(self, outcome: Outcome | None) -> bool:
        return outcome is not None and self._reference - outcome.primary <= self._levels.target_accuracy_loss


def reachable(levels: TargetLevel) -> Collection[float]:
    """Return every level that a bisection can ask for."""
    found, spans = set[float](), [levels.bounds]
    for _ in range(levels.steps):
        halves = list[tuple[float, float]]()
        for low, high in spans:
            middle = _middle(low, high, levels)
            found.add(middle)
            halves += [(low, middle), (middle, high)]
        spans = halves
    return found


def _middle(low: float, high: float, levels: TargetLevel) -> float:
    return rounded(exp((log(low) + log(high)) / 2), levels.bounds)
