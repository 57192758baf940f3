"""Questions that everybody asks: each a file of plain SQL, whose first line says what it answers."""

from difflib import get_close_matches
from importlib.resources import files

from hushsweep.dashboards.queries.run import QueryError


def ready_made() -> dict[str, str]:
    """SQL by name, in alphabetical order; it runs as it stands, ``sweep`` and ``loss`` being optional variables."""
    folder = files("hushsweep.dashboards.queries").joinpath("ready")
    found = (file for file in folder.iterdir() if file.name.endswith(".sql"))
    return {file.name.removesuffix(".sql"): file.read_text() for file in sorted(found, key=lambda f: f.name)}


def answers(sql: str) -> str:
    """What a ready-made query says of itself."""
    return sql.partition("\n")[0].removeprefix("/* ").removesuffix(" */")


def statement(sql: str | None) -> str:
    """SQL as it is, or that of a ready-made query in place of its name.

    Raises:
        QueryError: nothing is asked, or one word that is no name.
    """
    word = (sql or "").strip()
    if word and not word.isidentifier():
        return word
    known = ready_made()
    if word in known:
        return known[word]
    near = get_close_matches(word, known, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else "."
    raise QueryError(
        f"query {word!r}: expected one SELECT or a ready-made query{meant} Known: {', '.join(known)}"
    )
