"""The command line: one small function per command; what is heavy is imported inside."""

import contextlib
import io
import itertools
import json
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from hushsweep.sweeps import completion

if TYPE_CHECKING:
    from hushsweep.sweeps.jobs import Jobs
    from hushsweep.sweeps.planner import Plan, PlannedTrial
    from hushsweep.sweeps.session import Summary

USER_ERROR = 2

app = typer.Typer(
    help="Measure how much confidentiality noise buys in image classification, and what it costs in accuracy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Spec = Annotated[Path, typer.Argument(help="The sweep file (YAML).", metavar="SPEC")]


def _results(text: str | Path) -> Path:
    """Turn s3://BUCKET/PREFIX into the folder of this machine that stands for it; leave other folders as they are."""
    from hushsweep.datasets.results import StoreError, bucket_address, results_folder

    try:
        return Path(text) if bucket_address(text) is None else results_folder(text)
    except StoreError as error:
        raise typer.BadParameter(str(error)) from error


Results = Annotated[
    Path,
    typer.Option(
        "--results", help="The results folder, or s3://BUCKET/PREFIX.", metavar="DIR", parser=_results
    ),
]
RESULTS = Path("results")
AllowPlugins = Annotated[
    list[str] | None,
    typer.Option(
        help="Let the sweep file name code of this package or module (repeatable).", metavar="PACKAGE"
    ),
]
JobAddress = Annotated[
    str, typer.Option("--address", help="Dashboard of the head node, http://HEAD:8265.", metavar="URL")
]
JobName = Annotated[str, typer.Argument(help="Id of a job, see hushsweep jobs.", metavar="JOB")]
Insecure = Annotated[bool, typer.Option(help="Allow an --address without a Ray token.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, for scripts.")]


def main() -> None:
    """Run the command line."""
    for name, value in (
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("GIT_PYTHON_REFRESH", "quiet"),
    ):
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no such letter gets a question mark
            stream.reconfigure(errors="replace")
    app()


@app.callback(invoke_without_command=True)
def _options(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show_version:
        typer.echo(f"hushsweep {version('hushsweep')}")
        raise typer.Exit


@app.command(epilog="Example: hushsweep plan sweeps/examples/quickstart.yaml")
def plan(
    spec: Spec,
    results: Results = RESULTS,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = None,
) -> None:
    """Show points, trials, what the store holds already and what the rest will cost; runs nothing."""
    with _sentences():
        from hushsweep.sweeps.session import plan as make

        planned = make(spec, results=results, allow_plugins=allow_plugins or ())
        if as_json:
            typer.echo(json.dumps(_plan_json(planned)))  # not indented: Python would take ten times as long
        else:
            _print_plan(planned, Console())


@app.command(epilog="Example: hushsweep run sweeps/examples/quickstart.yaml --results results")
def run(
    spec: Spec,
    results: Results = RESULTS,
    local: Annotated[bool, typer.Option("--local", help="Run in this process, without Ray.")] = False,
    address: Annotated[
        str | None, typer.Option(help="Address of a running Ray cluster, e.g. auto.", metavar="ADDR")
    ] = None,
    insecure: Insecure = False,
    recompute: Annotated[
        list[str] | None, typer.Option(help="Compute this measure again (repeatable).", metavar="MEASURE")
    ] = None,
    mlflow: Annotated[bool, typer.Option(help="Mirror the rows to MLflow while running.")] = True,
    allow_plugins: AllowPlugins = None,
    as_json: AsJson = False,
) -> None:
    """Compute what is missing of a sweep: rows in Parquet, runs in MLflow, a figure.

    With --json, standard output has how the run ended, and what is for people goes to standard error.

    Exit code: 0 all done, 1 something failed or is missing, 2 the input was wrong, 130 interrupted.
    """
    # held on to, since Tune's own output is diverted while it runs
    console = Console(file=sys.stderr if as_json else sys.stdout)
    with _sentences():
        from hushsweep.sweeps.progress import live_table
        from hushsweep.sweeps.session import run as start

        @contextlib.contextmanager
        def watch(planned: "Plan") -> Iterator[Any]:
            _print_start(planned, console)
            with live_table(planned, console) as report:
                yield report

        summary = start(
            spec,
            results=results,
            local=local,
            address=address,
            insecure=insecure,
            recompute=recompute or (),
            mirror=mlflow,
            allow_plugins=allow_plugins or (),
            watch=watch,
        )
        if as_json:
            _print_json(_summary_json(summary))
        else:
            _print_summary(summary, spec, console)
    raise typer.Exit(summary.exit_code)


@app.command(
    epilog="Example: hushsweep submit quickstart.yaml --address http://127.0.0.1:8265 --results /shared/results"
)
def submit(
    spec: Spec,
    address: JobAddress,
    results: Annotated[
        Path, typer.Option("--results", help="The results folder on every node, absolute.", metavar="DIR")
    ],
    follow: Annotated[bool, typer.Option("--follow", help="Show the job's log until it ends.")] = False,
    insecure: Insecure = False,
    mlflow: Annotated[bool, typer.Option(help="Mirror the rows to MLflow while running.")] = True,
    allow_plugins: AllowPlugins = None,
    as_json: AsJson = False,
) -> None:
    """Run a sweep as a job of a Ray cluster, which needs Ray and our dependencies: hushsweep comes along.

    Exit code: 0 submitted, 2 the input was wrong; with --follow that of the run, 130 if the job was stopped.
    """
    with _sentences():
        from hushsweep.sweeps.jobs import Jobs
        from hushsweep.sweeps.reports import print_submitted
        from hushsweep.sweeps.submit import check_sweep
        from hushsweep.sweeps.submit import submit as start

        if follow and as_json:
            _refuse("--follow prints the job's log, and --json one document: give one of them")
        allowed = allow_plugins or ()
        checked = check_sweep(spec, results, allow_plugins=allowed)
        there = Jobs(address, insecure=insecure)
        job = start(checked, spec, there, results=results, mirror=mlflow, allow_plugins=allowed)
        if as_json:
            _print_json(
                {"job": job, "sweep": checked.name, "address": there.address, "results": str(results)}
            )
        else:
            print_submitted(job, spec, there.address, results, Console())
        code = _follow(there, job) if follow else 0
    raise typer.Exit(code)


@app.command(epilog="Example: hushsweep jobs --address http://127.0.0.1:8265")
def jobs(address: JobAddress, insecure: Insecure = False, as_json: AsJson = False) -> None:
    """List the sweeps that are, or were, jobs of a cluster."""
    with _sentences():
        from hushsweep.sweeps.jobs import Jobs, print_jobs

        found = Jobs(address, insecure=insecure).ours()
        if as_json:
            _print_json([vars(job) for job in found])
        else:
            print_jobs(found, Console())


@app.command(epilog="Example: hushsweep logs quickstart-1a2b3c4d --address http://127.0.0.1:8265 --follow")
def logs(
    job: JobName,
    address: JobAddress,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job ends.")] = False,
    insecure: Insecure = False,
) -> None:
    """Show what a job has printed; with --follow until it ends, with the exit code of the run."""
    with _sentences():
        from hushsweep.sweeps.jobs import Jobs

        there = Jobs(address, insecure=insecure)
        if follow:
            raise typer.Exit(_follow(there, job))
        typer.echo(there.log(job), nl=False)


@app.command(epilog="Example: hushsweep stop quickstart-1a2b3c4d --address http://127.0.0.1:8265")
def stop(job: JobName, address: JobAddress, insecure: Insecure = False, as_json: AsJson = False) -> None:
    """End a job as Ctrl-C would: what is complete stays, and submitting again goes on."""
    with _sentences():
        from hushsweep.sweeps.jobs import Jobs

        ended = Jobs(address, insecure=insecure).stop(job)
        if as_json:
            _print_json(vars(ended))
        else:
            typer.echo(f"{job}: {ended.state.lower()}; what is complete is kept, submitting it again goes on")
    raise typer.Exit(int(ended.exit_code is None))


@app.command(epilog="Example: hushsweep status quickstart")
def status(
    sweep: Annotated[
        str | None, typer.Argument(help="Name of a sweep; default: all.", autocompletion=completion.sweeps)
    ] = None,
    results: Results = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Show progress, failures with their reasons, throughput, time left, and what each node does."""
    with _sentences():
        from hushsweep.sweeps.status import print_status, status_json

        if as_json:
            _print_json(status_json(results, sweep))
        else:
            print_status(results, sweep, Console())


@app.command(
    epilog="Example: hushsweep query overview; hushsweep query best --loss 0.02; "
    "hushsweep query compare resnet18/gaussian/0.5 resnet18/laplace/0.5; "
    'hushsweep query "SELECT model, level, top1, std_bound_median FROM tradeoff"'
)
def query(
    sql: Annotated[
        str | None,
        typer.Argument(
            help="One SELECT, or the name of a ready-made one or of a view.",
            show_default=False,
            autocompletion=completion.queries,
        ),
    ] = None,
    points: Annotated[
        list[str] | None,
        typer.Argument(
            help="The two of compare: model/method/level, or how a point's id begins.",
            metavar="[A B]",
            show_default=False,
        ),
    ] = None,
    results: Results = RESULTS,
    sweep: Annotated[
        str | None,
        typer.Option(
            help="getvariable('sweep'): the sweep that ready-made ones are about.",
            autocompletion=completion.sweeps,
        ),
    ] = None,
    loss: Annotated[
        float | None, typer.Option(help="getvariable('loss'): accuracy that may be lost, a fraction.")
    ] = None,
    list_ready_made: Annotated[bool, typer.Option("--list", help="Name the ready-made ones.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the SQL instead of its answer.")] = False,
    output_format: Annotated[
        str, typer.Option("--format", help="table, markdown, csv, json or parquet.", metavar="FORMAT")
    ] = "table",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this file.", metavar="FILE")
    ] = None,
) -> None:
    """Ask the results in SQL (DuckDB, read-only).

    Views: overview, tradeoff, bounds, reconstructions, sandwich, privacy, frontier, secondary_drop(), dp, methods,
    attack_names, best_accuracies, measurements, per_image_accuracy, per_image_bounds, per_image_epsilon, per_image_hcr,
    per_image_information, per_image_membership, per_image_reconstruction, per_image_sandwich, per_image_secondary,
    modes, pictures, shifts, sweeps.
    """
    with _sentences():
        from hushsweep.dashboards.queries.output import write_result
        from hushsweep.dashboards.queries.ready_made import answers, ready_made, statement

        if list_ready_made:
            for name, text in ready_made().items():
                typer.echo(f"{name:9} {answers(text)}")
        elif show:
            typer.echo(statement(sql).rstrip())
        elif sql == "compare" or points:
            from hushsweep.sweeps.comparisons import answer_comparison

            answer_comparison(
                sql, points or [], results=results, sweep=sweep, output_format=output_format, output=output
            )
        else:
            from hushsweep.dashboards.queries.run import run_query

            answer = run_query(results, statement(sql), sweep=sweep, loss=loss)
            write_result(answer, output_format, output)


@app.command(epilog="Example: hushsweep report quickstart -o quickstart.html")
def report(
    sweep: Annotated[str, typer.Argument(help="Name of a sweep.", autocompletion=completion.sweeps)],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="FILE.html, one page that needs nothing else; or a folder for report.md and pictures.",
            metavar="PATH",
        ),
    ],
    figures: Annotated[
        Path | None, typer.Option(help="Also the figures as files for papers, in this folder.", metavar="DIR")
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Of those files: any of png, svg, pdf.", metavar="LIST")
    ] = "png,svg,pdf",
    results: Results = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Write what a sweep found, to hand on: tables and their SQL, figures, what each bound promises, caveats."""
    with _sentences():
        from hushsweep.dashboards import write_report

        chosen = [name.strip() for name in formats.split(",") if name.strip()]
        written = write_report(results, sweep, output, figures=figures, formats=chosen)
        if as_json:
            _print_json(written._asdict())
        else:
            files = f" and {len(written.figures)} pictures" if written.figures else ""
            typer.echo(f"{written.page}{files}")


@app.command(
    epilog="Example: hushsweep epsilon --noise-multiplier 1 --batch 128 --examples 50000 --epochs 100 --delta 1.33e-5"
)
def epsilon(
    batch: Annotated[int, typer.Option(help="Expected size of a Poisson sample.", metavar="N")],
    examples: Annotated[int, typer.Option(help="Training records.", metavar="N")],
    delta: Annotated[
        float, typer.Option(help="Chance with which the statement may fail, below 1 / examples.")
    ],
    noise_multiplier: Annotated[
        float | None,
        typer.Option(help="Standard deviation of the noise over the sensitivity.", metavar="SIGMA"),
    ] = None,
    target_epsilon: Annotated[
        float | None,
        typer.Option(help="In its place: find the least noise that stays within this.", metavar="EPS"),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Steps are epochs * examples / batch.")] = None,
    steps: Annotated[int | None, typer.Option(help="In their place.", metavar="N")] = None,
    accountant: Annotated[
        str, typer.Option(help="Whose epsilon the target is: pld, rdp or rdp_classic.")
    ] = "pld",
    relation: Annotated[
        str,
        typer.Option(
            help="add_or_remove or replace_one; with records clipped to C the sensitivity is C or 2 C.",
        ),
    ] = "add_or_remove",
    sampling: Annotated[str, typer.Option(help="poisson or shuffled: how batches are drawn.")] = "poisson",
    assume_poisson: Annotated[
        bool,
        typer.Option("--assume-poisson", help="Account shuffled batches as if they were Poisson samples."),
    ] = False,
    max_order: Annotated[int, typer.Option(help="Largest RDP order.", metavar="N")] = 63,
    as_json: AsJson = False,
) -> None:
    """Show the epsilon of DP-SGD by three accountants, or the noise for an epsilon; runs nothing."""
    with _sentences():
        from hushsweep.sweeps.epsilons import Setting, print_epsilons

        setting = Setting(
            noise_multiplier=noise_multiplier,
            target_epsilon=target_epsilon,
            batch=batch,
            examples=examples,
            epochs=epochs,
            steps=steps,
            delta=delta,
            relation=relation,
            accountant=accountant,
            sampling=sampling,
            assume_poisson=assume_poisson,
            max_order=max_order,
        )
        print_epsilons(setting, as_json=as_json, console=Console())


@app.command(epilog="Example: hushsweep schema > sweep.schema.json")
def schema() -> None:
    """Print the JSON Schema of a sweep file, for editors."""
    with _sentences():
        from hushsweep.sweeps.spec import json_schema

        typer.echo(json.dumps(json_schema(), indent=2))


@app.command(epilog="Example: hushsweep mirror quickstart --rebuild")
def mirror(
    sweep: Annotated[
        str | None, typer.Argument(help="Name of a sweep; default: all.", autocompletion=completion.sweeps)
    ] = None,
    results: Results = RESULTS,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow server or database; default: DIR/mlflow.db.", metavar="URI")
    ] = None,
    rebuild: Annotated[bool, typer.Option(help="Delete this store's runs first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring MLflow up to date with the rows, or rebuild it from them."""
    with _sentences():
        from hushsweep.dashboards import mirror as mirror_rows

        report = mirror_rows(results, sweep, tracking_uri=tracking_uri, rebuild=rebuild)
        if as_json:
            from hushsweep.dashboards.server import without_password

            _print_json({**vars(report), "tracking_uri": without_password(report.tracking_uri)})
        else:
            typer.echo(str(report))
    raise typer.Exit(int(report.error is not None))


@app.command(epilog="Example: hushsweep verify --results results")
def verify(results: Results = RESULTS, as_json: AsJson = False) -> None:
    """Read every file again, compute every summary again from its rows, and say what is wrong.

    Exit code: 0 all is as it should be, 1 something is wrong.
    """
    with _sentences():
        from hushsweep.sweeps.verify import verify as read_all

        found = read_all(results)
        if as_json:
            _print_json(vars(found))
        else:
            for fault in found.faults:
                typer.echo(f"wrong: {fault}")
            typer.echo(
                f"{found.files:,} files with {found.rows:,} rows read; {found.summaries:,} summaries computed again"
                + (f", {found.unsummed:,} of other code left as they are" if found.unsummed else "")
                + f"; {found.answered:,} of {found.wanted:,} measures that sweeps ask for are answered; "
                + (f"{len(found.faults):,} faults" if found.faults else "nothing is wrong")
            )
    raise typer.Exit(int(bool(found.faults)))


@app.command(epilog="Example: hushsweep compact --results results")
def compact(results: Results = RESULTS, as_json: AsJson = False) -> None:
    """Merge many small files into few large ones, so that queries are fast; sweeps may go on meanwhile."""
    with _sentences():
        from hushsweep.datasets.results import Store
        from hushsweep.datasets.results import compact as merge

        merged = merge(Store(results, create=False))
        if as_json:
            _print_json([vars(table) for table in merged])
        for table in [] if as_json else merged:
            if table.before != table.after:
                typer.echo(
                    f"{table.table}: {table.before:,} files became {table.after:,}, "
                    f"{table.bytes_before / 1e6:,.1f} MB became {table.bytes_after / 1e6:,.1f} MB"
                )


@app.command(epilog="Example: hushsweep doctor; hushsweep doctor --address auto --results /shared/results")
def doctor(
    results: Results = RESULTS,
    address: Annotated[
        str | None, typer.Option(help="Look at every node of this Ray cluster, e.g. auto.", metavar="ADDR")
    ] = None,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """Show what this machine, or every node of a cluster, can do (devices, Ray, data, disk), each with its mend."""
    with _sentences():
        from hushsweep.sweeps.reports import check_health, print_health

        if address is None:
            found = check_health(results)
        else:
            from hushsweep.sweeps.nodes import check_nodes, print_nodes

            found = check_nodes(address, results, insecure=insecure)
        healthy = all(row["healthy"] for row in found)
        if as_json:
            _print_json({"healthy": healthy, "nodes" if address else "checks": found})
        elif address is None:
            print_health(found, Console())
        else:
            print_nodes(found, results, Console())
    raise typer.Exit(0 if healthy else 1)


@app.command(epilog="Example: hushsweep ui --results results --port 8050")
def ui(
    results: Results = RESULTS,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the dashboard.")] = 8050,
    mlflow_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the MLflow UI, on loopback.")
    ] = 5000,
    host: Annotated[
        str,
        typer.Option(help="Address on which the dashboard listens; beyond loopback it asks for a token."),
    ] = "127.0.0.1",
) -> None:
    """Open the dashboard and the MLflow UI, on loopback; Ctrl-C ends them."""
    with _sentences():
        from hushsweep.sweeps.reports import serve_ui

        code = serve_ui(results, Console(), port=port, mlflow_port=mlflow_port, host=host)
    raise typer.Exit(code)


def _follow(jobs: "Jobs", job: str) -> int:
    """Show a job's log until it ends; Ctrl-C ends the showing, not the job."""
    try:
        ended = jobs.follow(job, lambda text: typer.echo(text, nl=False))
    except KeyboardInterrupt:
        typer.echo(f"{job} goes on; to end it: hushsweep stop {job} --address {jobs.address}", err=True)
        return 130
    typer.echo(f"{job}: {ended.state.lower()}")
    assert ended.exit_code is not None, "it has ended"
    return ended.exit_code


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """Print a user's mistake as the sentence that it is, without a traceback."""
    from hushsweep.datasets.results import StoreError

    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except ValueError as error:
        if not _for_users(error) and not isinstance(error, StoreError):
            raise
        _refuse(str(error))
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left: nothing to say to it
        raise typer.Exit(0) from None


def _for_users(error: ValueError) -> bool:
    names = {"SpecError", "RunError", "PlugInError", "DatasetError", "StoreError", "QueryError"}
    return any(cls.__name__ in names for cls in type(error).__mro__)


def _refuse(message: str) -> NoReturn:
    for line in message.splitlines():
        typer.echo(f"error: {line}", err=True)
    raise typer.Exit(USER_ERROR)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> str:
    """Write what JSON does not know: paths, and times as ISO 8601."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _summary_json(summary: "Summary") -> dict[str, Any]:
    return {**vars(summary), "exit_code": summary.exit_code}


def _print_start(planned: "Plan", console: Console) -> None:
    there = f", {planned.existing} of them there already" if planned.existing else ""
    console.print(
        f"[bold]{escape(planned.sweep)}[/]: {len(planned.points)} points, {planned.wanted} measures{there}; "
        f"{planned.missing} to compute in {planned.parts} trials"
    )
    for search in planned.searches:
        there = ", ".join(f"{level:g}" for level in sorted(search.known))
        known = f"{len(search.known)} levels known ({there})" if search.known else "no level known"
        console.print(
            f"  {escape(search.label)}: searches {search.level_name}: {known}, {search.asking} to be asked for"
        )


def _print_plan(planned: "Plan", console: Console) -> None:
    from hushsweep.sweeps.costs import Estimate

    _print_start(planned, console)
    for _, alike in itertools.groupby(planned.trials, _heading):
        trials = list(alike)
        setting, trial = trials[0].setting, trials[0]
        estimate = sum((trial.estimate for trial in trials), Estimate())
        points = sum(len(trial.points) for trial in trials)
        learned = f" that learn {trial.learns}, {len(trials)} trials" if trial.learns else ""
        seed = f", seed {setting.model.seed}" if trial.points[0].fields["model_seed"] is not None else ""
        weights = Path(setting.checked.weights).name + seed
        console.print(
            f"  [bold]{escape(setting.model.name)}[/] ({escape(weights)}) cut at {escape(setting.cut)}, "
            f"{escape(setting.dataset.name)} with {setting.info.size:,} images: {points} points{learned}"
        )
        counts = {
            "image passes": estimate.image_passes,
            "head passes": estimate.head_passes,
            "Jacobian rows": estimate.jacobian_rows,
            "search passes": estimate.search_passes,
            "solves": estimate.solves,
            "training": estimate.trainings,
        }
        console.print("    " + ", ".join(f"{count:,} {name}" for name, count in counts.items() if count))
        for route in trial.routes:
            console.print(f"    {escape(route)}", soft_wrap=True)
    if planned.trials:
        console.print(
            "image pass: an image up to the cut; head pass: from the cut on, per level and draw (a linear head shares "
            "them); Jacobian row: a derivative pass up to the cut; search pass: a shifted image up to the cut, or "
            "back, per level; solve: a least-squares problem of a search for shifts.",
            style="dim",
        )


def _heading(trial: "PlannedTrial") -> tuple[int, str | None]:
    """What trials have in common that are printed as one."""
    return id(trial.setting), trial.learns


def _plan_json(planned: "Plan") -> dict[str, Any]:
    return {
        **planned.document(),
        "wanted": planned.wanted,
        "existing": planned.existing,
        "missing": planned.missing,
        "shards": max((trial.shards for trial in planned.trials), default=1),
        "searches": [vars(search) for search in planned.searches],
        "trials": [
            {
                "dataset": trial.setting.dataset.name,
                "model": trial.setting.model.name,
                "weights": trial.setting.checked.weights,
                "cut": trial.setting.cut,
                "images": trial.setting.info.size,
                "points": [point.point_id for point in trial.points],
                "estimate": vars(trial.estimate),
                "routes": trial.routes,
            }
            for trial in planned.trials
        ],
    }


def _print_summary(summary: "Summary", spec: Path, console: Console) -> None:
    from hushsweep.sweeps.reports import print_results

    print_results(summary, spec, console)
