"""Every bound along a curve as one series, and which of a bound's searches is the strongest."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hushsweep.dashboards.promises import place, promise
from hushsweep.dashboards.queries import bounds


@dataclass(frozen=True, eq=False, kw_only=True)
class Series:
    """One bound from one search along a curve.

    Attributes:
        measure_id: The measure it belongs to.
        bound: Name of the bound.
        search: Search whose shifts it rests on, or None.
        holds_for: Which attackers it holds for; None or "no bound: ..." for an estimate.
        errors: Level to the error it allows, as a standard deviation in normalised pixels.
        chances: Level to the largest chance of success, where the bound is one on that.
        images: Most images behind one of its numbers.
        is_strongest: Whether no other search of the same measure gives a larger bound.
    """

    measure_id: str
    bound: str
    search: str | None
    holds_for: str | None
    errors: dict[float, float]
    chances: dict[float, float]
    images: int
    is_strongest: bool = False

    @property
    def label(self) -> str:
        """Name and search."""
        return promise(self.bound).title + (
            f" ({self.search})" if self.search not in (None, self.bound) else ""
        )

    @property
    def picture(self) -> str:
        """How pictures name it."""
        return self.bound if self.search in (None, self.bound) else f"{self.bound}_{self.search}"


def read_series(results: Path | str, sweep: str) -> dict[str, list[Series]]:
    """Read the bounds of `sweep` from the view bounds, as :func:`series_of`.

    Raises:
        StoreError: there are no results, or a file is damaged.
    """
    return series_of(bounds(results, sweep).to_pylist())


def series_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Series]]:
    """Group rows of the view bounds of one sweep: curve id to its series, in the order of reports.

    The number of a bound per mode is the median over modes, then over images; of a bound on the mean squared
    error it is the root of the mean over images. A series without any number is left out.
    """
    groups = defaultdict[tuple[str, ...], list[Mapping[str, Any]]](list)
    for row in rows:
        groups[row["curve_id"], row["measure_id"], row["bound"], row["search"]].append(row)
    found = defaultdict[str, list[Series]](list)
    for (curve_id, measure_id, bound, search), own in groups.items():
        errors = {row["level"]: value for row in own if (value := _error(row)) is not None}
        chances = {row["level"]: value for row in own if (value := row["success_bound"]) is not None}
        if errors or chances:
            holds_for = next((row["holds_for"] for row in own if row["holds_for"]), None)
            images = max(row["images"] for row in own)
            found[curve_id].append(
                Series(
                    measure_id=measure_id,
                    bound=bound,
                    search=search,
                    holds_for=holds_for,
                    errors=errors,
                    chances=chances,
                    images=images,
                )
            )
    return {curve_id: _mark_strongest(series) for curve_id, series in found.items()}


def series_points(series: Series, kind: str) -> dict[float, float]:
    """Its errors or chances at positive levels, where they are positive: what a logarithmic axis can show."""
    points: dict[float | None, float] = getattr(series, kind)
    return {level: value for level, value in points.items() if level is not None and level > 0 and value > 0}


def _error(row: Mapping[str, Any]) -> float | None:
    for column in ("median_std_bound_median", "median_std_estimate_median"):
        if row[column] is not None:
            return float(row[column])
    for column in ("mean_mse_bound", "mean_mse_estimate"):
        if row[column] is not None:
            return math.sqrt(row[column])
    return None


def _mark_strongest(series: list[Series]) -> list[Series]:
    best = dict[tuple[str, str], Series]()
    for one in series:
        key = one.measure_id, one.bound
        if key not in best or _strength(one) > _strength(best[key]):
            best[key] = one
    marked = [replace(one, is_strongest=best[one.measure_id, one.bound] is one) for one in series]
    return sorted(marked, key=lambda one: (place(one.bound), one.measure_id, not one.is_strongest))


def _strength(series: Series) -> tuple[int, float]:
    """Number of levels that can be drawn, then the size of the bound there."""
    points = series_points(series, "errors")
    return len(points), sum(map(math.log, points.values()))
