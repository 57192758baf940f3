"""A results folder for notebooks: SQL and ready-made questions, answered as DataFrames."""

from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from hushsweep.dashboards.queries.compare import compare
from hushsweep.dashboards.queries.connection import connect
from hushsweep.dashboards.queries.ready_made import statement, views
from hushsweep.dashboards.queries.run import run_query
from hushsweep.datasets.results import Store

if TYPE_CHECKING:
    import pandas as pd


class Results:
    """What sweeps have left in a folder.

    Every question sees the rows that are there when it is asked. A question is one SELECT, or the name of a ready-made
    query or of a view.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path | str) -> None:
        """Open the folder `path`, or s3://BUCKET/PREFIX.

        Raises:
            StoreError: it holds no results, or was written by a newer hushsweep.
        """
        self.path = Store(path, create=False).root

    @property
    def sweeps(self) -> list[str]:
        """Names of the sweeps."""
        return Store(self.path, create=False).sweeps()

    @property
    def views(self) -> list[str]:
        """Names of what a question may read."""
        return views()

    def arrow(self, question: str, **variables: str | float | None) -> pa.Table:
        """Answer a question as an Arrow table.

        Args:
            question: SQL, or a name.
            variables: What getvariable(name) gives: ``sweep`` and ``loss`` for ready-made ones.

        Raises:
            QueryError: the question is no SELECT, not valid, or names what is not there.
            StoreError: a file is damaged.
        """
        return run_query(self.path, statement(question), **variables)

    def df(self, question: str, **variables: str | float | None) -> "pd.DataFrame":
        """Answer a question as a pandas DataFrame: see :meth:`arrow`."""
        frame: pd.DataFrame = self.arrow(question, **variables).to_pandas()
        return frame

    def pl(self, question: str, **variables: str | float | None) -> Any:
        """Answer a question as a polars DataFrame, if polars is installed: see :meth:`arrow`."""
        import polars

        return polars.from_arrow(self.arrow(question, **variables))

    def compare(self, a: str, b: str, *, sweep: str | None = None) -> "pd.DataFrame":
        """Tell whether points `a` and `b` differ by more than chance: :func:`hushsweep.dashboards.queries.compare`."""
        frame: pd.DataFrame = compare(self.path, a, b, sweep=sweep).rows.to_pandas()
        return frame

    @cached_property
    def connection(self) -> Any:
        """A DuckDB connection with the views, of the rows that were there when it was first used."""
        return connect(self.path)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if "connection" in self.__dict__:
            self.__dict__.pop("connection").close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Results({str(self.path)!r}): sweeps {', '.join(self.sweeps) or 'none yet'}"


def open(results: Path | str = "results") -> Results:  # noqa: A001  # as in hushsweep.dashboards.open(...)
    """Open a results folder for Python.

    Raises:
        StoreError: there are no results, or they were written by a newer hushsweep.
    """
    return Results(results)
