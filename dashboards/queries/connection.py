"""A locked, in-memory DuckDB connection that sees one results folder through views."""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.resources import files
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from hushsweep.datasets.results import TABLES, Store, StoreError, arrow_schema, bucket_of
from hushsweep.datasets.results.errors import FileGoneError
from hushsweep.datasets.results.files import fetch_all
from hushsweep.datasets.results.store import ATTEMPTS

_SETTINGS = (
    "SET TimeZone = 'UTC'",
    "SET python_enable_replacements = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
_MANY = 64
_SMALL = 8 * 2**20
"""Bytes of summaries that are read once into memory: views over views would open their files dozens of times."""
_LISTING = {"show", "information_schema", "duckdb_views", "duckdb_tables", "duckdb_columns", "sqlite_master"}
"""Words of a statement that asks which views there are."""
_GONE = re.compile("No such file|No files found")
_SWEEPS = pa.schema(
    [(name, pa.string()) for name in ("sweep", "point_id", "measure_id", "curve_id", "label", "measure")]
    + [("seed", pa.int64())]
)
_PLAIN = tuple(
    table.replace("/", "_") for table in TABLES if table.startswith("per_image/") or table == "pictures"
)
"""Views of whatever the computations that count have left in a table."""
_VIEWS = (
    "tradeoff",
    "bounds",
    "methods",
    "settings",
    "best_accuracies",
    "privacy",
    "frontier",
    "dp",
    "overview",
    "attack_names",
    "reconstructions",
    "sandwich",
)


def connect(
    results: Path | str,
    variables: Mapping[str, str | float | None] | None = None,
    statement: str | None = None,
) -> duckdb.DuckDBPyConnection:
    """Open the results folder for SQL: the views of views.sql and the files named after their view.

    The connection reads files below `results` and none elsewhere, loads no extension, and its settings are
    locked. Which computations count is decided now: open a new connection to see what was stored later. SQL
    from outside goes through :func:`run_query`, which lets nothing but SELECT pass.

    Args:
        results: The results folder.
        variables: What getvariable(name) gives; without one it gives null.
        statement: The one that will be asked: only views are made that it may read, and of results in a bucket only
            their tables are fetched.

    Raises:
        StoreError: `results` holds no results or was written by a newer hushsweep.
    """
    store = Store(results, create=False)
    connection = duckdb.connect(":memory:")
    # DuckDB checks the pattern of a view as well as the files that it matches.
    folders = ", ".join(sorted({_quote(str(store.root)), _quote(_literal(store.root))}))
    connection.execute(f"SET allowed_directories = [{folders}]")
    connection.execute(f"SET temp_directory = {_quote(str(store.cache_dir / 'duckdb'))}")
    words = None if statement is None else _words_of(statement)
    for table in TABLES:
        files = sorted(store.listing(table).counted.values())
        source = _source(connection, store, table, files, fetch=words is None or _may_read(words, table))
        kept = table == "measurements" and _bytes(files) <= _SMALL
        connection.execute(f"CREATE {'TABLE' if kept else 'VIEW'} raw_{_flat(table)} AS {source}")
        if kept and _columns(connection, "raw_measurements") != _columns(connection, "empty_measurements"):
            raise StoreError(_foreign(table, files))  # its values would make those of all others text
    _create_table(connection, "sweeps", _planned(store))
    _set_variables(connection, variables)
    with contextlib.suppress(duckdb.InvalidInputException):  # a notebook without ipywidgets has none
        connection.execute("SET enable_progress_bar = false")
    for setting in _SETTINGS:
        connection.execute(setting)
    connection.execute(sql_file("views"))
    for name in _PLAIN:
        connection.execute(
            f"CREATE VIEW {name} AS SELECT raw.* FROM raw_{name} AS raw "  # noqa: S608 (names of our own tables)
            "JOIN counted USING (point_id, measure_id, computed_by) WHERE counted.complete"
        )
    for view in _VIEWS:
        if words is None or view in words:
            connection.execute(f"CREATE VIEW {view} AS {sql_file(view)}")
    if words is None or "secondary_drop" in words:
        connection.execute(f"CREATE MACRO secondary_drop(most := 0.01) AS TABLE {sql_file('secondary_drop')}")
    return connection


def ask(results: Path | str, sql: str, **parameters: object) -> pa.Table:
    """Answer one of our own queries over the views.

    Raises:
        StoreError: there are no results, they were written by a newer hushsweep, or a file is damaged.
    """
    try:
        return answer(results, sql, parameters=parameters)
    except duckdb.Error as error:
        raise StoreError(f"{one_sentence(error)}; move that file away and run the sweep again") from error


class _Moment:
    """The connection that serves a block of :func:`one_moment`, opened when first asked."""

    def __init__(self, results: str) -> None:
        self.results = results
        self._connection: duckdb.DuckDBPyConnection | None = None

    @contextmanager
    def asked(
        self, variables: Mapping[str, str | float | None] | None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Lend the connection to one statement; one that ends with a missing file takes it along."""
        if self._connection is None:
            self._connection = connect(self.results)
        try:
            _set_variables(self._connection, variables)
            yield self._connection
            for name in variables or {}:
                self._connection.execute(f"RESET VARIABLE {name}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


_MOMENT: ContextVar[_Moment | None] = ContextVar("moment", default=None)


@contextmanager
def one_moment(results: Path | str) -> Iterator[None]:
    """Answer all that this thread asks of `results` in the block over the files of one moment.

    Setting a connection up takes longer than most answers; and a page made of many says the same in all its parts,
    also while a sweep runs. Results in a bucket are asked one by one: each fetches no more than it reads.
    """
    outer = _MOMENT.get()
    if (outer is not None and outer.results == str(results)) or _is_bucket(results):
        yield
        return
    moment = _Moment(str(results))
    token = _MOMENT.set(moment)
    try:
        yield
    finally:
        _MOMENT.reset(token)
        moment.close()


def _is_bucket(results: Path | str) -> bool:
    return bucket_of(Store(results, create=False).root / "measurements") is not None


@contextmanager
def _connected(
    results: Path | str, variables: Mapping[str, str | float | None] | None, statement: str | None
) -> Iterator[duckdb.DuckDBPyConnection]:
    moment = _MOMENT.get()
    if moment is not None and moment.results == str(results):
        with moment.asked(variables) as connection:
            yield connection
    else:
        with connect(results, variables, statement) as connection:
            yield connection


def answer(
    results: Path | str,
    sql: str | duckdb.Statement,
    *,
    variables: Mapping[str, str | float | None] | None = None,
    parameters: Mapping[str, object] | None = None,
) -> pa.Table:
    """Answer a statement over the files that count at one moment, in :func:`one_moment` at that of the block.

    A file that was merged with others while they were read is looked for again.

    Raises:
        StoreError: as :func:`connect`.
        duckdb.Error: the statement is not valid, or a file is damaged or missing.
    """
    text: str | None = sql if isinstance(sql, str) else sql.query
    for attempt in range(ATTEMPTS):
        try:
            with _connected(results, variables, text) as connection:
                return connection.sql(sql, params=parameters or None).to_arrow_table()
        except duckdb.CatalogException:
            if text is None:
                raise
            text = None  # with all views there, the message tells which one is meant
        except (duckdb.IOException, FileGoneError) as error:
            gone = isinstance(error, FileGoneError) or _GONE.search(str(error))
            if attempt == ATTEMPTS - 1 or not gone:
                raise
    raise AssertionError


def _set_variables(
    connection: duckdb.DuckDBPyConnection, variables: Mapping[str, str | float | None] | None
) -> None:
    for name, value in (variables or {}).items():
        connection.execute(f"SET VARIABLE {name} = $value", {"value": value})


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> set[tuple[str, str]]:
    return {(name, kind) for name, kind, *_ in connection.execute(f"DESCRIBE {table}").fetchall()}


def _foreign(table: str, files: Sequence[Path]) -> str:
    """Name the first file whose columns are not those of `table`."""
    wanted = arrow_schema(table)
    for file in files:
        for column in pq.read_schema(file):
            if column.name not in wanted.names or column.type != wanted.field(column.name).type:
                known = column.name in wanted.names
                expected = (
                    f"expected {wanted.field(column.name).type}" if known else "which is none of hushsweep's"
                )
                return (
                    f"{file}: not written by hushsweep: column {column.name!r} of type {column.type}, {expected}; move "
                    "that file away"
                )
    return f"{table}: a file was not written by hushsweep; 'hushsweep verify' names it"


def one_sentence(error: duckdb.Error) -> str:
    """DuckDB's message without the excerpt of the query that follows it."""
    return " ".join(str(error).split("\nLINE ")[0].split())


def sql_file(name: str) -> str:
    """Text of the file `name`.sql of this package."""
    return files("hushsweep.dashboards.queries").joinpath(f"{name}.sql").read_text(encoding="utf-8")


def _flat(table: str) -> str:
    return table.replace("/", "_")


def _words_of(statement: str) -> set[str] | None:
    """Words of a statement and of the views that it names; a word too many does no harm. None if it may read all."""
    words, looked = set(re.findall(r"\w+", statement.lower())), set[str]()
    if words & _LISTING:
        return None
    while views := {*_VIEWS, "secondary_drop"} & words - looked:
        looked |= views
        words |= {word for view in views for word in re.findall(r"\w+", sql_file(view).lower())}
    return words


def _may_read(words: set[str], table: str) -> bool:
    # views.sql decides by the measurements what counts, whatever is asked
    return table == "measurements" or bool({_flat(table), f"raw_{_flat(table)}"} & words)


def _source(
    connection: duckdb.DuckDBPyConnection, store: Store, table: str, files: Sequence[Path], *, fetch: bool
) -> str:
    """Query over the files of `table`: every column of the schema, null where a file is older."""
    empty = f"empty_{_flat(table)}"
    _create_table(connection, empty, arrow_schema(table).empty_table())
    if not files:
        return f"FROM {empty}"
    if bucket_of(files[0]) is not None and not fetch:
        return f"FROM {empty}"
    fetch_all(files)
    # named one by one, so that all views see the files of one moment, whatever is merged or written meanwhile
    names = ", ".join(_quote(_literal(file)) for file in files)
    # comparing the columns of all files costs seconds per view and thousand files
    mixed = len(files) < _MANY or not store.one_schema
    return f"FROM {empty} UNION ALL BY NAME FROM read_parquet([{names}], union_by_name = {mixed})"


def _bytes(files: Sequence[Path]) -> float:
    try:
        return sum(file.stat().st_size for file in files)
    except OSError:  # one was merged with others just now: reading them says so
        return math.inf


def _create_table(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    connection.register("incoming", rows)
    connection.execute(f"CREATE TABLE {name} AS FROM incoming")
    connection.unregister("incoming")


def _planned(store: Store) -> pa.Table:
    rows = [
        {
            "sweep": sweep,
            "point_id": point["point_id"],
            "measure_id": measure["measure_id"],
            "curve_id": point["curve_id"],
            "label": point["label"],
            "measure": measure["name"],
            "seed": point["fields"].get("seed"),
        }
        for sweep in store.sweeps()
        for point in (store.plan(sweep) or {"points": []})["points"]
        for measure in point["measures"]
    ]
    return pa.Table.from_pylist(rows, schema=_SWEEPS)


def _literal(path: Path) -> str:
    """`path` as a glob pattern that matches nothing else."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
