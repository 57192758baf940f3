"""What the command line prints: results, status, health."""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hushsweep.datasets.results import bucket_address, results_name
from hushsweep.sweeps.attacked import print_attacks
from hushsweep.sweeps.drops import print_drops
from hushsweep.sweeps.progress import clock
from hushsweep.sweeps.session import Summary
from hushsweep.sweeps.sparklines import print_sparklines

_SHOWN = 24
"""Rows of the results table that a terminal gets; the rest is a query away."""
_SHOWN_BOUNDS = 12
_BOUNDS = {
    "Cramér-\nRao\nstd": ("cramer_rao", "median_std_bound_mean"),
    "not\nidenti-\nfiable": ("cramer_rao", "mean_non_identifiable"),
    "(esti-\nmate)\nstd": ("cramer_rao_estimate", "median_std_estimate_mean"),
    "Bar-\nankin\nstd": ("barankin", "median_std_bound_mean"),
    "\nHCR\nstd": ("hcr", "median_std_bound_mean"),
    "1/\ndFIL\nMSE": ("dfil", "median_mse_bound"),
    "van\nTrees\nMSE": ("van_trees", "median_mse_bound"),
    "two-\npoint\nMSE": ("two_point", "median_mse_bound"),
}
"""Bound and column of the view bounds by heading; what else there is does not fit beside them."""


def print_results(summary: Summary, spec: Path, console: Console) -> None:
    """Print what a run came to, what it found, and where to look next."""
    from hushsweep.dashboards.queries import one_moment

    stopped = f"{summary.stopped} stopped early, " if summary.stopped else ""
    rate = f", {summary.images / summary.seconds:.0f} images/s" if summary.images else ""
    console.print(
        f"{summary.computed} computed, {summary.existing} there before, {stopped}{summary.missing} missing "
        f"in {clock(summary.seconds)}{rate}"
    )
    for sentence in summary.searches:
        console.print(f"[bold]search:[/] {escape(sentence)}", soft_wrap=True, highlight=False)
    for count, reason in list(zip(summary.failed, summary.failures, strict=True))[:5]:
        console.print(f"[bold]{count} failed:[/] {escape(reason)}", soft_wrap=True, highlight=False)
    if len(summary.failures) > 5:
        console.print(f"... and {len(summary.failures) - 5} more reasons: hushsweep status {summary.sweep}")
    views = list[str]()
    if summary.wanted > summary.missing:
        with one_moment(summary.results):
            views = _print_rows(summary, console)
    _next_steps(summary, spec, console, views)


def _print_rows(summary: Summary, console: Console) -> list[str]:
    """Print what was measured, and return the views that have more of it."""
    from hushsweep.dashboards import tradeoff
    from hushsweep.dashboards.curves import read_curves

    rows, views = tradeoff(summary.results, summary.sweep).to_pylist(), list[str]()
    if not rows:
        return views
    bounds = _read_bounds(summary)
    shared = f" · seed {rows[0]['seed']}" if len({row["seed"] for row in rows}) == 1 else ""
    curves = read_curves(summary.results, summary.sweep)
    names = {curve.curve_id: curve.name.removesuffix(shared) for curve in curves}
    rows.sort(key=lambda row: (names[row["curve_id"]], row["level"] or 0))
    console.print(_results_table(rows[:_SHOWN], names))
    if len(rows) > _SHOWN:
        console.print(f"... and {len(rows) - _SHOWN} more rows")
    caveats = sorted({row["caveat"] for row in rows if row["caveat"]})
    for caveat in caveats:
        console.print(f"[yellow]note:[/] weights: {escape(caveat)}")
    print_sparklines(rows, names, console)
    _explain(rows, console)
    if bounds:
        _print_bounds(bounds, names, console)
        views.append("bounds")
    if print_attacks(summary, names, console):
        views.append("sandwich")
    if print_drops(summary, console):
        views.append("frontier")
    return views


def _results_table(rows: list[dict[str, Any]], names: dict[str, str]) -> Table:
    has_bounds = any(row["std_bound_median"] is not None for row in rows)
    is_noise = all(row["level_name"] in (None, "noise_scale", "noise_std") for row in rows)
    table = Table("curve", "noise" if is_noise else "level")
    for name in ("accuracy", "clean", *(["HCR bound"] if has_bounds else [])):
        table.add_column(name, justify="right")
    previous = None
    for row in rows:
        name, level = row["level_name"], row["level"]
        curve = names[row["curve_id"]]
        if previous not in (None, curve):
            table.add_section()
        accuracy = row["top1"]
        spread = f" ± {100 * row['top1_stderr']:.1f}" if row["top1_stderr"] is not None else ""
        cells = [
            "" if curve == previous else escape(curve),
            "-" if level is None else f"{level:g}" + (" x RMS" if name == "noise_scale" else ""),
            "-" if accuracy is None else f"{100 * accuracy:.1f}{spread} %",
            "-" if row["clean_top1"] is None else f"{100 * row['clean_top1']:.1f} %",
        ]
        if has_bounds:
            bound = row["std_bound_median"]
            cells.append("-" if bound is None else f"{bound:.3g}")
        table.add_row(*cells)
        previous = curve
    return table


def _explain(rows: list[dict[str, Any]], console: Console) -> None:
    has_noise = any(row["level_name"] in ("noise_scale", "noise_std") for row in rows)
    noise = (
        "noise: standard deviation in units of the features' root mean square (RMS). " if has_noise else ""
    )
    console.print(f"{noise}accuracy: top-1 with noise, ± standard error over images and draws.", style="dim")
    if any(row["std_bound_median"] is not None for row in rows):
        console.print(
            "HCR bound: no unbiased reconstruction of a median image from its noisy features can have a smaller "
            "standard deviation per DCT mode (mean over modes, in normalised pixels); larger is more private.",
            style="dim",
        )


def _read_bounds(summary: Summary) -> list[dict[str, Any]]:
    from hushsweep.dashboards import bounds

    rows = bounds(summary.results, summary.sweep).to_pylist()
    return [row for row in rows if row["measure"] == "bounds"]  # hcr has a column of the table above


def _print_bounds(bounds: list[dict[str, Any]], names: dict[str, str], console: Console) -> None:
    """Print each level's bounds side by side; of several searches the largest number, since each holds."""
    levels = dict[tuple[str, float, str], dict[str, float]]()
    most = dict[tuple[str, str], int]()
    for row in sorted(bounds, key=lambda row: -row["images"]):
        level = -1.0 if row["level"] is None else row["level"]
        numbers = levels.setdefault((names[row["curve_id"]], level, row["point_id"]), {})
        for heading, (bound, column) in _BOUNDS.items():
            if row["bound"] != bound or row[column] is None:
                continue
            # medians over fewer images are not compared with those over more
            if row["images"] == most.setdefault((row["point_id"], heading), row["images"]):
                numbers[heading] = max(row[column], numbers.get(heading, 0.0))
    found = [heading for heading in _BOUNDS if any(heading in numbers for numbers in levels.values())]
    if not found:
        return
    units = {row["level_name"] for row in bounds}
    table = Table("curve", "noise\nx RMS" if units == {"noise_scale"} else "noise")
    for heading in found:
        table.add_column(heading, justify="right")
    previous = None
    for (curve, level, _), numbers in sorted(levels.items())[:_SHOWN_BOUNDS]:
        if previous not in (None, curve):
            table.add_section()
        cells = [
            _bound(numbers[heading], _BOUNDS[heading][1]) if heading in numbers else "-" for heading in found
        ]
        noise = "-" if level < 0 else f"{level:g}"
        table.add_row("" if curve == previous else escape(curve), noise, *cells)
        previous = curve
    console.print(table)
    if len(levels) > _SHOWN_BOUNDS:
        console.print(f'... and {len(levels) - _SHOWN_BOUNDS} more rows: {_program()} query "FROM bounds"')
    console.print(
        "bounds, of a median image, normalised pixels; larger is more private. std (mean over modes), 1/dFIL: for "
        "unbiased estimators, of which the non-identifiable share has none; van Trees, two-point: for every one, on an "
        "average over images; an estimate is no bound.",
        style="dim",
    )


def _bound(value: float, column: str) -> str:
    return f"{value:.0%}" if column.endswith("non_identifiable") else f"{value:.2g}"


def _next_steps(summary: Summary, spec: Path, console: Console, views: Sequence[str]) -> None:
    program = _program()
    place = bucket_address(summary.results) or str(_short(summary.results))
    results = "" if summary.results == Path("results").absolute() else f" --results {place}"
    shown = dict[str, str]()
    if summary.interrupted:
        console.print(
            "[yellow]Interrupted.[/] What is complete is kept; to go on, run the same command again:"
        )
        shown["go on"] = f"{program} run {spec}{results}"
    elif summary.missing:
        shown["try the missing ones again"] = f"{program} run {spec}{results}"
    if summary.figures:
        folder = _short(summary.figures[0].parent)
        names = [path.name for path in summary.figures]
        more = "".join(f", {name}" for name in names[1:4]) + (", ..." if len(names) > 4 else "")
        shown["picture"] = f"{folder / names[0]}{more}"
    if "sandwich" in views:
        shown["attacks"] = f"{program} query attacks{results}"
    if views:
        shown["choose"] = f"{program} query best --loss 0.01{results}"
    shown["rows"] = f"{place}/measurements/*.parquet (pandas, DuckDB, polars read them)"
    others = ", ".join(f'"FROM {view}"' for view in views)
    shown["SQL"] = f'{program} query "FROM tradeoff"{results}' + (f"   (or {others})" if others else "")
    shown["MLflow"] = f"{program} ui{results}   ({summary.mirrored})"
    console.print("Next:")
    for what, where in shown.items():  # not a table: it would cut long paths short
        console.print(f"  {what:<8} {escape(where)}", soft_wrap=True, highlight=False)


def _program() -> str:
    """How the user can call us again: by name if the shell finds it, else by the path that was used."""
    if shutil.which("hushsweep"):
        return "hushsweep"
    called = Path(sys.argv[0])
    return str(_short(called.absolute())) if called.name == "hushsweep" else "python -m hushsweep.sweeps"


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def print_submitted(job: str, spec: Path, address: str, results: Path, console: Console) -> None:
    """Print a job's id and what can be done with it."""
    where, place = f"--address {address}", shlex.quote(results_name(results))
    console.print(f"submitted: [bold]{escape(job)}[/]\nNext:", highlight=False)
    for what, command in (
        ("log", f"logs {job} {where} --follow"),
        ("jobs", f"jobs {where}"),
        ("end it", f"stop {job} {where}"),
        ("go on", f"submit {shlex.quote(str(spec))} {where} --results {place}   (once it has ended)"),
    ):
        console.print(f"  {what:<6} {_program()} {escape(command)}", soft_wrap=True, highlight=False)


def check_health(results: Path) -> list[dict[str, Any]]:
    """Look what this machine can do: of each thing its state, the mend, and whether a sweep can run with it."""
    found = list[dict[str, Any]]()
    for name, check in _CHECKS:
        healthy = True
        try:
            state, mend = check(results)
        except ValueError as error:  # a sentence for the user, with its mend
            state, mend = str(error), "see there"
        except Exception as error:  # a check that breaks is a finding, not an end
            state, mend = f"{type(error).__name__}: {error}", "reinstall hushsweep"
            healthy = False
        healthy = healthy and (not mend or mend.startswith("optional"))
        found.append({"what": name, "state": state, "mend": mend, "healthy": healthy})
    return found


def print_health(found: list[dict[str, Any]], console: Console) -> None:
    """Print what :func:`check_health` found."""
    table = Table("what", "state", "mend")
    for row in found:
        table.add_row(row["what"], escape(row["state"]), escape(row["mend"]))
    console.print(table)


def _check_devices(results: Path) -> tuple[str, str]:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return f"{', '.join(names)}; torch {torch.__version__}", ""
    return f"{os.cpu_count()} CPU cores, no GPU; torch {torch.__version__}", "optional: a CUDA GPU"


def _check_ray(results: Path) -> tuple[str, str]:
    import ray

    if importlib.util.find_spec("aiohttp_cors"):
        return f"ray {ray.__version__}, with its dashboard", ""
    return f"ray {ray.__version__}", "optional, to submit jobs: pip install 'hushsweep[cluster]'"


def _check_mlflow(results: Path) -> tuple[str, str]:
    from importlib.metadata import version

    return f"mlflow {version('mlflow')}, {results}/mlflow.db", ""


def _check_data(results: Path) -> tuple[str, str]:
    root = os.environ.get("HUSHSWEEP_DATA")
    if root is None:
        return "HUSHSWEEP_DATA is not set; digits needs none", "optional: docs/datasets.md"
    if not os.access(root, os.R_OK | os.X_OK):
        return f"HUSHSWEEP_DATA={root} cannot be read", "set it to a readable folder (docs/datasets.md)"
    return (
        f"HUSHSWEEP_DATA={root}: {', '.join(sorted(p.name for p in Path(root).iterdir() if p.is_dir()))}",
        "",
    )


def _check_results(results: Path) -> tuple[str, str]:
    from hushsweep.sweeps.session import existing_store

    folder = next(place for place in (results.absolute(), *results.absolute().parents) if place.exists())
    free = shutil.disk_usage(folder).free / 1e9
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return f"{results} cannot be written: {error.strerror}", "choose another --results"
    store = existing_store(results)
    sweeps = f", {len(store.sweeps())} sweeps" if store else ", no results yet"
    return f"{results}: {free:.0f} GB free{sweeps}", "" if free > 5 else "free some disk space"


_CHECKS: tuple[tuple[str, Callable[[Path], tuple[str, str]]], ...] = (
    ("devices", _check_devices),
    ("Ray", _check_ray),
    ("MLflow", _check_mlflow),
    ("data", _check_data),
    ("results", _check_results),
)


def serve_ui(results: Path, console: Console, *, port: int, mlflow_port: int, host: str = "127.0.0.1") -> int:
    """Run the dashboard and beside it the MLflow UI, on loopback unless `host` says more, until interrupted.

    MLflow stays on loopback. Where one of the two ends, the other goes on.

    Raises:
        StoreError: there are no results, or a port is in use.
    """
    from hushsweep.dashboards.app.process import dashboard_address, dashboard_command, require_free
    from hushsweep.dashboards.server import ui_address, ui_command
    from hushsweep.datasets.results import Store, StoreError

    if port == mlflow_port:
        raise StoreError(f"--port and --mlflow-port are both {port}; choose two")
    store = Store(results, create=False)
    require_free(host, port, "--port")
    require_free("127.0.0.1", mlflow_port, "--mlflow-port")
    dashboard = dashboard_command(results, host=host, port=port)
    address = dashboard_address(host, port, dashboard.environment)
    console.print(f"dashboard: {address}", soft_wrap=True, highlight=False)
    if "access_token" in address:
        console.print("  whoever has this address can read the results; it changes with every start")
    mlflow = ui_command(results, mlflow_port)
    console.print(f"MLflow: http://127.0.0.1:{mlflow_port}; in a few seconds, the curves of", highlight=False)
    for sweep in store.sweeps():
        console.print(f"  {escape(sweep)}: {ui_address(results, mlflow_port, sweep)}", soft_wrap=True)
    console.print("Ctrl-C ends both.")
    servers = [
        subprocess.Popen(command, env={**os.environ, **environment})  # noqa: S603
        for command, environment in (dashboard, mlflow)
    ]
    try:
        return max(abs(server.wait()) for server in servers)
    except KeyboardInterrupt:
        return 0
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
