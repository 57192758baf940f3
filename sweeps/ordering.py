"""Which trials go first, so that long trainings and short evaluations do not wait for all of each other."""

from collections.abc import Sequence

from hushsweep.sweeps.identity import learning_key, learns
from hushsweep.workers.trial import Trial


def in_turn(trials: Sequence[Trial], places: float) -> list[Trial]:
    """Order trials: trainings for half the places, then all that trains nothing, then the other trainings.

    So the evaluations begin at once in the other half, and trainings get those places, too, once they are done. Of
    trials that need the same training one goes there, and the others last: they would hold places only to wait for it.

    Args:
        trials: in the order of the plan, which is kept otherwise.
        places: trials that run at once.
    """
    long, short, waiting, seen = list[Trial](), list[Trial](), list[Trial](), set[object]()
    for trial in trials:
        training = _training(trial)
        if training is None:
            short.append(trial)
        elif training in seen:
            waiting.append(trial)
        else:
            long.append(trial)
        seen.add(training)
    first = max(1, int(places / 2))
    return [*long[:first], *short, *long[first:], *waiting]


def _training(trial: Trial) -> object:
    """What names the training that a trial needs, None if it needs none."""
    point = trial.points[0]
    learned = learning_key(point.stages, point.seed) if any(map(learns, point.stages)) else None
    if learned is None and trial.model.weights != "train":
        return None
    cut = trial.cut if learned else None  # the weights of a network are the same at any cut
    return (trial.dataset, trial.input_size, trial.model, cut, trial.device, learned)
