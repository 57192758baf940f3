"""From points to trials: what the store holds is left out, what shares work runs together. Pure: no disk, no clock."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from hushsweep.sweeps.costs import Estimate, estimate, jacobian_route
from hushsweep.sweeps.identity import learning_key, learns
from hushsweep.sweeps.resolve import Point, Setting
from hushsweep.sweeps.search.searches import PlannedSearch
from hushsweep.sweeps.sharding import useful_shards
from hushsweep.workers.trial import MeasureConfig, PointConfig, Trial


@dataclass(frozen=True, kw_only=True)
class PlannedTrial:
    """Points that run together, before they are cut into shards."""

    setting: Setting
    points: tuple[PointConfig, ...]
    shards: int = 1
    """Parts into which its images are cut."""

    @cached_property
    def estimate(self) -> Estimate:
        """What it will roughly cost; counted once somebody asks, since that may take building the network."""
        return estimate(self.setting, self.points)

    @property
    def learns(self) -> str | None:
        """Name of the mechanism that the trial learns, None if it learns none."""
        point = self.points[0]
        return str(point.fields["mechanism"]) if any(map(learns, point.stages)) else None

    @property
    def routes(self) -> list[str]:
        """Which way expensive measures will take, a sentence each."""
        measures = {m.measure_id: m for point in self.points for m in point.measures if m.name == "bounds"}
        found = [jacobian_route(measure.options, self.setting) for measure in measures.values()]
        return [route for route in dict.fromkeys(found) if route is not None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep asks for, what is there, and what runs."""

    sweep: str
    points: tuple[Point, ...]
    trials: tuple[PlannedTrial, ...]
    wanted: int
    """(point, measure) pairs of the sweep."""
    existing: int
    """Those that the store holds."""
    salt: str = ""
    searches: tuple[PlannedSearch, ...] = ()
    """Those that will ask for more points."""

    @property
    def parts(self) -> int:
        """Shards of all its trials: what workers are given."""
        return sum(trial.shards for trial in self.trials)

    @property
    def asking(self) -> int:
        """(point, measure) pairs that searches will ask for."""
        return sum(search.asking * search.pairs for search in self.searches)

    @property
    def estimate(self) -> Estimate:
        """What its trials will roughly cost."""
        return sum((trial.estimate for trial in self.trials), Estimate())

    @property
    def missing(self) -> int:
        """(point, measure) pairs to compute."""
        return self.wanted - self.existing

    def shard_trials(self) -> list[Trial]:
        """Return what workers are given: every trial once per shard."""
        return [
            Trial(
                dataset=trial.setting.dataset,
                input_size=trial.setting.input_size,
                model=trial.setting.model,
                cut=trial.setting.cut,
                precision=trial.setting.precision,
                device=trial.setting.device,
                points=trial.points,
                shard=shard,
                shards=trial.shards,
                salt=self.salt,
            )
            for trial in self.trials
            for shard in range(trial.shards)
        ]

    def document(self) -> dict[str, Any]:
        """Return the list of points as the store keeps it beside the rows."""
        return {
            "schema_version": 1,
            "sweep": self.sweep,
            "points": [
                {
                    "point_id": point.point_id,
                    "curve_id": point.curve_id,
                    "label": point.label,
                    "fields": point.fields,
                    "measures": [
                        {"measure_id": m.measure_id, "name": m.name, "options": m.options}
                        for m in point.measures
                    ],
                }
                for point in self.points
            ],
        }


def make_plan(
    sweep: str,
    points: Sequence[Point],
    completed: Collection[tuple[str, str]],
    *,
    shards: int | Literal["auto"] = 1,
    places: float = 1,
    recompute: Collection[str] = (),
    salt: str = "",
    searches: Sequence[PlannedSearch] = (),
) -> Plan:
    """Subtract what is complete and group the rest.

    Args:
        sweep: name of the sweep.
        points: all its points.
        completed: (point_id, measure_id) pairs that the store holds.
        shards: parts into which each trial's images are cut; ``auto``: enough for all places, as far as that pays.
        places: trials that can run at once, for ``auto``.
        recompute: names of measures to compute again although they are there.
        salt: sets a repetition on purpose apart from what was computed before.
        searches: that will ask for more points.
    """
    groups = dict[tuple[object, ...], list[Point]]()
    missing = dict[str, tuple[MeasureConfig, ...]]()
    for point in points:
        missing[point.point_id] = tuple(
            measure
            for measure in point.measures
            if measure.name in recompute or (point.point_id, measure.measure_id) not in completed
        )
        if missing[point.point_id]:
            groups.setdefault(_group(point), []).append(point)
    trials, share = [], math.ceil(places / max(1, len(groups)))
    for members in groups.values():
        configs = tuple(
            PointConfig(
                point_id=point.point_id,
                curve_id=point.curve_id,
                stages=point.stages,
                seed=point.seed,
                measures=missing[point.point_id],
                fields=point.fields,
            )
            for point in members
        )
        setting = members[0].setting
        parts = shards if shards != "auto" else min(share, useful_shards(setting, configs))
        trials.append(PlannedTrial(setting=setting, points=configs, shards=parts))
    wanted = sum(len(point.measures) for point in points)
    return Plan(
        sweep=sweep,
        points=tuple(points),
        trials=tuple(trials),
        wanted=wanted,
        existing=wanted - sum(map(len, missing.values())),
        salt=salt if recompute else "",
        searches=tuple(searches),
    )


def _group(point: Point) -> tuple[object, ...]:
    """What the points of a trial share: everything up to the mechanism, and its training if it learns."""
    setting = point.setting
    return (
        *(setting.dataset, setting.input_size, setting.model, setting.cut),
        *(setting.precision, setting.device, learning_key(point.stages, point.seed)),
    )
