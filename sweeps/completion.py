"""What the shell offers on TAB: ready-made queries, views, sweeps of the results folder."""

from pathlib import Path

import typer


def queries(incomplete: str) -> list[tuple[str, str]]:
    """Ready-made queries, each with what it answers, then views and tables."""
    from hushsweep.dashboards.queries.ready_made import answers, ready_made, views

    known = dict.fromkeys(views(), "rows of this view")
    known |= {name: answers(sql) for name, sql in ready_made().items()}
    return [(name, text) for name, text in sorted(known.items()) if name.startswith(incomplete)]


def sweeps(ctx: typer.Context, incomplete: str) -> list[str]:
    """Sweeps of the results folder that the command line names so far; of a bucket none, which may be slow."""
    from hushsweep.datasets.results import Store

    folder = Path(str(ctx.params.get("results") or "results"))
    if not folder.joinpath("hushsweep.json").is_file():
        return []
    return [name for name in Store(folder, create=False).sweeps() if name.startswith(incomplete)]
