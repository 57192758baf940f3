"""How many trials share a GPU: as many as their memory allows, which the first of each kind has shown."""

import math
from collections.abc import Iterable, Sequence

from hushsweep.workers.trial import Trial

_USABLE = 0.85
"""Of a GPU's memory: the rest is for what its allocator wastes, and for larger inputs than those that were seen."""
_CONTEXT_GIB = 0.8
"""What every process takes of a GPU beside its tensors."""
_MOST = 8
"""Trials on a GPU: more than that share its time, not its gaps."""


def scouts(trials: Sequence[Trial], gpus: float) -> list[int]:
    """Positions of the trials that run first, with a GPU each: one of every kind, and as many as there are GPUs."""
    kinds = dict[object, int]()
    for position, trial in enumerate(trials):
        kinds.setdefault(_kind(trial), position)
    chosen = set(kinds.values())
    for position in range(len(trials)):
        if len(chosen) >= gpus:
            break
        chosen.add(position)
    return sorted(chosen)


def measured_share(peaks: Iterable[tuple[Trial, float]], remaining: Iterable[Trial], gpu_gib: float) -> float:
    """Return which part of a GPU a trial needs: 1 over a whole number, so that shares add up to GPUs.

    Args:
        peaks: trials that ran with a GPU each, and the memory that they took, GiB.
        remaining: those that are to run.
        gpu_gib: memory of the smallest GPU, GiB.
    """
    of_kind = dict[object, float]()
    for trial, peak in peaks:
        of_kind[_kind(trial)] = max(peak, of_kind.get(_kind(trial), 0.0))
    most = max((of_kind.get(_kind(trial), math.inf) for trial in remaining), default=math.inf)
    if math.isinf(most):  # one of a kind that was not measured: alone is safe
        return 1.0
    return 1.0 / max(1, min(_MOST, int(_USABLE * gpu_gib / (most + _CONTEXT_GIB))))


def _kind(trial: Trial) -> object:
    """What decides the memory of a trial: everything but its images, its levels and its seeds."""
    measures = frozenset(measure.measure_id for point in trial.points for measure in point.measures)
    stages = frozenset(stage.name for point in trial.points for stage in point.stages)
    model = (
        trial.model.name,
        trial.model.weights == "train",
        trial.model.num_classes,
        trial.model.in_channels,
    )
    return (
        trial.dataset.name,
        trial.dataset.root,
        trial.input_size,
        model,
        trial.cut,
        trial.precision,
        stages,
        measures,
    )
