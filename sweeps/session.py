"""One run of a sweep: plan, compute what is missing, mirror, draw, and say what came out."""

import contextlib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from hushsweep.datasets.results import Store, is_store
from hushsweep.sweeps.address import check_token
from hushsweep.sweeps.errors import RunError
from hushsweep.sweeps.planner import Plan, make_plan
from hushsweep.sweeps.resolve import Point, Resolved, Searched, resolve_sweep
from hushsweep.sweeps.runner import Runner, RunnerOptions, git_commit, places_here
from hushsweep.sweeps.search.judge import Judge
from hushsweep.sweeps.search.record import Record
from hushsweep.sweeps.search.run import run_searches
from hushsweep.sweeps.search.searches import PlannedSearch, look_up
from hushsweep.sweeps.source import read_source
from hushsweep.sweeps.spec import SweepSpec
from hushsweep.workers.progress import Progress, Report

_MIRROR_PATIENCE = 60.0
"""Seconds that a finished run waits for MLflow to catch up before it leaves the rest to ``hushsweep mirror``."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a run ended; counts are (point, measure) pairs."""

    sweep: str
    results: Path
    wanted: int
    existing: int
    """Complete before the run began."""
    computed: int
    stopped: int = 0
    """Stopped early and not computed since, in this run or before it."""
    missing: int
    failures: tuple[str, ...]
    """Reasons of what failed, each once, most frequent first."""
    failed: tuple[int, ...] = ()
    """(point, measure) pairs that failed for each of these reasons."""
    images: int
    seconds: float
    interrupted: bool
    figures: tuple[Path, ...]
    mirrored: str
    """What became of the MLflow mirror, in words."""
    searches: tuple[str, ...] = ()
    """What searches found, a sentence each."""

    @property
    def exit_code(self) -> int:
        """0 all done, 1 something is missing or failed, 130 interrupted."""
        return 130 if self.interrupted else int(self.missing > 0)


def plan(path: Path | str, *, results: Path | str = "results", allow_plugins: Collection[str] = ()) -> Plan:
    """Return what ``run`` would do; nothing is written.

    Args:
        path: the sweep file.
        results: the results folder.
        allow_plugins: packages or modules whose code the sweep file may name; it is imported.

    Raises:
        SpecError: the sweep file is wrong, or names other code.
        StoreError: the results folder is damaged or of a newer version.
    """
    source = read_source(path)
    spec = SweepSpec.from_source(source, allow_plugins=allow_plugins)
    store = existing_store(results)
    may_stop = spec.early_stopping is not None
    completed = store.completed(or_stopped=may_stop) if store else set()
    resolved = resolve_sweep(spec, source)
    searches = _look_up(resolved, store, spec)
    return make_plan(
        spec.name,
        [*resolved.points, *_known_points(searches, resolved)],
        completed,
        shards=spec.execution.shards,
        places=places_here(spec.execution),
        searches=[known for _, known in searches],
    )


_Looked = list[tuple[Searched, PlannedSearch]]


def _look_up(resolved: Resolved, store: Store | None, spec: SweepSpec) -> _Looked:
    """Find what is known of every search of a sweep."""
    may_stop = spec.early_stopping is not None
    return [(search, look_up(search, store, spec.name, or_stopped=may_stop)) for search in resolved.searches]


def _known_points(searches: _Looked, resolved: Resolved) -> list[Point]:
    """The points of levels that searches know of, but for those that the sweep lists as well."""
    listed = {point.point_id for point in resolved.points}
    points = (point for search, known in searches for level in known.known for point in search.at(level))
    return list({point.point_id: point for point in points if point.point_id not in listed}.values())


def existing_store(results: Path | str) -> Store | None:
    """Open a results folder if it is one; never create it."""
    return Store(results, create=False) if is_store(results) else None


def run(
    path: Path | str,
    *,
    results: Path | str = "results",
    local: bool = False,
    address: str | None = None,
    insecure: bool = False,
    recompute: Collection[str] = (),
    mirror: bool = True,
    allow_plugins: Collection[str] = (),
    watch: Callable[[Plan], contextlib.AbstractContextManager[Report]] | None = None,
) -> Summary:
    """Compute what is missing of a sweep.

    Args:
        path: the sweep file.
        results: the results folder, created if need be.
        local: run in this process instead of on Ray.
        address: of a running Ray cluster; None starts one on this machine.
        insecure: allow an address without a Ray token in the environment.
        recompute: names of measures to compute again.
        mirror: also keep MLflow up to date.
        allow_plugins: packages or modules whose code the sweep file may name; it runs here and on the workers.
        watch: shows progress while the run lasts.

    Raises:
        SpecError: the sweep file is wrong, or names code that is not allowed.
        StoreError: the results folder cannot be used, or the sweep is being run already.
        RunError: the run cannot start.
    """
    _check_address(local, address, insecure)
    source = read_source(path)
    spec = SweepSpec.from_source(source, allow_plugins=allow_plugins)
    existing_store(results)  # one that cannot be used is refused before anything is fetched
    device, places = (None, 1.0) if local else _there(spec, address)
    resolved = resolve_sweep(spec, source, device=device, fetch=True)
    _check_recompute(recompute, resolved)
    store = Store(results)  # not before the sweep is known to be right: a mistake creates no folder
    started, started_at = time.monotonic(), datetime.now(UTC)
    with store.lock(spec.name):
        searches = _look_up(resolved, store, spec)
        record = Record(
            spec,
            source,
            store,
            [*resolved.points, *_known_points(searches, resolved)],
            [known for _, known in searches],
            places=places,
            recompute=recompute,
            started_at=started_at,
        )
        planned = record.plan()
        record.write()
        counted = _Counter()
        judge = None if spec.early_stopping is None else Judge(spec.early_stopping, store)
        options = RunnerOptions(
            execution=spec.execution, address=address, git_commit=git_commit(), sweep=spec.name, judge=judge
        )
        interrupted, found = False, tuple[str, ...]()
        with _mirror_beside(store, spec.name, enabled=mirror) as finish_mirror:
            try:
                with (
                    watch(planned) if watch else contextlib.nullcontext(lambda progress: None) as report,
                    _cluster(planned, local, address),
                ):
                    _compute(planned, _runner(local), store, options, counted.then(report))
                    found = run_searches(
                        searches,
                        record,
                        local=local,
                        store=store,
                        options=options,
                        report=counted.then(report),
                    )
            except KeyboardInterrupt:
                interrupted = True
            mirrored = finish_mirror(interrupted)
        figures = () if interrupted else _draw(store, spec.name)
    since = started_at if planned.salt else None
    summary = _summarise(
        record, store, since, counted, interrupted, time.monotonic() - started, figures, mirrored
    )
    return replace(summary, searches=found)


def _check_address(local: bool, address: str | None, insecure: bool) -> None:
    if local and address:
        raise RunError("--local and --address: expected one of them, got both; leave one out")
    if address:
        check_token(insecure=insecure)


def _check_recompute(recompute: Collection[str], resolved: Resolved) -> None:
    measures = [point.measures for point in resolved.points] + [one.measures for one in resolved.searches]
    names = sorted({measure.name for wanted in measures for measure in wanted})
    for name in recompute:
        if name not in names:
            raise RunError(f"--recompute {name}: the sweep has no such measure; it has {', '.join(names)}")


def _there(spec: SweepSpec, address: str | None) -> tuple[str | None, float]:
    """Type of the devices that will do the work, None if they are this machine's, and trials that can run at once."""
    if address is None:
        return None, places_here(spec.execution)
    asks = spec.device == "auto" or spec.execution.shards == "auto"
    if not asks:
        return spec.device, 1.0
    from hushsweep.sweeps.driver import look_at_cluster

    found, places = look_at_cluster(address, spec.execution)
    return found if spec.device == "auto" else spec.device, places


def _runner(local: bool) -> Runner:
    if local:
        from hushsweep.sweeps.local import run_local

        return run_local
    from hushsweep.sweeps.driver import run_on_ray

    return run_on_ray


def _cluster(planned: Plan, local: bool, address: str | None) -> contextlib.AbstractContextManager[None]:
    """Hold one Ray cluster for both the listed points and the searches, where both may need it."""
    if local or not planned.searches or not (planned.trials or planned.asking):
        return contextlib.nullcontext()
    from hushsweep.sweeps.driver import ray_cluster

    return ray_cluster(address)


def _compute(plan: Plan, runner: Runner, store: Store, options: RunnerOptions, report: Report) -> None:
    trials = plan.shard_trials()
    if trials:
        runner(trials, results=store.root, options=options, report=report)


class _Counter:
    """Adds up what was reported."""

    def __init__(self) -> None:
        self.images = 0

    def then(self, report: Report) -> Report:
        def both(progress: Progress) -> None:
            self.images += progress.images
            report(progress)

        return both


@contextlib.contextmanager
def _mirror_beside(store: Store, sweep: str, *, enabled: bool) -> Iterator[Callable[[bool], str]]:
    """Run the MLflow mirror as a process of its own; it ends when its standard input is closed, also by our death."""
    if not enabled:
        yield lambda interrupted: "off"
        return
    store.cache_dir.mkdir(parents=True, exist_ok=True)
    log = store.cache_dir / "mirror.log"
    # -P, since a stranger's sweep file may lie in the working folder, and a stranger's mlflow.py beside it
    command = [sys.executable, "-P", "-m", "hushsweep.dashboards.tracking"]
    command += ["--results", str(store.root), "--sweep", sweep, "--follow"]
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
        )

    def finish(interrupted: bool) -> str:
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(5.0 if interrupted else _MIRROR_PATIENCE)
            if process.returncode == 0:
                return "up to date"
            return f"not up to date (see {log}); 'hushsweep mirror' catches up"
        return "still catching up in the background; 'hushsweep mirror' makes sure"

    try:
        yield finish
    finally:
        if process.stdin is not None and not process.stdin.closed:
            process.stdin.close()


def _draw(store: Store, sweep: str) -> tuple[Path, ...]:
    from hushsweep.dashboards import draw_epsilons, draw_privacy, draw_tradeoff

    folder, figures = store.root / "sweeps" / sweep, list[Path]()
    with contextlib.suppress(ValueError):  # nothing that could be drawn; the rows say why
        figures.append(draw_tradeoff(store.root, sweep, folder / "tradeoff.png"))
    with contextlib.suppress(ValueError):
        figures += draw_privacy(store.root, sweep, folder)
    with contextlib.suppress(ValueError):
        figures += draw_epsilons(store.root, sweep, folder)
    return tuple(figures)


def _summarise(
    record: Record,
    store: Store,
    since: datetime | None,
    counted: _Counter,
    interrupted: bool,
    seconds: float,
    figures: tuple[Path, ...],
    mirrored: str,
) -> Summary:
    plan, completed = record.plan(), store.completed(or_stopped=record.may_stop)
    wanted = {(p.point_id, m.measure_id) for p in plan.points for m in p.measures}
    planned = {(p.point_id, m.measure_id) for t in plan.trials for p in t.points for m in p.measures}
    if since is not None:  # computed again on purpose: what was there before does not count
        completed = (completed - planned) | _completed_since(store, since)
    missing, reasons = len(wanted - completed), store_failures(store, wanted - completed)
    stopped = (wanted & completed) - store.completed() if record.may_stop else set()
    return Summary(
        sweep=plan.sweep,
        results=store.root,
        wanted=len(wanted),
        existing=plan.existing - len(stopped - planned),
        computed=len((planned & completed) - stopped),
        stopped=len(stopped),
        missing=missing,
        failures=tuple(reasons),
        failed=tuple(reasons.values()),
        images=counted.images,
        seconds=seconds,
        interrupted=interrupted,
        figures=figures,
        mirrored=mirrored,
    )


def _completed_since(store: Store, since: datetime) -> set[tuple[str, str]]:
    rows = store.read("measurements", columns=["point_id", "measure_id", "status", "computed_at"]).to_pylist()
    return {
        (row["point_id"], row["measure_id"])
        for row in rows
        if row["status"] not in ("failed", "stopped")
        and row["computed_at"] is not None
        and row["computed_at"] >= since
    }


def store_failures(store: Store, pairs: Collection[tuple[str, str]]) -> dict[str, int]:
    """Return the reasons why ``pairs`` failed, most frequent first, each with the number of pairs."""
    if not pairs:
        return {}
    rows = store.read("measurements", columns=["point_id", "measure_id", "status", "reason"]).to_pylist()
    failed = {
        (row["reason"], row["point_id"], row["measure_id"])
        for row in rows
        if row["status"] == "failed" and (row["point_id"], row["measure_id"]) in pairs
    }
    counts = Counter(reason for reason, *_ in sorted(failed, key=str))
    return dict(counts.most_common())


__all__ = ["Summary", "existing_store", "plan", "run"]
