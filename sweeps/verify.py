"""Proof that a results folder is what it should be: every file re-read, every summary computed again from its rows."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hushsweep.datasets.results import TABLES, Store, StoreError, read_whole
from hushsweep.sweeps.identity import measure_id
from hushsweep.workers.measures import MEASURES, find_measure

_ROUNDING = 1e-9
"""Relative: another order of the same sum, as after a merge."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What a results folder holds, and what is wrong with it.

    Attributes:
        files: Files read to their last byte.
        rows: Rows in them.
        summaries: (point, measure) pairs whose numbers were computed again from their rows per image.
        unsummed: Pairs of measures that are not hushsweep's own, or of another version, which were not.
        wanted: (point, measure) pairs that the sweeps of the folder ask for.
        answered: Those of them that are complete, do not apply or were stopped early.
        faults: What is wrong, a sentence each.
    """

    files: int
    rows: int
    summaries: int
    unsummed: int
    wanted: int
    answered: int
    faults: tuple[str, ...]


def verify(results: Path | str) -> Verified:
    """Read everything in a results folder and hold it against its own promises.

    Files must be whole to their checksums, have the columns of the schema and keep its rules; carry the ids that their
    names say; and every complete measure must follow from its rows per image, so that a row lost or doubled is found.

    Raises:
        StoreError: there are no results, or they were written by a newer hushsweep.
    """
    store = Store(results, create=False)
    faults = list[str]()
    files = rows = 0
    damaged = set[str]()
    for table in TABLES:
        listing = store.listing(table)
        merged = defaultdict[str, list[str]](list)
        for old, name in listing.merged_into.items():
            merged[name].append(old)
        for name, path in sorted(listing.counted.items()):
            files += 1
            try:
                found = read_whole(table, path)
            except StoreError as error:
                faults.append(str(error))
                damaged.add(table)
                continue
            rows += len(found)
            faults += _foreign(path, merged.get(name, [name]), found)
    if "measurements" in damaged:  # nothing to hold the rest against
        summaries = unsummed = wanted = answered = 0
    else:
        summaries, unsummed = _sum_again(store, damaged, faults)
        wanted, answered = _count(store)
    return Verified(
        files=files,
        rows=rows,
        summaries=summaries,
        unsummed=unsummed,
        wanted=wanted,
        answered=answered,
        faults=tuple(faults),
    )


def _foreign(path: Path, names: Sequence[str], rows: pa.Table) -> Iterator[str]:
    """Find rows of computations that a file's name, or those of the files it was merged of, do not tell of."""
    named = {tuple(name.split(".")[:2]) for name in names}
    pairs = rows.group_by(["computed_by", "measure_id"]).aggregate([]).to_pydict()
    for pair in sorted(set(zip(pairs["computed_by"], pairs["measure_id"], strict=True)) - named):
        yield f"{path}: holds rows of {'.'.join(pair)}, which its name does not say; move it away and run again"


def _sum_again(store: Store, damaged: set[str], faults: list[str]) -> tuple[int, int]:
    """Compute the complete summaries again; return how many were and how many could not be."""
    columns = ["computed_by", "measure_id", "measure", "options", "point_id", "status"]
    columns += ["statistic", "value", "n", "stderr"]
    stored = store.read("measurements", columns=columns)
    stored = stored.filter(pc.is_in(stored["status"], pa.array(["complete", "not_applicable"])))
    computations = dict[tuple[str, str], list[dict[str, Any]]]()
    for row in stored.sort_by([("computed_by", "ascending"), ("measure_id", "ascending")]).to_pylist():
        computations.setdefault((row["computed_by"], row["measure_id"]), []).append(row)
    summed = unsummed = 0
    shards = defaultdict[tuple[str, ...], list[str]](list)
    for table in TABLES:
        for name in store.names(table):
            shards[table, *name.split(".")[:2]].append(name)
    for (computed_by, measure), rows in computations.items():
        table = f"per_image/{rows[0]['measure']}"
        points = _by_point(rows)
        if table in damaged or not _is_ours(rows[0]):
            unsummed += len(points)
            continue
        for point, found in store.read_by_point(table, shards[table, computed_by, measure], sorted(points)):
            fault = _differs(rows[0], points[point], found)
            if fault is not None:
                faults.append(
                    f"{rows[0]['measure']} of point {point}, computed by {computed_by}: {fault}; "
                    f"run its sweep again with --recompute {rows[0]['measure']}"
                )
            summed += 1
    return summed, unsummed


def _by_point(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of summaries by point, without points to which the measure does not apply at all."""
    found = dict[str, list[dict[str, Any]]]()
    for row in rows:
        if row["statistic"] is not None:
            found.setdefault(row["point_id"], []).append(row)
    return found


def _is_ours(row: dict[str, Any]) -> bool:
    """Tell whether this hushsweep has the measure that made a row, in the same version."""
    name, options = row["measure"], json.loads(row["options"] or "{}")
    return name in MEASURES and measure_id(name, options) == row["measure_id"]


def _differs(row: dict[str, Any], stored: Sequence[dict[str, Any]], per_image: pa.Table) -> str | None:
    """Say in what the stored summary of a point differs from its rows per image."""
    try:
        found = find_measure(row["measure"])(**json.loads(row["options"] or "{}")).summarise(per_image)
    except ValueError as error:
        return f"its {len(per_image)} rows per image have no summary ({error})"
    numbers = {one.name: (one.value, one.n, one.stderr) for one in found}
    if len(stored) != len(numbers) or {one["statistic"] for one in stored} != numbers.keys():
        return f"{len(stored)} statistics are stored, {len(numbers)} follow from its rows per image"
    for one in stored:
        value, n, stderr = numbers[one["statistic"]]
        if not (_close(one["value"], value) and one["n"] == n and _close(one["stderr"], stderr)):
            return (
                f"{one['statistic']} is stored as {one['value']} of {one['n']}, "
                f"its rows per image give {value} of {n}"
            )
    return None


def _close(stored: float | None, found: float | None) -> bool:
    if stored is None or found is None:
        return stored is found
    return math.isclose(stored, found, rel_tol=_ROUNDING, abs_tol=1e-12)


def _count(store: Store) -> tuple[int, int]:
    """(point, measure) pairs that the sweeps ask for, and those that have an answer."""
    wanted = {
        (point["point_id"], measure["measure_id"])
        for sweep in store.sweeps()
        for point in (store.plan(sweep) or {"points": []})["points"]
        for measure in point["measures"]
    }
    return len(wanted), len(wanted & store.completed(or_stopped=True))
