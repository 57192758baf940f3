"""The views of a results folder as tables in memory, so that a picture asks thousands of rows and not millions."""

import functools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from hushsweep.dashboards.queries.connection import connect, one_sentence
from hushsweep.dashboards.queries.run import QueryError, only_reading
from hushsweep.datasets.results import TABLES, Store, StoreError
from hushsweep.datasets.results.errors import FileGoneError
from hushsweep.datasets.results.store import ATTEMPTS

_KEPT = (
    "measurements",
    "settings",
    "methods",
    "best_accuracies",
    "privacy",
    "dp",
    "overview",
    "tradeoff",
    "bounds",
    "attack_names",
    "reconstructions",
    "sandwich",
)
"""Views that become tables, each after those that it reads."""
_lock = threading.Lock()


class Snapshot:
    """What counted in a results folder at one moment. Threads may ask at once."""

    def __init__(self, results: Path | str) -> None:
        """Read the folder.

        Raises:
            StoreError: there are no results, they were written by a newer hushsweep, or a file is damaged.
        """
        self.signature = signature(results)
        """Changes with every file that is written."""
        self._connection = _read(results)

    def ask(self, sql: str) -> pa.Table:
        """Answer one SELECT over the views.

        Raises:
            QueryError: the SQL is not allowed or not valid; one sentence.
        """
        try:
            statement = only_reading(sql)
            with self._connection.cursor() as cursor:
                return cursor.sql(statement.query).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(one_sentence(error)) from error

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Answer as rows."""
        found: list[dict[str, Any]] = self.ask(sql).to_pylist()
        return found


def latest(results: Path | str) -> Snapshot:
    """The snapshot of the present files: the one that is there, or a new one if anything was written since.

    Raises:
        StoreError: as :class:`Snapshot`.
    """
    with _lock:  # several pages that open at once share one reading
        return _kept(str(results), tuple(sorted(signature(results).items())))


@functools.lru_cache(maxsize=1)
def _kept(results: str, _files: tuple[tuple[str, float], ...]) -> Snapshot:
    return Snapshot(results)


def signature(results: Path | str) -> Mapping[str, float]:
    """Names and times of the files that decide what a page shows.

    Raises:
        StoreError: there are no results.
    """
    store = Store(results, create=False)
    found = dict[str, float]()
    for table in TABLES:
        for name, file in store.listing(table).counted.items():
            found[f"{table}/{name}"] = _time(file)
    for sweep in store.sweeps():
        found[f"sweeps/{sweep}"] = _time(store.root / "sweeps" / sweep / "plan.json")
    return found


def _time(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # merged with others just now, or in a bucket
        return 0.0


def _read(results: Path | str) -> duckdb.DuckDBPyConnection:
    for attempt in range(ATTEMPTS):
        try:
            connection = connect(results)
            for view in _KEPT:
                connection.execute(f"CREATE TABLE kept AS FROM {view}")
                connection.execute(f"DROP VIEW {view}")
                connection.execute(f"ALTER TABLE kept RENAME TO {view}")
            return connection
        except (duckdb.IOException, FileGoneError) as error:  # merged while it was read
            if attempt == ATTEMPTS - 1:
                raise _damaged(error) from error
        except duckdb.Error as error:
            raise _damaged(error) from error
    raise AssertionError


def _damaged(error: Exception) -> StoreError:
    words = one_sentence(error) if isinstance(error, duckdb.Error) else str(error)
    return StoreError(f"{words}; move that file away and run the sweep again")
