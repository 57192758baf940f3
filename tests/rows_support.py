"""Compare the rows of two results folders, provenance aside."""

import math
from pathlib import Path
from typing import Any

from hushsweep.dashboards import run_query
from hushsweep.datasets.results import PROVENANCE_COLUMNS

VIEWS = {
    "measurements": ("point_id", "measure_id", "statistic"),
    "per_image_accuracy": ("point_id", "measure_id", "image_index"),
    "per_image_hcr": ("point_id", "measure_id", "image_index"),
    "per_image_bounds": ("point_id", "measure_id", "image_index", "bound", "search"),
    "per_image_secondary": ("point_id", "measure_id", "image_index"),
    "per_image_epsilon": ("point_id", "measure_id", "estimate"),
    "per_image_membership": ("point_id", "measure_id", "member", "image_index"),
    "modes": ("point_id", "measure_id", "bound", "search", "channel", "row", "column"),
}
DIAGNOSTICS = ("lsqr_iterations", "lsqr_residual")
"""Say how a search stopped; the last step of a converged one is rounding."""
ROUNDING = 1e-5
"""Activations are float32; a shift is found in float64 and stored in float32."""


def assert_same_rows(reference: Path, other: Path) -> None:
    """Every row that counts is there once, and equal up to rounding."""
    for view, key in VIEWS.items():
        expected, found = keyed(reference, view, key), keyed(other, view, key)
        assert expected.keys() == found.keys(), view
        for identity, row in expected.items():
            for column, value in row.items():
                assert same(value, found[identity][column]), (
                    view,
                    identity,
                    column,
                    value,
                    found[identity][column],
                )


def keyed(results: Path, view: str, key: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows by key, without the columns that say where and when; a key twice is an error."""
    table = run_query(results, f"FROM {view}")
    kept = [name for name in table.column_names if name not in {*PROVENANCE_COLUMNS, *DIAGNOSTICS, "sweep"}]
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in table.select(kept).to_pylist():
        identity = tuple(row[name] for name in key)
        assert identity not in rows or rows[identity] == row, f"{view}: {identity} stands twice"
        rows[identity] = row
    return rows


def same(first: Any, second: Any) -> bool:
    """Equal, floats up to rounding."""
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, float):
        return isinstance(second, float) and math.isclose(first, second, rel_tol=ROUNDING, abs_tol=1e-9)
    return bool(first == second)
