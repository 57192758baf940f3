"""Levels for a picture of the whole trade-off, chosen by Optuna through Ray Tune's OptunaSearch."""

import warnings
from collections.abc import Mapping
from typing import Any

from hushsweep.sweeps.search.fields import LogUniformLevels, UniformLevels, rounded
from hushsweep.sweeps.search.outcomes import Outcome
from hushsweep.workers.trial import content_id

_OBJECTIVES = {"primary": "max", "secondary": "min"}
_REPEATS = 100
"""Suggestions in a row that may be levels already tried, before the search gives up: a range of few levels."""


class Sampling:
    """Multi-objective search: the primary task's accuracy up, the strongest attacker's down."""

    def __init__(
        self, levels: LogUniformLevels | UniformLevels, tried: Mapping[float, Outcome | None], *, seed: str
    ) -> None:
        """Start a search, or go on with one.

        Args:
            levels: where to look, and how often.
            tried: what is known already; it counts.
            seed: of the searcher; with the number of levels known it decides what is asked for first.
        """
        self._levels = levels
        self._left = max(0, levels.samples - len(tried))
        self._tried = set(tried)
        self._ids = dict[float, str]()
        self._searcher = _searcher(levels, list(tried), f"{seed}/{len(tried)}") if self._left else None
        if self._searcher is not None:
            for number, (level, outcome) in enumerate(tried.items()):
                self._searcher.suggest(f"known {number}")  # hands out what it was given, in order
                self._ids[level] = f"known {number}"
                self.tell(level, outcome)
        self._number = 0

    @property
    def finished(self) -> bool:
        """Whether no level will be asked for any more."""
        return self._left == 0

    def ask(self) -> float | None:
        """Return the next level, None when there are as many as wanted; any number may be tried at once."""
        if self._searcher is None or self.finished:
            return None
        for _ in range(_REPEATS):
            trial, self._number = f"asked {self._number}", self._number + 1
            level = rounded(self._searcher.suggest(trial)["level"], self._levels.bounds)
            if level not in self._tried:
                self._tried.add(level)
                self._ids[level] = trial
                self._left -= 1
                return level
            self._searcher.on_trial_complete(trial, error=True)
        self._left = 0
        return None

    def tell(self, level: float, outcome: Outcome | None) -> None:
        """Take what came of a level; None: nothing did."""
        if self._searcher is None or level not in self._ids:
            return
        if outcome is None or outcome.secondary is None:
            self._searcher.on_trial_complete(self._ids[level], error=True)
        else:
            found = {"primary": outcome.primary, "secondary": outcome.secondary}
            self._searcher.on_trial_complete(self._ids[level], result=found)

    @property
    def chosen(self) -> float | None:
        """None: all of them make the curve."""
        return None

    @property
    def conclusion(self) -> str:
        """How far it is, in a sentence."""
        return f"{len(self._tried)} levels tried of {self._levels.samples}"


def _searcher(levels: LogUniformLevels | UniformLevels, known: list[float], seed: str) -> Any:
    """Return Tune's OptunaSearch; it needs no cluster.

    Known points go in as suggestions, since its own way to take evaluated ones knows a single objective only.
    """
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    low, high = levels.bounds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=int(content_id(seed)[:8], 16),
            n_startup_trials=max(4, levels.samples // 2),
            constant_liar=True,  # levels that are being tried repel new ones
        )
    log = isinstance(levels, LogUniformLevels)
    return OptunaSearch(
        {"level": optuna.distributions.FloatDistribution(low, high, log=log)},
        metric=list(_OBJECTIVES),
        mode=list(_OBJECTIVES.values()),
        points_to_evaluate=[{"level": level} for level in known],
        sampler=sampler,
    )
