"""From a point's chain as written to mechanisms with numbers in them, levels that are searched for included."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hushsweep.datasets.heartbeat import locked
from hushsweep.datasets.results.files import kept, write_json
from hushsweep.workers.learning.learn import Learned
from hushsweep.workers.measures.accuracy import count_hits
from hushsweep.workers.measures.base import FittedPoint, FittedStage, Subject
from hushsweep.workers.mechanisms import ActivationStatistics, Unchanged, find_mechanism
from hushsweep.workers.mechanisms.learned import LearnedMechanism
from hushsweep.workers.trial import PointConfig, StageConfig, content_id

_GRID = np.geomspace(2.0**-8, 2.0**12, 21)
"""First grid of a level search, in units of the RMS; two further grids between neighbours of it follow."""
_REFINED = 17


@dataclass(frozen=True)
class LevelSearch:
    """Where a level is calibrated, and where it is remembered."""

    subject: Subject
    """Images, activations and positions on which the accuracy is measured."""
    step: int
    """2: every other image, from position 0; the reported ones are the others. 1: all images of another split."""
    cache: Path
    key: dict[str, Any]
    """Everything that the level depends on, apart from the point's own chain and seed."""


def fit_point(
    config: PointConfig,
    statistics: dict[str, ActivationStatistics],
    search: Callable[[StageConfig], LevelSearch],
    learned: Learned | None = None,
) -> tuple[FittedPoint, float | None]:
    """Fit every mechanism of a point's chain.

    Args:
        config: the point.
        statistics: of the clean activations, by the place where a stage acts: ``cut`` and ``input``.
        search: gives the images on which a stage with a target finds its level.
        learned: what the chain's mechanism has learned, if it is one that learns.

    Returns:
        The fitted point, and the level found if one was searched for.

    Raises:
        ValueError: no level meets the target.
        PlugInError: no such mechanism.
    """
    targeted = next(
        (place for place, s in enumerate(config.stages) if s.target_accuracy_loss is not None), None
    )
    if targeted is None:
        return _fit(config.point_id, config.seed, config.stages, statistics, learned), None
    stage = config.stages[targeted]
    where = search(stage)
    level = _remembered(where, config, lambda: _search_level(config, targeted, statistics, where))
    stages = _with_level(config.stages, targeted, level)
    fitted = _fit(config.point_id, config.seed, stages, statistics)
    return replace(fitted, step=where.step), level


def _fit(
    point_id: str,
    seed: int,
    stages: Sequence[StageConfig],
    statistics: dict[str, ActivationStatistics],
    learned: Learned | None = None,
) -> FittedPoint:
    fitted = []
    for place, stage in enumerate(stages):
        settings = find_mechanism(stage.name)(**stage.parameters)
        if isinstance(settings, LearnedMechanism):
            assert learned is not None
            mechanism = settings.bind(learned.client, learned.digest)
        else:
            mechanism = settings.fit(statistics[stage.at])
        if not isinstance(mechanism, Unchanged):
            fitted.append(FittedStage(f"{stage.at}/{place}", stage.at, mechanism))
    leaves = stages[-1].at if stages else "cut"
    return FittedPoint(point_id=point_id, seed=seed, stages=tuple(fitted), leaves=leaves)


def _with_level(stages: Sequence[StageConfig], targeted: int, level: float) -> tuple[StageConfig, ...]:
    stage = stages[targeted]
    field = find_mechanism(stage.name).LEVELS[0]
    found = replace(stage, parameters={**stage.parameters, field: level}, target_accuracy_loss=None)
    return (*stages[:targeted], found, *stages[targeted + 1 :])


def _search_level(
    config: PointConfig, targeted: int, statistics: dict[str, ActivationStatistics], where: LevelSearch
) -> float:
    """Find the largest level below the first one that loses too much: three grids, each finer by a factor of 16."""
    allowed = config.stages[targeted].target_accuracy_loss
    assert allowed is not None
    levels = _GRID
    for _ in range(3):
        losses = _losses(config, targeted, statistics, where, levels)
        too_much = np.flatnonzero(losses > allowed)
        if not len(too_much):
            raise ValueError(
                f"target_accuracy_loss {allowed}: no level up to {levels[-1]:g} times the RMS loses that much "
                "accuracy on the calibration images; give a smaller loss, or a level"
            )
        if too_much[0] == 0:
            raise ValueError(
                f"target_accuracy_loss {allowed}: even {levels[0]:g} times the RMS loses {losses[0]:.4f} of the "
                "accuracy on the calibration images; give a larger loss, or a level"
            )
        levels = np.geomspace(levels[too_much[0] - 1], levels[too_much[0]], _REFINED)
    return float(levels[0])


def _losses(
    config: PointConfig,
    targeted: int,
    statistics: dict[str, ActivationStatistics],
    where: LevelSearch,
    levels: np.ndarray,
) -> np.ndarray:
    points = [
        _fit(str(level), config.seed, _with_level(config.stages, targeted, float(level)), statistics)
        for level in levels
    ]
    hits = count_hits(where.subject, points, draws=1, stream="calibration/")
    used = slice(None, None, where.step)
    clean: float = hits.clean_top1[used].mean()
    losses: np.ndarray = clean - hits.top1[:, used].mean(axis=1)
    return losses


def _remembered(where: LevelSearch, config: PointConfig, compute: Callable[[], float]) -> float:
    """Search once, whichever shard comes first; the others read what it found."""
    chain = [{**vars(stage), "version": find_mechanism(stage.name).VERSION} for stage in config.stages]
    file = where.cache / f"{content_id({**where.key, 'chain': chain, 'seed': config.seed})}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.with_suffix(".lock")):
        if not kept(file):
            level = compute()
            write_json(file, {"level": level})
    return float(json.loads(file.read_text())["level"])
