"""What the store says of levels: which were tried, and what came of them on the validation part."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hushsweep.datasets.results import Store
from hushsweep.sweeps.resolve import Point, Searched

_COLUMNS = ["point_id", "curve_id", "measure", "statistic", "status", "value", "level", "validation_top1"]


@dataclass(frozen=True)
class Outcome:
    """What a level does on the validation part, the mean over seeds.

    Attributes:
        primary: Accuracy of the primary task.
        secondary: Accuracy of the strongest attacker on the secondary task; None where there is none.
    """

    primary: float
    secondary: float | None


def outcome_of(store: Store, points: Iterable[Point]) -> Outcome | None:
    """Return what came of a level's points, those of seeds that failed or were stopped left out; None if all were."""
    primary, secondary = dict[str, float](), dict[str, list[float]]()
    wanted = {point.point_id for point in points}
    for row in _rows(store):
        point = row["point_id"]
        if point not in wanted or row["status"] != "complete":
            continue
        if row["validation_top1"] is not None:
            primary[point] = row["validation_top1"]
        if row["measure"] == "secondary" and row["statistic"] == "validation_top1":
            secondary.setdefault(point, []).append(row["value"])
    if not primary:
        return None
    strongest = [max(found) for point, found in sorted(secondary.items()) if point in primary]
    return Outcome(
        fmean(primary[point] for point in sorted(primary)), fmean(strongest) if strongest else None
    )


def known_levels(
    searched: Searched,
    store: Store | None,
    plan: Mapping[str, Any] | None,
    completed: Collection[tuple[str, str]],
) -> list[float]:
    """Return the levels of a search that were tried: asked for by an earlier run, or complete in the store.

    Args:
        searched: the search.
        store: the results, if there are any.
        plan: the sweep's plan as its last run left it, if there was one.
        completed: (point_id, measure_id) pairs that need no computing.
    """
    low, high = searched.levels.bounds
    curves = {point.curve_id for point in searched.at(low)}
    asked = (
        point["fields"]["level"]
        for point in (plan or {"points": []})["points"]
        if point["curve_id"] in curves
    )
    levels = list(dict.fromkeys(asked))
    there = {row["level"] for row in _rows(store) if row["curve_id"] in curves} if store else set()
    levels += sorted(
        level
        for level in there - set(levels)
        if level is not None and _complete(searched.at(level), completed)
    )
    return [level for level in levels if low <= level <= high]


def _complete(points: Sequence[Point], completed: Collection[tuple[str, str]]) -> bool:
    return all((p.point_id, m.measure_id) in completed for p in points for m in p.measures)


def _rows(store: Store) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = store.read("measurements", columns=_COLUMNS).to_pylist()
    return rows
