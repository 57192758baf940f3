"""Bring the tables and figures of the pages in PAGES up to date with stored rows.

python docs/refresh.py --take results mnist-bounds cifar10-bounds    # first copy these sweeps' rows into docs/rows
python docs/refresh.py --figures report-mnist report-cifar10         # first copy what the pages show of reports
python docs/refresh.py                                               # put the answer of every SQL block below it
python docs/refresh.py --check                                       # change no table, say whether one is out of date
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from hushsweep.dashboards import run_query
from hushsweep.dashboards.queries.output import markdown_table
from hushsweep.datasets.results import Store

DOCS = Path(__file__).parent
PAGES = {
    "reproducing-hcr.md": ("mnist-bounds", "cifar10-bounds"),
    "ani.md": ("ani-mnist",),
    "differential-privacy.md": ("neuraldp-pneumonia",),
    "attacks.md": ("attack-mnist", "attack-cifar10", "attack-celeba"),
}
"""Pages, and the sweeps without which their tables stay as they are."""
ROWS = DOCS / "rows"
SHOWN = ("mnist", "cifar10", "fashion_mnist")
"""Data sets whose pictures may be published."""
NUMBERS = (*SHOWN, "cifar100", "celeba", "pneumonia")
"""Data sets of which numbers may be."""
_LOCAL = ("node", "worker", "ray_trial_id", "git_commit")
"""Columns that tell of the machine and nothing of the number."""
_BLOCK = re.compile(r"```sql\n(?P<sql>.*?)```\n\n(?P<table>(?:\|[^\n]*\n)*)", re.DOTALL)
_FIGURE = re.compile(r"\]\(figures/([\w-]+)\.png\)|<!-- figure ([\w-]+): ")
_PLACE = re.compile(r"(?P<mark><!-- figure (?P<name>[\w-]+): (?P<words>[^>]*?) -->\n)(?:!\[[^\n]*\n)?")


class Block(NamedTuple):
    """SQL in the page and the table that follows it; `start` and `end` are the table's place in the text."""

    sql: str
    table: str
    start: int
    end: int


def blocks(text: str) -> Iterator[Block]:
    """Find every SQL block with its table, which is empty where none follows."""
    for match in _BLOCK.finditer(text):
        yield Block(match["sql"], match["table"], *match.span("table"))


def answer(rows: Path, sql: str) -> str:
    """Ask as ``hushsweep query --format markdown`` does.

    Raises:
        ValueError: the SQL is not valid, or nothing answers it.
    """
    try:
        table = run_query(rows, sql)
    except ValueError as error:
        raise ValueError(f"{error}; in\n{sql}") from error
    if len(table) == 0:
        raise ValueError(f"no rows in {rows} answer\n{sql}")
    return markdown_table(table)


def pages(rows: Path) -> dict[Path, str]:
    """Return the pages whose sweeps are in `rows`, with their text."""
    there = set(Store(rows, create=False).sweeps()) if (rows / "hushsweep.json").exists() else set()
    return {DOCS / name: (DOCS / name).read_text() for name, needs in PAGES.items() if there >= set(needs)}


def figure_names(text: str) -> list[str]:
    """Names of the figures that a page shows, or has a place for."""
    return list(dict.fromkeys(shown or place for shown, place in _FIGURE.findall(text)))


def refreshed(text: str, rows: Path, figures: Path = DOCS / "figures") -> str:
    """Return the page with what its SQL gives on `rows` as tables, and its figures where they are in `figures`."""
    parts, done = list[str](), 0
    for block in blocks(text):
        blank = "" if text.startswith("\n", block.end) else "\n"
        parts += [text[done : block.start], answer(rows, block.sql), blank]
        done = block.end
    return _PLACE.sub(lambda place: _placed(place, figures), "".join([*parts, text[done:]]))


def _placed(place: re.Match[str], figures: Path) -> str:
    name = f"{place['name']}.png"
    return place["mark"] + (f"![{place['words']}](figures/{name})\n" if (figures / name).exists() else "")


def take(results: Path, sweeps: Sequence[str], rows: Path) -> None:
    """Copy the plan and the measurements of `sweeps` into `rows`; other sweeps that are there stay.

    Raises:
        ValueError: no such sweep, or something of it is missing or failed.
    """
    source = Store(results, create=False)
    taken = {sweep: source.plan(sweep) for sweep in sweeps}
    for sweep, plan in taken.items():
        if plan is None:
            raise ValueError(f"{results}: no sweep {sweep!r}; known: {', '.join(source.sweeps()) or 'none'}")
        _check_complete(source, sweep, plan)
    there = Store(rows, create=False).sweeps() if (rows / "hushsweep.json").exists() else []
    kept = [name for name in there if name not in taken]
    fresh = _measurements(results, sweeps)
    newer = {(row["point_id"], row["measure_id"]) for row in fresh}
    older = _measurements(rows, kept) if kept else []
    merged = [*fresh, *(row for row in older if (row["point_id"], row["measure_id"]) not in newer)]
    shutil.rmtree(rows / "measurements", ignore_errors=True)
    Store(rows).write("measurements", "rows", sorted(merged, key=str))
    for sweep, plan in taken.items():
        folder = rows / "sweeps" / sweep
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan.json").write_text(json.dumps(_short(plan), ensure_ascii=False) + "\n")
    for lock in rows.rglob(".lock"):
        lock.unlink()


def _short(plan: dict[str, Any]) -> dict[str, Any]:
    """What the views read of a plan; rows have the rest."""
    points = [
        {name: point[name] for name in ("point_id", "curve_id", "label")}
        | {"fields": {"seed": point["fields"].get("seed")}}
        | {"measures": [{name: one[name] for name in ("measure_id", "name")} for one in point["measures"]]}
        for point in plan["points"]
    ]
    return {"schema_version": plan["schema_version"], "sweep": plan["sweep"], "points": points}


def _check_complete(store: Store, sweep: str, plan: dict[str, Any]) -> None:
    asked = {(p["point_id"], m["measure_id"]) for p in plan["points"] for m in p["measures"]}
    missing = asked - store.completed()
    if missing:
        raise ValueError(
            f"sweep {sweep!r}: {len(missing)} of {len(asked)} results are missing or failed; run it again"
        )


def _measurements(results: Path, sweeps: Sequence[str]) -> list[dict[str, Any]]:
    """Rows that count for `sweeps`, each once."""
    names = ", ".join(f"'{name}'" for name in sweeps)
    local = ", ".join(f"NULL AS {name}" for name in _LOCAL)
    sql = f"SELECT DISTINCT * EXCLUDE (sweep) REPLACE ({local}) FROM measurements WHERE sweep IN ({names})"  # noqa: S608
    return run_query(results, sql).to_pylist()


def copy_figures(report: Path, text: str, rows: Path, figures: Path) -> list[Path]:
    """Copy what the page shows of the sweep that `report` is about, with a palette of 256 colours.

    Raises:
        ValueError: no report there, a sweep that is not in `rows`, pictures that may not be published, or the page
            shows a figure that the report has not.
    """
    page = report / "report.md"
    if not page.exists():
        raise ValueError(f"{report}: no report.md; make it with `hushsweep report SWEEP -o {report}`")
    sweep = page.read_text().splitlines()[0].removeprefix("# ").replace("\\", "")
    found = run_query(rows, "SELECT DISTINCT sweep, dataset FROM measurements").to_pylist()
    datasets = {row["dataset"] for row in found if row["sweep"] == sweep}
    if not datasets or not datasets <= set(SHOWN):
        known = ", ".join(sorted(datasets)) or "none in docs/rows"
        raise ValueError(f"sweep {sweep!r}: data sets: {known}; only figures of {', '.join(SHOWN)} are shown")
    copied = list[Path]()
    for name in figure_names(text):
        if name.startswith(f"{sweep}-"):
            source = report / f"{name.removeprefix(f'{sweep}-')}.png"
            copied.append(figures / f"{name}.png")
            if not source.exists():
                raise ValueError(f"{source}: the page shows it, the report has not")
            figures.mkdir(exist_ok=True)
            Image.open(source).convert("RGB").quantize(
                256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
            ).save(copied[-1], optimize=True)
    return copied


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 1 where --check finds something out of date."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--take",
        nargs="+",
        metavar=("RESULTS", "SWEEP"),
        help="copy these sweeps from a results folder into docs/rows",
    )
    parser.add_argument(
        "--figures",
        nargs="+",
        type=Path,
        metavar="DIR",
        default=[],
        help="copy figures from these report folders",
    )
    parser.add_argument("--check", action="store_true", help="only say whether the tables are up to date")
    options = parser.parse_args(arguments)
    if options.take and len(options.take) < 2:
        parser.error("--take: expected a results folder and the name of at least one sweep in it")
    try:
        return _refresh(options.take, options.figures, options.check)
    except ValueError as error:
        print(f"refresh.py: {error}", file=sys.stderr)
        return 2


def _refresh(taken: Sequence[str] | None, reports: Sequence[Path], check: bool) -> int:
    say: Callable[[str], None] = print
    if taken:
        take(Path(taken[0]), taken[1:], ROWS)
        size = sum(path.stat().st_size for path in ROWS.rglob("*") if path.is_file())
        say(f"docs/rows: {', '.join(taken[1:])} taken; {size / 1000:.0f} kB in all")
    texts = pages(ROWS)
    for report in reports:
        for path in copy_figures(report, "".join(texts.values()), ROWS, DOCS / "figures"):
            say(f"docs/figures/{path.name}: {path.stat().st_size / 1000:.0f} kB")
    new = {page: refreshed(text, ROWS) for page, text in texts.items()}
    if check:
        say("up to date" if new == texts else "tables are out of date: python docs/refresh.py")
        return int(new != texts)
    for page, text in new.items():
        page.write_text(text)
        count, state = sum(1 for _ in blocks(text)), "changed" if text != texts[page] else "as before"
        say(f"{page.name}: {count} tables, {state}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
