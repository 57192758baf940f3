"""Two points side by side, image by image: what differs, and whether it is more than chance."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from hushsweep.dashboards.queries.connection import ask
from hushsweep.dashboards.queries.ready_made import ready_made
from hushsweep.dashboards.queries.run import QueryError, require_sweep, run_query
from hushsweep.datasets.results import Store

_POINTS = """
SELECT
    points.sweep,
    points.point_id,
    any_value(COLUMNS('^(dataset|split|task|data_fingerprint|model|mechanism|level|seed)$')) AS "\\1",
    any_value(method) AS method,
    any_value(variant) AS variant,
    any_value(label) AS label
FROM measurements AS points
JOIN methods USING (sweep, point_id)
JOIN sweeps USING (sweep, point_id)
WHERE sweep = coalesce($sweep, sweep)
GROUP BY ALL
ORDER BY ALL
"""
_SHOWN = 6
_FEW = 30
"""Images below which a bootstrap interval is a little too narrow."""
_SHORTEST = 4
"""Characters that a beginning of an id needs."""
_COLUMNS = {
    "quantity": pa.string(),
    "unit": pa.string(),
    "images": pa.int64(),
    "a": pa.float64(),
    "b": pa.float64(),
    "difference": pa.float64(),
    "low": pa.float64(),
    "high": pa.float64(),
    "p_value": pa.float64(),
    "test": pa.string(),
    "meaning": pa.string(),
}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two points and how they differ.

    Attributes:
        a: Columns of the one: point_id, label, dataset, model and so on.
        b: Of the other.
        rows: A row per quantity: ``quantity``, ``unit``, number of common ``images``, means ``a`` and ``b`` over these,
            ``difference`` a - b, its 95 % interval ``low`` to ``high``, ``p_value``, ``test`` and ``meaning``.
    """

    a: dict[str, Any]
    b: dict[str, Any]
    rows: pa.Table


def compare(results: Path | str, a: str, b: str, *, sweep: str | None = None) -> Comparison:
    """Tell whether two points differ by more than the choice of images explains.

    Args:
        results: The results folder.
        a: A point: at least 4 characters its id begins with, or ``model/method/level`` as the query ``overview`` prints
            them; what is not needed to tell it from others may be left out from the left.
        b: Another.
        sweep: The sweep that both are looked for in; all without.

    Returns:
        The two, and a row for every quantity that both have of the same images.

    Raises:
        QueryError: no point, or several, are called so; both are the same; or they have no images in common.
        StoreError: there are no results, no such sweep, or a file is damaged.
    """
    if sweep is not None:
        require_sweep(Store(results, create=False), sweep)
    points = {row["point_id"]: row for row in ask(results, _POINTS, sweep=sweep).to_pylist()}
    one, other = (_find(name, list(points.values()), side) for name, side in ((a, "A"), (b, "B")))
    if one["point_id"] == other["point_id"]:
        raise QueryError(f"compare: {a!r} and {b!r} are the same point {one['point_id']}; name two")
    pairs = run_query(results, ready_made()["compare"], a=one["point_id"], b=other["point_id"])
    if not len(pairs):
        raise QueryError(f"compare: {_why_none(one, other)}")
    return Comparison(a=one, b=other, rows=_rows(pairs))


def spellings(point: dict[str, Any]) -> set[str]:
    """Every way to call a point but by its id."""
    model = str(point["model"])
    methods = {str(point["method"]), str(point["mechanism"])}
    methods |= {f"{method} ({point['variant']})" for method in list(methods) if point["variant"]}
    level = "" if point["level"] is None else f"/{point['level']:g}"
    models = {"", f"{model}/", f"{model.rpartition('/')[2]}/"}
    return {f"{model}{method}{level}" for model in models for method in methods}


def _find(name: str, points: list[dict[str, Any]], side: str) -> dict[str, Any]:
    found = [point for point in points if name in spellings(point)]
    if not found and len(name) >= _SHORTEST:
        found = [point for point in points if point["point_id"].startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = "; ".join(f"{point['point_id'][:12]} is {point['label']}" for point in found[:_SHOWN])
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise QueryError(
            f"compare: {len(found)} points are called {name!r}; name {side} by its id: {listed}{more}"
        )
    if not points:
        raise QueryError(
            f"compare: {name!r}: no point has any row yet; 'hushsweep status' tells how far sweeps are"
        )
    known = sorted(max(spellings(point), key=lambda text: (text.count("/"), -len(text))) for point in points)
    shown = ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
    raise QueryError(
        f"compare: no point is called {name!r}; expected model/method/level as 'hushsweep query overview' prints them, "
        f"or how its id begins ({_SHORTEST} characters or more); there are {shown}"
    )


def _why_none(a: dict[str, Any], b: dict[str, Any]) -> str:
    if any(a[name] != b[name] for name in ("dataset", "split", "task", "data_fingerprint")):
        return (
            f"{a['point_id'][:12]} and {b['point_id'][:12]} have no images in common: the one was measured on "
            f"{_data(a)}, the other on {_data(b)}; compare points of the same data, split and task"
        )
    return (
        f"{a['point_id'][:12]} ({a['label']}) and {b['point_id'][:12]} ({b['label']}) have no rows per image in "
        "common; 'hushsweep query missing' tells what has no answer yet"
    )


def _data(point: dict[str, Any]) -> str:
    task = f" for task {point['task']}" if point["task"] else ""
    return f"{point['dataset']} {point['split']}{task} ({point['data_fingerprint'] or '':.8})"


def _rows(pairs: pa.Table) -> pa.Table:
    rows = [_row(*group) for group in _groups(pairs)]
    return pa.Table.from_pylist(rows, schema=pa.schema(list(_COLUMNS.items())))


def _groups(pairs: pa.Table) -> Iterator[tuple[str, str, Any, Any]]:
    """Quantity, unit and the values of both sides; pairs come sorted."""
    import pyarrow.compute as pc

    for quantity in dict.fromkeys(pairs.column("quantity").to_pylist()):
        own = pairs.filter(pc.equal(pairs.column("quantity"), quantity))
        yield quantity, own.column("unit")[0].as_py(), own.column("a").to_numpy(), own.column("b").to_numpy()


def _row(quantity: str, unit: str, a: Any, b: Any) -> dict[str, Any]:
    from hushsweep.dashboards.queries.paired import compare_pairs

    row: dict[str, Any] = {
        "quantity": quantity,
        "unit": unit,
        "images": len(a),
        "a": float(a.mean()),
        "b": float(b.mean()),
        "difference": float((a - b).mean()),
    }
    if len(a) < 2:
        return {**row, "meaning": f"{quantity}: one image in common says nothing of others."}
    found = compare_pairs(a, b, is_share=unit == "fraction")
    row |= {"low": found.low, "high": found.high, "p_value": found.p_value, "test": found.test}
    return {**row, "meaning": _meaning(row)}


def _meaning(row: dict[str, Any]) -> str:
    share = row["unit"] == "fraction"
    scale, unit = (100.0, "points") if share else (1.0, row["unit"])
    low, high, size = scale * row["low"], scale * row["high"], abs(scale * row["difference"])
    interval = f"{low:.3g} to {high:.3g} {unit}"
    few = f", and {row['images']} images are few" if row["images"] < _FEW else ""
    p_value = f"p {row['p_value']:.2g}"
    if row["p_value"] < 0.05:
        larger = "A" if row["difference"] > 0 else "B"
        return (
            f"{row['quantity']}: {larger} is higher by {size:.3g} {unit}, more than the choice of images explains "
            f"({p_value}; 95 % interval of A - B {interval}){few}."
        )
    return (
        f"{row['quantity']}: no difference is shown ({p_value}; A - B may be {interval}), which does not prove that "
        f"there is none{few}."
    )
