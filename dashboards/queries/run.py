"""Questions to the store: SQL from a user, held to reading, and the ready-made ones."""

import re
from pathlib import Path

import duckdb
import pyarrow as pa

from hushsweep.dashboards.queries.connection import answer, ask, one_sentence
from hushsweep.datasets.results import Store, StoreError

_EXPLAIN = re.compile(
    r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*EXPLAIN\s+(?:ANALYZE\s+)?", re.IGNORECASE | re.DOTALL
)
_TRADEOFF = """
FROM tradeoff
WHERE sweep = $sweep
ORDER BY dataset, model, weights, mechanism, seed, curve_id, level, accuracy_measure_id, hcr_measure_id
"""
_BOUNDS = """
FROM bounds WHERE sweep = $sweep ORDER BY bound, search NULLS FIRST, measure_id, curve_id, level
"""
_PRIVACY = """
FROM privacy WHERE sweep = $sweep ORDER BY dataset, model, setting, method, place, variant, level, seed, point_id
"""
_FRONTIER = """
FROM frontier WHERE sweep = $sweep ORDER BY dataset, model, setting, method, place, variant, level
"""
_DP = """
FROM dp WHERE sweep = $sweep ORDER BY dataset, model, class_counts, method, place, variant, level, seed, point_id
"""
_OVERVIEW = """
FROM overview WHERE sweep = $sweep ORDER BY dataset, model, setting, method, place, variant, level, seed, point_id
"""
_RECONSTRUCTIONS = """
FROM reconstructions WHERE sweep = $sweep
ORDER BY dataset, model, setting, method, place, variant, seed, level, attack, point_id
"""
_SANDWICH = """
FROM sandwich WHERE sweep = $sweep
ORDER BY dataset, model, setting, method, place, variant, seed, level, holds_for, bound, queries, point_id
"""
_SECONDARY_DROP = """
FROM secondary_drop(most := $most) WHERE sweep = $sweep
ORDER BY dataset, model, setting, secondary_drop DESC NULLS LAST, method, place
"""
_READING_ONLY = (
    "only one SELECT or EXPLAIN SELECT at a time is allowed, because results are never changed by a query"
)


class QueryError(ValueError):
    """The SQL is not allowed or not valid; the message is one sentence."""


def run_query(results: Path | str, sql: str, **variables: str | float | None) -> pa.Table:
    """Answer one SELECT (or FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW, EXPLAIN of a SELECT) over the views.

    Args:
        results: The results folder.
        sql: The statement; :func:`ready_made` has some.
        variables: What getvariable(name) gives in it; null without.

    Raises:
        QueryError: any other statement, more than one, a file outside the results, or invalid SQL.
        StoreError: there are no results, or they were written by a newer hushsweep.
    """
    try:
        statement = only_reading(sql)
        return answer(results, statement, variables=variables)
    except duckdb.Error as error:
        raise QueryError(one_sentence(error)) from error


def tradeoff(results: Path | str, sweep: str) -> pa.Table:
    """Accuracy and median HCR bound of every point of `sweep` side by side (tradeoff.sql), by curve and level.

    Raises:
        StoreError: there are no results, no such sweep in them, or a file is damaged.
    """
    return _of_sweep(results, _TRADEOFF, sweep)


def bounds(results: Path | str, sweep: str) -> pa.Table:
    """Every bound of every point of `sweep` (bounds.sql), by bound, search, measure, curve and level.

    Raises:
        StoreError: there are no results, no such sweep in them, or a file is damaged.
    """
    return _of_sweep(results, _BOUNDS, sweep)


def privacy(results: Path | str, sweep: str) -> pa.Table:
    """Primary and secondary accuracy and mutual information of every point of `sweep` (privacy.sql).

    Empty for a sweep that measures neither secondary accuracy nor information.

    Raises:
        StoreError: there are no results, no such sweep in them, or a file is damaged.
    """
    return _of_sweep(results, _PRIVACY, sweep)


def frontier(results: Path | str, sweep: str) -> pa.Table:
    """The trade-off of `sweep` by method and level, averaged over seeds, with its Pareto frontiers (frontier.sql).

    Raises:
        StoreError: there are no results, no such sweep in them, or a file is damaged.
    """
    return _of_sweep(results, _FRONTIER, sweep)


def overview(results: Path | str, sweep: str) -> pa.Table:
    """Accuracy, HCR bound, secondary accuracy and epsilon of every point of `sweep` in one row (overview.sql).

    Raises:
        StoreError: there are no results, no such sweep in them, or a file is damaged.
    """
    return _of_sweep(results, _OVERVIEW, sweep)


def dp(results: Path | str, sweep: str) -> pa.Table:
    """Accuracy, epsilons and membership attacks of every point of `sweep` (dp.sql).

    Empty for a sweep that does not measure epsilon.

    Raises:
        StoreError: there are no results, no such sweep in them, or a file is damaged.
    """
    return _of_sweep(results, _DP, sweep)


def reconstructions(results: Path | str, sweep: str) -> pa.Table:
    """What every attack makes of what leaves at every point of `sweep` (reconstructions.sql).

    Empty for a sweep without reconstruction attacks.

    Raises:
        StoreError: there are no results, no such sweep in them, or a file is damaged.
    """
    return _of_sweep(results, _RECONSTRUCTIONS, sweep)


def sandwich(results: Path | str, sweep: str) -> pa.Table:
    """Every bound on the squared error of every point of `sweep` below the best attack (sandwich.sql).

    Empty for a sweep without reconstruction attacks.

    Raises:
        StoreError: there are no results, no such sweep in them, or a file is damaged.
    """
    return _of_sweep(results, _SANDWICH, sweep)


def secondary_drop(results: Path | str, sweep: str, *, most: float = 0.01) -> pa.Table:
    """The largest drop of secondary accuracy of each method of `sweep` at little primary loss (secondary_drop.sql).

    Args:
        results: The results folder.
        sweep: The sweep.
        most: Largest loss of primary accuracy, a fraction.

    Returns:
        A row per setting and method, largest drop first; without a level where none loses so little.

    Raises:
        StoreError: there are no results, no such sweep in them, or a file is damaged.
    """
    return _of_sweep(results, _SECONDARY_DROP, sweep, most=most)


def _of_sweep(results: Path | str, sql: str, sweep: str, **parameters: object) -> pa.Table:
    require_sweep(Store(results, create=False), sweep)
    return ask(results, sql, sweep=sweep, **parameters)


def require_sweep(store: Store, sweep: str) -> None:
    """Raise a StoreError that lists the sweeps of the store unless `sweep` is one of them."""
    if sweep not in store.sweeps():
        known = ", ".join(store.sweeps()) or "none yet"
        raise StoreError(f"{store.name}: no sweep {sweep!r}; known: {known}")


def only_reading(sql: str) -> duckdb.Statement:
    """Parse one SELECT or EXPLAIN SELECT.

    Raises:
        QueryError: it is anything else.
        duckdb.Error: it is no SQL.
    """
    statements = duckdb.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError(f"{len(statements)} statements: {_READING_ONLY}")
    kind = statements[0].type
    if kind == duckdb.StatementType.EXPLAIN:
        # EXPLAIN ANALYZE runs its statement, so what it explains has to be a SELECT too.
        match = _EXPLAIN.match(sql)
        inner = duckdb.extract_statements(sql[match.end() :]) if match else []
        kind = inner[0].type if len(inner) == 1 else kind
    if kind != duckdb.StatementType.SELECT:
        raise QueryError(f"{kind.name} statement: {_READING_ONLY}")
    return statements[0]
