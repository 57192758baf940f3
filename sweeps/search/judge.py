"""Early stopping: successive halving among trainings that may be compared."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from math import floor, log
from types import SimpleNamespace
from typing import Any

import numpy as np

from hushsweep.datasets.results import Store
from hushsweep.sweeps.identity import learns
from hushsweep.sweeps.search.fields import EarlyStoppingSpec
from hushsweep.workers.commit import commit_failures
from hushsweep.workers.learning import Learning
from hushsweep.workers.trial import StageConfig, Trial

_TRAINING_SETTINGS = frozenset(field.name for field in fields(Learning))
_LONGEST = 10**6
"""Epochs; more than any training has, since its last epoch is not known when a group is opened."""


class Judge:
    """Decides which trainings go on; one instance judges a whole run.

    Accuracy falls as the penalty grows, so that a comparison across penalties would stop exactly the private ones.
    Ray Tune's ASHA judges every group on its own, and within a group only seeds and training settings differ.
    """

    def __init__(self, settings: EarlyStoppingSpec, store: Store) -> None:
        """Start without any training seen."""
        self._settings, self._store = settings, store
        self._schedulers = dict[str, Any]()
        self._scores = dict[str, dict[str, dict[int, float]]]()

    def decide(self, trial: Trial, epoch: int, epochs: int | None, score: float) -> str | None:
        """Return why a training ends after this epoch, or None: it goes on.

        Args:
            trial: whose mechanism is being learned.
            epoch: epochs that are done.
            epochs: that it has in all; one that is through with its training is never stopped.
            score: accuracy of the primary task on the validation part.
        """
        group = comparable(trial)
        if group is None:
            return None
        scheduler, one = self._scheduler(group), SimpleNamespace(trial_id=trial.trial_id)
        if trial.trial_id not in self._scores[group]:
            self._scores[group][trial.trial_id] = {}
            scheduler.on_trial_add(None, one)
        before = self._at_rung(group, trial, epoch)
        self._scores[group][trial.trial_id][epoch] = score
        decision = scheduler.on_trial_result(None, one, {"epoch": epoch, "score": score})
        if decision != "STOP" or (epochs is not None and epoch >= epochs):
            return None
        factor = self._settings.reduction_factor
        cutoff = np.percentile(before, 100 * (1 - 1 / factor))
        return (
            f"stopped early after epoch {epoch}: {100 * score:.2f} % of the validation images right, while the best "
            f"1/{factor:g} of {len(before)} other trainings with equal level had at least {100 * cutoff:.2f} % there"
        )

    def stop(self, trial: Trial, reason: str) -> int:
        """Write a stopped row for everything that the trial would have computed; return how many."""
        pairs = {
            (point.point_id, measure.measure_id): reason
            for point in trial.points
            for measure in point.measures
        }
        commit_failures(self._store, trial, pairs, {"computed_at": datetime.now(UTC)}, status="stopped")
        return len(pairs)

    def _scheduler(self, group: str) -> Any:
        if group not in self._schedulers:
            from ray.tune.schedulers import ASHAScheduler

            self._scores[group] = {}
            self._schedulers[group] = ASHAScheduler(
                time_attr="epoch",
                metric="score",
                mode="max",
                max_t=_LONGEST,
                grace_period=self._settings.grace_period,
                reduction_factor=self._settings.reduction_factor,
                stop_last_trials=False,
            )
        return self._schedulers[group]

    def _at_rung(self, group: str, trial: Trial, epoch: int) -> list[float]:
        """Scores with which the others came to the last epoch at which trainings were compared."""
        first, factor = self._settings.grace_period, self._settings.reduction_factor
        rung = first * factor ** floor(log(max(1.0, epoch / first), factor) + 1e-9)
        found = []
        for other, scores in self._scores[group].items():
            reached = [at for at in scores if at >= rung]
            if other != trial.trial_id and reached:
                found.append(scores[min(reached)])
        return found


def comparable(trial: Trial) -> str | None:
    """Name what trainings share that are compared: everything but seeds and training settings; None if none learns."""
    stages = trial.points[0].stages
    if not any(learns(stage) for stage in stages):
        return None
    model = replace(trial.model, seed=0)
    mechanism = [(stage.name, stage.at, _without_training(stage)) for stage in stages]
    return repr((trial.dataset, trial.input_size, model, trial.cut, trial.precision, trial.device, mechanism))


def _without_training(stage: StageConfig) -> list[tuple[str, Any]]:
    return sorted((key, value) for key, value in stage.parameters.items() if key not in _TRAINING_SETTINGS)
