"""Questions that everybody asks: each a file of plain SQL, whose first line says what it answers."""

from difflib import get_close_matches
from importlib.resources import files

_OF_POINTS = "point_id IN (SELECT point_id FROM sweeps WHERE sweep = getvariable('sweep'))"
_OF_SWEEP = "sweep = getvariable('sweep')"
_OF_MEASURE = "measure_id IN (SELECT measure_id FROM sweeps WHERE sweep = getvariable('sweep'))"


def ready_made() -> dict[str, str]:
    """SQL by name, in alphabetical order; it runs as it stands, ``sweep`` and ``loss`` being optional variables."""
    folder = files("hushsweep.dashboards.queries").joinpath("ready")
    found = (file for file in folder.iterdir() if file.name.endswith(".sql"))
    return {file.name.removesuffix(".sql"): file.read_text() for file in sorted(found, key=lambda f: f.name)}


def answers(sql: str) -> str:
    """What a ready-made query says of itself."""
    return sql.partition("\n")[0].removeprefix("/* ").removesuffix(" */")


def views() -> list[str]:
    """Names of all views and tables that a query may read, but for those of the raw files."""
    from hushsweep.datasets.results.schema import TABLES

    folder = files("hushsweep.dashboards.queries")
    written = (file.name.removesuffix(".sql") for file in folder.iterdir() if file.name.endswith(".sql"))
    return sorted(
        {*written, "sweeps", *(table.replace("/", "_") for table in TABLES)} - {"views", "secondary_drop"}
    )


def statement(sql: str | None) -> str:
    """SQL as it is, or that of a ready-made query or of all rows of a view in place of its name.

    Raises:
        QueryError: nothing is asked, or one word that is no name.
    """
    from hushsweep.dashboards.queries.run import QueryError

    word = (sql or "").strip()
    if word and not word.isidentifier():
        return word
    known = ready_made()
    if word in known:
        return known[word]
    if word in views():
        return _all_rows(word)
    near = get_close_matches(word, [*known, *views()], n=1)
    meant = f"; did you mean {near[0]!r}?" if near else "."
    raise QueryError(
        f"query {word!r}: expected one SELECT, a ready-made query or a view{meant} Known: {', '.join(known)}; views: "
        f"{', '.join(name for name in views() if name not in known)}"
    )


def _all_rows(view: str) -> str:
    own = view.startswith("per_image_") or view in ("modes", "pictures")
    which = _OF_POINTS if own else _OF_MEASURE if view == "shifts" else _OF_SWEEP
    return f"FROM {view}\nWHERE getvariable('sweep') IS NULL OR {which}\n"
