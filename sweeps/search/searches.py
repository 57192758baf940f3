"""All searches of a run: asks for levels, hands out the trials that they take, and tells what came of them."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hushsweep.datasets.results import Store
from hushsweep.sweeps.resolve import Point, Searched
from hushsweep.sweeps.search.bisection import Bisection, reachable
from hushsweep.sweeps.search.fields import TargetLevel
from hushsweep.sweeps.search.outcomes import Outcome, known_levels, outcome_of
from hushsweep.sweeps.search.sampling import Sampling
from hushsweep.workers.trial import Trial


class Levels(Protocol):
    """A way to choose levels."""

    @property
    def finished(self) -> bool:
        """Whether no level will be asked for any more."""
        ...

    def ask(self) -> float | None:
        """Return the next level to try; None: not now, or never."""
        ...

    def tell(self, level: float, outcome: Outcome | None) -> None:
        """Take what came of a level; None: nothing."""
        ...

    @property
    def chosen(self) -> float | None:
        """The level that was searched for, if there is one such."""
        ...

    @property
    def conclusion(self) -> str:
        """What was found, or how far it is, in a sentence."""
        ...


@dataclass(frozen=True, kw_only=True)
class PlannedSearch:
    """How far a search is before a run.

    Attributes:
        label: Network and mechanism.
        level_name: What is searched for.
        known: Levels that are there, or that an earlier run has asked for.
        asking: Levels that will be asked for.
        pairs: (point, measure) pairs per level.
    """

    label: str
    level_name: str
    known: tuple[float, ...]
    asking: int
    pairs: int


def look_up(searched: Searched, store: Store | None, sweep: str, *, or_stopped: bool) -> PlannedSearch:
    """Find what is known of a search.

    Args:
        searched: the search.
        store: the results, if there are any.
        sweep: name of the sweep.
        or_stopped: whether what was stopped early needs no computing.
    """
    completed = store.completed(or_stopped=or_stopped) if store else set()
    known = known_levels(searched, store, store.plan(sweep) if store else None, completed)
    levels = searched.levels
    if isinstance(levels, TargetLevel):
        possible = set(reachable(levels))
        known = [level for level in known if level in possible]
    wanted = levels.steps if isinstance(levels, TargetLevel) else levels.samples
    return PlannedSearch(
        label=searched.label,
        level_name=searched.level_name,
        known=tuple(known),
        asking=max(0, wanted - len(known)),
        pairs=len(searched.seeds) * len(searched.measures),
    )


class Searches:
    """The searches of one run, whoever runs their trials, and in whichever order those end.

    All seeds of a level are tried, and a level is told once all of them ended: its numbers are means over seeds.
    """

    def __init__(
        self,
        searches: Sequence[tuple[Searched, PlannedSearch]],
        store: Store,
        *,
        add: Callable[[Sequence[Point]], list[Trial]],
        reference: Callable[[Trial], float],
    ) -> None:
        """Take up what is known.

        Args:
            searches: each with what is known of it; its known levels have been tried.
            store: where outcomes are read.
            add: takes points into the sweep, durably, and returns the trials that they still take.
            reference: finds the clean network's accuracy on the validation part.
        """
        self._store, self._add = store, add
        self._open = deque[tuple[Searched, Levels]]()
        self._all = list[tuple[Searched, Levels]]()
        self._ready = deque[Trial]()
        self._waiting = dict[str, tuple[Searched, Levels, float]]()
        self._left = Counter[tuple[int, float]]()
        for searched, known in searches:
            self._all.append((searched, self._levels(searched, known, reference)))
        self._open.extend(self._all)

    @property
    def finished(self) -> bool:
        """Whether nothing runs, and nothing will be asked for."""
        return not self._ready and not self._waiting and all(levels.finished for _, levels in self._all)

    def next(self) -> Trial | None:
        """Return a trial to run; None: not before another one is done, or never."""
        self.advance()
        return self._ready.popleft() if self._ready else None

    def advance(self) -> None:
        """Ask for levels until one has something to run, or until nothing can be asked for now."""
        while not self._ready and any(self._ask_next() for _ in range(len(self._open))):
            pass

    def done(self, trial: Trial) -> None:
        """Take note that a trial ended, whatever came of it."""
        searched, levels, level = self._waiting.pop(trial.trial_id)
        self._left[id(levels), level] -= 1
        if not self._left[id(levels), level]:
            levels.tell(level, outcome_of(self._store, searched.at(level)))

    def outlook(self) -> list[Trial]:
        """Return as many trials as may run side by side, alike to those that will, for choosing their resources."""
        found = []
        for searched, levels in self._all:
            if not levels.finished:
                at_once = 1 if isinstance(searched.levels, TargetLevel) else searched.levels.samples
                found += [bare_trial(searched)] * (len(searched.seeds) * at_once)
        return found

    def report(self) -> list[dict[str, Any]]:
        """Return how every search stands, as plain values: for the plan in the store, and to be printed."""
        return [
            {
                "label": searched.label,
                "level_name": searched.level_name,
                "levels": searched.levels.model_dump(),
                "chosen": levels.chosen,
                "chosen_points": [point.point_id for point in searched.at(levels.chosen)]
                if levels.chosen is not None
                else [],
                "conclusion": levels.conclusion,
                "finished": levels.finished,
            }
            for searched, levels in self._all
        ]

    def _levels(
        self, searched: Searched, known: PlannedSearch, reference: Callable[[Trial], float]
    ) -> Levels:
        if isinstance(searched.levels, TargetLevel):  # asks for the known ones again, and finds them done
            return Bisection(searched.levels, reference(bare_trial(searched)))
        tried = {level: outcome_of(self._store, searched.at(level)) for level in known.known}
        return Sampling(searched.levels, tried, seed=searched.at(searched.levels.bounds[0])[0].curve_id)

    def _ask_next(self) -> bool:
        """Let the search whose turn it is ask for a level; tell whether it did."""
        self._open.rotate(-1)
        searched, levels = self._open[-1]
        level = levels.ask()
        if level is None:
            return False
        points = searched.at(level)
        trials = self._add(points)
        for trial in trials:
            self._waiting[trial.trial_id] = (searched, levels, level)
        self._left[id(levels), level] = len(trials)
        self._ready.extend(trials)
        if not trials:
            levels.tell(level, outcome_of(self._store, points))
        return True


def bare_trial(searched: Searched) -> Trial:
    """Return a trial of a search's setting without points."""
    setting = searched.setting
    return Trial(
        dataset=setting.dataset,
        input_size=setting.input_size,
        model=setting.model,
        cut=setting.cut,
        precision=setting.precision,
        device=setting.device,
        points=(),
    )
