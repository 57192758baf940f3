"""Many answers over the files of one moment: the same rows in all of them, whatever is written or merged meanwhile."""

from pathlib import Path

import pytest

from hushsweep.dashboards import QueryError, run_query, tradeoff
from hushsweep.dashboards.queries import one_moment
from hushsweep.datasets.results import Store, compact
from tests.dashboards.conftest import ACCURACY, measurements, plan_of, points, write_trial

ENTRIES = points()
FIRST = "SELECT count(*) AS n FROM measurements"
IMAGES = "SELECT count(*) AS n FROM per_image_accuracy"
VARIABLE = "SELECT getvariable('sweep') AS name"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two trials of a point each, with two images."""
    filled = Store(tmp_path / "results")
    filled.write_sweep("s", spec_text="", plan=plan_of("s", ENTRIES))
    for number in range(2):
        fill(filled, number)
    return filled


def fill(store: Store, number: int) -> None:
    entry, trial = ENTRIES[number], f"trial{number}"
    write_trial(store, trial, [entry])
    ids = {"point_id": entry["point_id"], "measure_id": ACCURACY, "computed_by": trial, "status": "complete"}
    images = [{**ids, "image_index": index, "draws": 25, "hits_top1": 20} for index in range(2)]
    store.write("per_image/accuracy", f"{trial}.{ACCURACY}.0of1", images)


def count(store: Store, sql: str = FIRST) -> int:
    return int(run_query(store.root, sql).column("n")[0].as_py())


def test_what_is_stored_in_the_block_is_seen_after_it(store: Store) -> None:
    (planned,) = (measure for measure in ENTRIES[0]["measures"] if measure["measure_id"] == ACCURACY)
    rows = len(measurements(ENTRIES[0], planned, "trial0"))
    with one_moment(store.root):
        assert count(store) == 2 * rows
        fill(store, 2)
        with one_moment(store.root):
            assert count(store) == 2 * rows
        assert count(store) == 2 * rows
        assert count(store, IMAGES) == 4
    assert count(store) == 3 * rows
    assert count(store, IMAGES) == 6


def test_files_merged_in_the_block_lose_nothing(store: Store) -> None:
    expected = tradeoff(store.root, "s")
    with one_moment(store.root):
        assert tradeoff(store.root, "s").equals(expected)
        compact(store)
        assert count(store, IMAGES) == 4  # its files are gone: they are looked for again
        assert tradeoff(store.root, "s").equals(expected)


def test_other_results_are_others(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    with one_moment(store.root):
        assert count(other) == 0
        with one_moment(other.root):
            assert count(other) == 0
            assert count(store) > 0
        assert count(store) > 0


def test_variables_are_those_of_one_question(store: Store) -> None:
    with one_moment(store.root):
        assert run_query(store.root, VARIABLE, sweep="mine").to_pylist() == [{"name": "mine"}]
        assert run_query(store.root, VARIABLE).to_pylist() == [{"name": None}]
        with pytest.raises(QueryError, match="no_such"):
            run_query(store.root, "FROM no_such", sweep="mine")
        assert run_query(store.root, VARIABLE).to_pylist() == [{"name": None}]


@pytest.mark.parametrize(
    "sql", ["COPY (SELECT 1) TO 'x.csv'", "FROM read_csv('/etc/passwd')", "SET VARIABLE sweep = 'x'"]
)
def test_the_block_is_locked_as_every_question_is(store: Store, sql: str) -> None:
    with one_moment(store.root):
        count(store)
        with pytest.raises(QueryError):
            run_query(store.root, sql)
