"""The points of a sweep as they become known: in the store's plan before anything of them runs."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from hushsweep.datasets.results import Store
from hushsweep.sweeps.planner import Plan, make_plan
from hushsweep.sweeps.resolve import Point
from hushsweep.sweeps.search.searches import PlannedSearch
from hushsweep.sweeps.source import Source
from hushsweep.sweeps.spec import SweepSpec
from hushsweep.workers.trial import Trial


class Record:
    """What a run's sweep consists of, so far."""

    def __init__(
        self,
        spec: SweepSpec,
        source: Source,
        store: Store,
        points: Sequence[Point],
        searches: Sequence[PlannedSearch],
        *,
        places: float,
        recompute: Collection[str],
        started_at: datetime,
    ) -> None:
        """Begin with the points that are listed, and with those that were asked for before.

        Args:
            spec: the sweep.
            source: its text.
            store: the results.
            points: known points.
            searches: what will be asked for.
            places: trials that can run at once.
            recompute: names of measures to compute again.
            started_at: when the run began.
        """
        self._spec, self._source, self._store = spec, source, store
        self._points = {point.point_id: point for point in points}
        self._searches, self._recompute, self._started_at = tuple(searches), recompute, started_at
        self._places = places
        self._before = store.completed(or_stopped=self.may_stop)
        self._found = list[dict[str, Any]]()
        self._plan: Plan | None = None

    @property
    def may_stop(self) -> bool:
        """Whether what was stopped early is done with."""
        return self._spec.early_stopping is not None

    def plan(self) -> Plan:
        """Return the plan of all points known by now, against what the store held when the run began."""
        if self._plan is None:
            self._plan = make_plan(
                self._spec.name,
                list(self._points.values()),
                self._before,
                shards=self._spec.execution.shards,
                places=self._places,
                recompute=self._recompute,
                salt=self._started_at.isoformat(),
                searches=self._searches,
            )
        return self._plan

    def add(self, points: Sequence[Point]) -> list[Trial]:
        """Take points that a search asks for; return the trials that they still take."""
        self._points |= {point.point_id: point for point in points}
        self._plan = None
        self.write()
        completed = self._store.completed(or_stopped=self.may_stop)
        shards = self._spec.execution.shards
        return make_plan(
            self._spec.name, points, completed, shards=shards, places=self._places
        ).shard_trials()

    def conclude(self, found: list[dict[str, Any]]) -> None:
        """Take how the searches stand, and mark the points that were chosen."""
        self._found = found
        self.write()

    def write(self) -> None:
        """Make the plan durable."""
        chosen = {point for search in self._found for point in search["chosen_points"]}
        document: Mapping[str, Any] = self.plan().document()
        points = [
            {**point, "chosen": True} if point["point_id"] in chosen else point
            for point in document["points"]
        ]
        plan = {
            **document,
            "points": points,
            "early_stopping": self.may_stop,
            "searches": self._found,
            "created_at": self._started_at.isoformat(),
            "spec": self._source.data,
        }
        self._store.write_sweep(self._spec.name, spec_text=self._source.text, plan=plan)
