"""The same trial delivered twice, by two processes at the same moment: the rows of one."""

import multiprocessing
from pathlib import Path
from typing import Any

from duplicates_support import deliver, trials
from rows_support import DIAGNOSTICS, VIEWS, same

from hushsweep.dashboards import run_query
from hushsweep.datasets.results import PROVENANCE_COLUMNS, Store
from hushsweep.sweeps.verify import verify
from hushsweep.workers.evaluate import evaluate
from hushsweep.workers.trial import Execution

ROUNDS = [1, 2, 1, 2]
"""Shards of each."""
TABLES = {
    "measurements": VIEWS["measurements"],
    "per_image/accuracy": VIEWS["per_image_accuracy"],
    "per_image/hcr": VIEWS["per_image_hcr"],
    "modes": VIEWS["modes"],
    "shifts": ("point_id", "measure_id", "image_index"),
}


def on_disk(results: Path, table: str) -> list[dict[str, Any]]:
    """All rows of the files as they lie there, without the columns that say where and when."""
    rows = Store(results).read(table)
    left_out = {*PROVENANCE_COLUMNS, *DIAGNOSTICS} - {"computed_by"}
    kept = rows.select([name for name in rows.column_names if name not in left_out]).to_pylist()
    return sorted(kept, key=lambda row: [str(row.get(name)) for name in (*TABLES[table], "computed_by")])


def counted(results: Path) -> dict[str, int]:
    """Numbers of rows that count."""
    views = [table.replace("/", "_") for table in TABLES]
    sql = " UNION ALL ".join(f"SELECT '{view}' AS name, count(*) AS n FROM {view}" for view in views)
    return {row["name"]: row["n"] for row in run_query(results, sql).to_pylist()}


def test_two_processes_that_evaluate_one_trial_leave_the_rows_of_one(tmp_path: Path) -> None:
    references = {shards: Store(tmp_path / f"one-{shards}").root for shards in set(ROUNDS)}
    for shards, reference in references.items():
        for trial in trials(shards):
            evaluate(trial, results=reference, execution=Execution())
    stores = [Store(tmp_path / f"two-{number}").root for number in range(len(ROUNDS))]
    context = multiprocessing.get_context("spawn")
    together, computed = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=deliver, args=(stores, ROUNDS, backwards, together, computed))
        for backwards in (False, True)
    ]
    for process in processes:
        process.start()
    first, second = (computed.get(timeout=500) for _ in processes)
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert sum(first) + sum(second) > sum(2 * shards for shards in ROUNDS), "some rows were computed twice"
    expected = {shards: counted(reference) for shards, reference in references.items()}
    for store, shards in zip(stores, ROUNDS, strict=True):
        assert counted(store) == expected[shards]
        assert verify(store).faults == ()
        for table in TABLES:
            one, two = on_disk(references[shards], table), on_disk(store, table)
            assert len(one) == len(two) > 0
            for mine, theirs in zip(one, two, strict=True):
                assert all(same(mine[name], theirs[name]) for name in mine), (table, mine, theirs)
