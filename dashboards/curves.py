"""Curves of a sweep: the rows that differ in the noise level alone, with a name that tells them apart."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hushsweep.dashboards.queries.connection import ask
from hushsweep.dashboards.queries.run import require_sweep
from hushsweep.datasets.results import Store, arrow_schema

NAME_FIELDS = (
    "dataset",
    "split",
    "limit",
    "input_size",
    "model",
    "weights",
    "model_seed",
    "num_classes",
    "cut",
    "mechanism",
    "level_name",
    "target_accuracy_loss",
    "seed",
    "precision",
    "device_type",
)
_SELF_EXPLAINING = {
    "dataset",
    "split",
    "model",
    "weights",
    "mechanism",
    "level_name",
    "precision",
    "device_type",
}
_SHOWN_AS = 3
"""Raise it when the same rows are to make other runs in MLflow."""
_ROWS = """
FROM measurements WHERE sweep = $sweep ORDER BY level NULLS FIRST, point_id, measure_id, statistic
"""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """All rows that count of one curve of a sweep.

    Attributes:
        curve_id: Their common curve id.
        name: Readable and unique within the sweep, for example "resnet18 · gaussian · seed 0".
        rows: The columns of ``measurements``, by level (null first), point, measure and statistic.
        fields: Columns that have one value on the whole curve, without those that have none.
    """

    curve_id: str
    name: str
    rows: pa.Table
    fields: dict[str, Any]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the rows, provenance included, and of how they are shown."""
        shown = [_SHOWN_AS, self.rows.to_pylist()]
        return hashlib.sha256(json.dumps(shown, default=str).encode()).hexdigest()


def read_curves(results: Path | str, sweep: str) -> list[Curve]:
    """Read the curves of `sweep`, sorted by name; points without any row are in none.

    Raises:
        StoreError: there are no results, or no such sweep in them.
    """
    require_sweep(Store(results, create=False), sweep)
    found = ask(results, _ROWS, sweep=sweep)
    rows = found.select(arrow_schema("measurements").names).cast(arrow_schema("measurements"))
    positions = defaultdict(list)
    for position, curve_id in enumerate(rows.column("curve_id").to_pylist()):
        positions[curve_id].append(position)
    parts = {curve_id: rows.take(pa.array(chosen)) for curve_id, chosen in positions.items()}
    fields = {curve_id: _constant_fields(part) for curve_id, part in parts.items()}
    names = name_curves(fields, {curve_id: _parameters(part) for curve_id, part in parts.items()})
    curves = [Curve(curve_id=c, name=names[c], rows=parts[c], fields=fields[c]) for c in parts]
    return sorted(curves, key=lambda curve: (curve.name, curve.curve_id))


def name_curves(
    fields: dict[str, dict[str, Any]], parameters: dict[str, dict[str, Any]] | None = None
) -> dict[str, str]:
    """Name each curve by model, mechanism, seed and whatever else differs within the sweep.

    Args:
        fields: Curve id to the fields that are constant on it.
        parameters: Curve id to the parameters of its mechanisms without the level; of those in which curves of one
            mechanism differ, the name tells.

    Returns:
        Curve id to a name that no other curve has.
    """
    models = {value.get("model") for value in fields.values()}
    short = {model: str(model).rpartition("/")[2] for model in models}
    if len(set(short.values())) == len(models):
        fields = {key: {**value, "model": short[value.get("model")]} for key, value in fields.items()}
    shown = [
        field
        for field in NAME_FIELDS
        if field in ("model", "mechanism", "seed") or len({value.get(field) for value in fields.values()}) > 1
    ]
    details = _details(fields, parameters or {})
    names = {
        key: " · ".join(
            _word(field, value[field]) + (details.get(key, "") if field == "mechanism" else "")
            for field in shown
            if value.get(field) is not None
        )
        for key, value in fields.items()
    }
    taken = list(names.values())
    return {key: name if taken.count(name) == 1 else f"{name} · {key[:8]}" for key, name in names.items()}


def name_lines(curves: Sequence[Curve]) -> dict[str, str]:
    """Name curves without their seeds: those that differ in the seed alone share a name.

    Returns:
        Curve id to name.
    """
    fields, parameters = dict[str, dict[str, Any]](), dict[str, dict[str, Any]]()
    lines = dict[str, str]()
    for curve in curves:
        own = {name: curve.fields[name] for name in NAME_FIELDS if name in curve.fields and name != "seed"}
        line = json.dumps([own, _parameters(curve.rows)], sort_keys=True, default=str)
        lines[curve.curve_id] = line
        fields[line], parameters[line] = own, _parameters(curve.rows)
    named = name_curves(fields, parameters)
    return {curve_id: named[line] for curve_id, line in lines.items()}


def _word(field: str, value: Any) -> str:
    return str(value) if field in _SELF_EXPLAINING else f"{field.replace('_', ' ')} {value}"


def _parameters(rows: pa.Table) -> dict[str, Any]:
    """Parameters of all mechanisms of a curve, without its level."""
    row = rows.select(["mechanism_json", "level_name"]).slice(0, 1).to_pylist()[0]
    stages = json.loads(row["mechanism_json"] or "[]")
    if not isinstance(stages, list):
        return {}
    found = {key: value for stage in stages for key, value in stage.get("parameters", {}).items()}
    return {key: value for key, value in found.items() if key != row["level_name"]}


def _details(fields: dict[str, dict[str, Any]], parameters: dict[str, dict[str, Any]]) -> dict[str, str]:
    """By curve what tells it from others of the same mechanism, as in " (server frozen)"."""
    groups = defaultdict[Any, list[str]](list)
    for key in parameters:
        groups[fields[key].get("mechanism")].append(key)
    found = dict[str, str]()
    for keys in groups.values():
        names = sorted({name for key in keys for name in parameters[key]})
        telling = [n for n in names if len({str(parameters[key].get(n)) for key in keys}) > 1]
        for key in keys:
            own = [f"{n.replace('_', ' ')} {parameters[key][n]}" for n in telling if n in parameters[key]]
            found[key] = f" ({', '.join(own)})" if own else ""
    return found


def _constant_fields(rows: pa.Table) -> dict[str, Any]:
    unique = {name: pc.drop_null(pc.unique(rows.column(name))) for name in rows.column_names}
    return {name: values[0].as_py() for name, values in unique.items() if len(values) == 1}
