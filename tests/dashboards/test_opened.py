"""Results from Python: DataFrames, a connection, and the notebook that shows them."""

import json
from pathlib import Path

import nbformat
import pandas as pd
import polars
import pytest
from nbclient import NotebookClient

import hushsweep.dashboards
from hushsweep.dashboards import QueryError, run_query
from hushsweep.datasets.results import Store, StoreError

TOUR = Path(__file__).parents[2] / "docs" / "notebooks" / "tour.ipynb"


def test_questions_are_answered_as_data_frames(quickstart: Path) -> None:
    with hushsweep.dashboards.open(quickstart) as results:
        assert results.sweeps == ["quickstart", "quickstart-tradeoff"]
        assert {"overview", "measurements", "per_image_accuracy"} <= set(results.views)
        best = results.df("best", loss=0.01)
        assert isinstance(best, pd.DataFrame)
        assert best["accuracy_loss"].max() <= 0.01
        rows = results.pl("tradeoff", sweep="quickstart")
        assert isinstance(rows, polars.DataFrame)
        assert len(rows) == run_query(quickstart, "FROM tradeoff WHERE sweep = 'quickstart'").num_rows
        assert results.compare("gaussian/0.25", "gaussian/0.5")["p_value"].iloc[0] < 0.05
        assert results.connection.sql("SELECT count(*) FROM overview").fetchall() == [(15,)]
        assert results.connection is results.connection
        with pytest.raises(QueryError, match="DROP statement"):
            results.df("DROP VIEW overview")
        assert "quickstart-tradeoff" in repr(results)
    assert len(results.df("SELECT 1")) == 1, "questions need no open connection"


def test_questions_see_what_was_stored_since(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        hushsweep.dashboards.open(tmp_path)
    store = Store(tmp_path)
    results = hushsweep.dashboards.open(str(tmp_path))
    assert (results.sweeps, len(results.df("sweeps"))) == ([], 0)
    assert repr(results).endswith("none yet")
    store.write_sweep("s", spec_text="", plan={"points": []})
    assert results.sweeps == ["s"]


def test_the_tour_runs_over_the_quickstart(quickstart: Path, tmp_path: Path) -> None:
    folder = tmp_path / "docs" / "notebooks"
    folder.mkdir(parents=True)
    (tmp_path / "results").symlink_to(quickstart)
    notebook = nbformat.read(TOUR, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    shown = json.dumps([cell.get("outputs") for cell in notebook.cells])
    assert "quickstart-tradeoff" in shown
    assert "A is higher by" in shown
    assert "cramer_rao" in shown


def test_the_tour_is_kept_without_answers() -> None:
    notebook = nbformat.read(TOUR, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells)
