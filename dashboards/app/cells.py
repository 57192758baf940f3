"""What the cells of the page show: charts, words and SQL, without a user interface."""

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import altair as alt
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from hushsweep.dashboards.app import markup, statements
from hushsweep.dashboards.app.answer import sentences
from hushsweep.dashboards.app.snapshot import Snapshot, latest, signature
from hushsweep.dashboards.app.statements import Chosen
from hushsweep.dashboards.charts import (
    HIDES,
    accuracy_chart,
    attacks_chart,
    bounds_chart,
    frontier_chart,
    modes_chart,
    modes_sql,
)
from hushsweep.dashboards.curves import NAME_FIELDS, name_curves
from hushsweep.dashboards.queries.run import QueryError
from hushsweep.dashboards.status import SweepStatus, sweep_status
from hushsweep.datasets.results import StoreError

RESULTS = "HUSHSWEEP_DASHBOARD_RESULTS"
"""Environment variable with the results folder."""
VIEWS = ["Trade-off", "Accuracy", "Bounds", "Attacks", "Modes", "Pictures", "Running", "Table"]
TABLES = ["overview", "tradeoff", "bounds", "reconstructions", "sandwich", "measurements"]
_ROWS = 500
"""Rows of a table that the page gets; a download has all."""
_FEW = 3
_PICKED = "picked"
_WIDTH = 900
_INSIDE = "marimo_hushsweep"
"""marimo takes rows as they come from what is called marimo something, and makes files of all others."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture, or words in its place, with its SQL; the two as HTML."""

    chart: alt.TopLevelMixin | None = None
    words: str = ""
    sql: str = ""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A table: its first rows, and all of it as a file when somebody asks."""

    first: pa.Table | None
    words: str
    sql: str
    csv: Callable[[], bytes]
    parquet: Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page reads from: a snapshot, or the reason why there is none."""

    results: str
    snapshot: Snapshot | None
    problem: str | None
    choices: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def open(cls, results: str) -> Self:
        """Read the folder; a mistake becomes :attr:`problem`."""
        try:
            snapshot = latest(results)
            choices = snapshot.rows(statements.choices_sql())
        except (StoreError, QueryError) as error:
            return cls(results=results, snapshot=None, problem=str(error))
        if choices:
            return cls(results=results, snapshot=snapshot, problem=None, choices=choices)
        planned = snapshot.rows("SELECT DISTINCT sweep FROM sweeps ORDER BY sweep")
        names = ", ".join(row["sweep"] for row in planned)
        words = (
            f"{results}: no results yet of {names}; they appear here as the run leaves them"
            if planned
            else f"{results}: no results yet; start with: hushsweep run SPEC --results {results}"
        )
        return cls(results=results, snapshot=snapshot, problem=words)

    def ask(self, sql: str) -> list[dict[str, Any]]:
        """Rows of one of the page's statements."""
        assert self.snapshot is not None, "a page with a problem asks nothing"
        return self.snapshot.rows(sql)

    @property
    def sweeps(self) -> list[str]:
        """Names of the sweeps that have rows."""
        return [row["sweep"] for row in self.choices]

    @property
    def first_sweeps(self) -> list[str]:
        """Those chosen when a page opens: all if they are few, else the last."""
        return self.sweeps if len(self.sweeps) <= _FEW else self.sweeps[-1:]

    def models(self, sweeps: Sequence[str]) -> list[str]:
        """Networks of the sweeps chosen."""
        return self._names("models", sweeps)

    def methods(self, sweeps: Sequence[str]) -> list[str]:
        """Mechanisms of the sweeps chosen."""
        return self._names("methods", sweeps)

    def hides(self, chosen: Chosen) -> dict[str, str]:
        """Ways in which the chosen points say how much they hide: title to column."""
        rows = self.ask(statements.levels_sql(chosen))
        return {
            what.title: name for name, what in HIDES.items() if any(row[name] is not None for row in rows)
        }

    def curves(self, chosen: Chosen) -> dict[str, tuple[str, str]]:
        """Curves that have bounds: name to sweep and id."""
        return self._curves(statements.curves_sql(chosen))

    def attacked(self, chosen: Chosen) -> dict[str, tuple[str, str]]:
        """Curves whose images were reconstructed: name to sweep and id."""
        return self._curves(statements.attack_curves_sql(chosen))

    def _curves(self, sql: str) -> dict[str, tuple[str, str]]:
        rows = self.ask(sql)
        named = _names({f"{row['sweep']} {row['curve_id']}": row for row in rows})
        return {named[f"{row['sweep']} {row['curve_id']}"]: (row["sweep"], row["curve_id"]) for row in rows}

    def mode_points(self, chosen: Chosen) -> dict[str, str]:
        """Points that have bounds per mode: name to id."""
        found = dict[str, str]()
        for row in self.ask(statements.mode_points_sql(chosen)):
            level = "" if row["level"] is None else f"{row['level_name']} {row['level']:.4g}"
            parts = (str(row["model"]).rpartition("/")[2], row["method"], row["variant"], level)
            name = " · ".join((*filter(None, parts), f"seed {row['seed']}"))
            found.setdefault(
                name if name not in found else f"{name} · {row['point_id'][:8]}", row["point_id"]
            )
        return found

    def _names(self, kind: str, sweeps: Sequence[str]) -> list[str]:
        rows = [row for row in self.choices if not sweeps or row["sweep"] in sweeps]
        return sorted({name for row in rows for name in row[kind] if name is not None})


def heading_html(page: Page) -> str:
    """Title, folder, and how much is in it."""
    points = sum(row["points"] for row in page.choices)
    words = f"{page.results}: {len(page.choices)} sweeps, {points:,} points"
    return f"<div class='hush-head hush-here'><div class='hush-name'>hushsweep</div>{markup.sentence_html(words)}</div>"


def problem_html(page: Page) -> str:
    """Why there is nothing to see, and what to do."""
    words = markup.sentence_html(page.problem or "", "problem")
    return f"<div class='hush-here'><div class='hush-name'>hushsweep</div>{words}</div>"


def answer(page: Page, chosen: Chosen, loss: float) -> str:
    """Which mechanism to use at a loss of accuracy, with its SQL."""
    sql = statements.best_sql(chosen, loss)
    found = page.ask(sql)
    if found:
        return markup.list_html(sentences(found, loss)) + markup.sql_html(sql)
    failed = page.ask(statements.failed_sql(chosen))[0]
    words = (
        f"No accuracy to compare: {failed['n']} measures failed, for example: {failed['reason']}. "
        "Mend that and run the sweep again; what failed is run anew. All failures stand under Running."
        if failed["n"]
        else "No accuracy to compare: choose a sweep that measures accuracy at more than no noise."
    )
    return markup.sentence_html(words, "problem") + markup.sql_html(sql)


def frontier(page: Page, chosen: Chosen, hides: str | None) -> Shown:
    """Accuracy against what is hidden, over all mechanisms; a click picks a point."""
    sql = statements.levels_sql(chosen)
    if hides is None:
        return _nothing("a secondary accuracy, HCR bound, information or epsilon beside its accuracy", sql)
    rows = page.ask(sql)
    # the same names whatever is hidden: marimo still listens to those of the chart before
    chart = frontier_chart(rows, hides, width=_WIDTH, name="frontier")
    if chart is None:
        return _nothing("both numbers", sql)
    picked = alt.selection_point(name=_PICKED, fields=["point"], on="click", clear="dblclick")
    return Shown(chart=chart.add_params(picked), sql=markup.sql_html(sql))


def picked_html(page: Page, chosen: Chosen, selections: Mapping[str, Any] | None) -> str:
    """Everything about the level that was clicked."""
    points = ((selections or {}).get(_PICKED) or {}).get("point") or []
    if not points:
        return markup.sentence_html("A click on a point shows its numbers; a double click forgets it.")
    sql = statements.points_sql(list(map(str, points)))
    return markup.table_html(page.ask(sql)) + markup.sql_html(sql)


def accuracy(page: Page, chosen: Chosen) -> Shown:
    """Accuracy against noise."""
    sql = statements.accuracy_sql(chosen)
    rows = page.ask(sql)
    chart = accuracy_chart(rows, _lines(rows), width=_WIDTH)
    if chart is None:
        return _nothing("an accuracy at a positive level", sql)
    words = "Mean over seeds; bands hold 95 % (errors of seeds are averaged, since they see the same images)."
    return Shown(chart=chart, words=_cut(rows) + markup.sentence_html(words), sql=markup.sql_html(sql))


def bounds(page: Page, curve: tuple[str, str] | None) -> Shown:
    """Every bound of one curve, and what each promises."""
    if curve is None:
        return Shown(words=_no("a bound"))
    sql = statements.bounds_sql(*curve)
    rows = page.ask(sql)
    chart = bounds_chart(rows, width=_WIDTH)
    if chart is None:
        return _nothing("a bound at a positive level", sql)
    return Shown(chart=chart, words=markup.promises_html(rows), sql=markup.sql_html(sql))


def attacks(page: Page, curve: tuple[str, str] | None) -> Shown:
    """Every attack on one curve, bounds below, and what an attack below one means."""
    if curve is None:
        return Shown(words=_no("a reconstruction attack at a positive level"))
    sql, beside = statements.attacks_sql(*curve), statements.sandwich_sql(*curve)
    bounds = page.ask(beside)
    chart = attacks_chart(page.ask(sql), bounds, width=_WIDTH)
    if chart is None:
        return _nothing("an attack at a positive level", sql)
    words = markup.sentence_html(
        "Bold: bounds, solid for every estimator, dashed for unbiased ones; with marks: attacks; dotted: the mean "
        "training image. A bound for every estimator is drawn beside the best attack on the average that it is about."
    )
    flags = Counter(f"{row['flag']} ({row['bound']})" for row in bounds if row["flag"])
    told = [f"{flag} at {count} of the levels" for flag, count in sorted(flags.items())]
    return Shown(
        chart=chart,
        words=words + (markup.list_html(told) if told else "") + markup.promises_html(bounds),
        sql=markup.sql_html(sql) + markup.sql_html(beside),
    )


def modes(page: Page, point: str | None) -> Shown:
    """Bounds per mode of one point."""
    if point is None:
        return Shown(words=_no("bounds per mode"))
    sql = modes_sql(point)
    chart = modes_chart(page.ask(sql))
    return (
        _nothing("a bound of a mode", sql) if chart is None else Shown(chart=chart, sql=markup.sql_html(sql))
    )


def gallery(page: Page, chosen: Chosen) -> Shown:
    """Pictures that the sweeps left."""
    sql = statements.pictures_sql(chosen)
    found = markup.gallery_html(page.ask(sql))
    return Shown(words=found or _no("a stored picture"), sql=markup.sql_html(sql))


def running(results: str, sweeps: Sequence[str]) -> str:
    """How far sweeps are, as they are at this moment."""
    try:
        states = _states(results, tuple(sorted(signature(results).items())), _runners(results))
    except StoreError as error:
        return markup.sentence_html(str(error), "problem")
    return markup.status_html([one for one in states if not sweeps or one.sweep in sweeps])


def table(page: Page, view: str, chosen: Chosen, where: str) -> Rows:
    """Rows of a view that satisfy the reader's own condition."""
    assert page.snapshot is not None
    snapshot, sql = page.snapshot, statements.rows_sql(view, chosen, where)

    def whole() -> pa.Table:
        return snapshot.ask(sql)

    try:
        count = snapshot.rows(f"SELECT count(*) AS n FROM (\n{sql}\n)")[0]["n"]  # noqa: S608 (held to one SELECT)
        first = snapshot.ask(f"SELECT * FROM (\n{sql}\n) LIMIT {_ROWS}")  # noqa: S608
        words = markup.sentence_html(
            f"{count:,} rows" + (f", of which the first {_ROWS} stand here" if count > _ROWS else "")
        )
    except QueryError as error:
        words, first = markup.sentence_html(f"The condition cannot be used: {error}", "problem"), None
    return Rows(
        first=first,
        words=words,
        sql=markup.sql_html(sql),
        csv=lambda: _csv(whole()),
        parquet=lambda: _parquet(whole()),
    )


def drawn(mo: Any, chart: alt.TopLevelMixin, *, is_clickable: bool = False) -> Any:
    """A chart for marimo to show, with its rows inside: files of them would vanish under a page that still loads them.

    Only what is clickable listens to the browser.
    """
    alt.data_transformers.register(_INSIDE, lambda rows, **_: alt.to_values(rows))
    with alt.data_transformers.enable(_INSIDE):
        if not is_clickable:
            return mo.as_html(chart)
        return mo.ui.altair_chart(chart, chart_selection=False, legend_selection=False)


def shown(mo: Any, what: Shown) -> list[Any]:
    """The parts of a picture, for marimo to lay out."""
    chart = [] if what.chart is None else [drawn(mo, what.chart)]
    return [*chart, mo.Html(what.words), mo.Html(what.sql)]


def dropdown(mo: Any, options: Mapping[str, Any], label: str) -> Any:
    """A list to choose one of, at first the first."""
    return mo.ui.dropdown(
        options=dict(options), value=next(iter(options), None), label=label, searchable=True
    )


@lru_cache(maxsize=1)
def _states(
    results: str, _files: tuple[tuple[str, float], ...], _who: tuple[str | None, ...]
) -> tuple[SweepStatus, ...]:
    return sweep_status(results)


def _runners(results: str) -> tuple[str | None, ...]:
    from hushsweep.datasets.results import Store

    store = Store(results, create=False)
    return tuple(store.running(sweep) for sweep in store.sweeps())


def _lines(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Curve id to its name, without the seed."""
    return _names({row["curve_id"]: {**row, "seed": None} for row in rows})


def _names(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    fields = {
        key: {name: row[name] for name in NAME_FIELDS if row.get(name) is not None}
        for key, row in rows.items()
    }
    named = name_curves(fields)
    words = {key: " · ".join(filter(None, (name, rows[key].get("variant")))) for key, name in named.items()}
    taken = list(words.values())
    return {key: name if taken.count(name) == 1 else f"{name} · {key}" for key, name in words.items()}


def _nothing(what: str, sql: str) -> Shown:
    return Shown(words=_no(what), sql=markup.sql_html(sql))


def _no(what: str) -> str:
    return markup.sentence_html(f"Nothing to draw: no point that is chosen has {what}.")


def _cut(rows: Sequence[object]) -> str:
    words = (
        f"Only the first {statements.MOST:,} levels are drawn: choose fewer sweeps, networks or mechanisms."
    )
    return markup.sentence_html(words) if len(rows) == statements.MOST else ""


def _csv(rows: pa.Table) -> bytes:
    stream = io.BytesIO()
    pc.write_csv(rows, stream)
    return stream.getvalue()


def _parquet(rows: pa.Table) -> bytes:
    stream = io.BytesIO()
    pq.write_table(rows, stream, compression="zstd")
    return stream.getvalue()
