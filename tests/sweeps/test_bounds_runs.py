"""Sweeps with bounds, run whole: every bound has its rows, whatever is shared, and what has none says why."""

import shutil
from pathlib import Path

import pytest
from rows_support import assert_same_rows
from typer.testing import CliRunner

from hushsweep.dashboards import run_query
from hushsweep.sweeps import Summary, run
from hushsweep.sweeps.cli import app

SWEEP = """
name: bounded
dataset: {name: digits, limit: 24}
model: {name: digits_mlp, weights: random}
mechanism:
  - {name: none}
  - {name: gaussian, noise_scale: [0.5, 2]}
  - {name: laplace, noise_scale: 1}
  - {name: laplace, noise_scale: 0.5, at: input}
  - {chain: [{name: gaussian, noise_scale: 0.5, at: input}, {name: laplace, noise_scale: 1}]}
measures:
  - {name: accuracy}
  - name: bounds
    images: 4
    bounds: [cramer_rao, barankin, hcr, dfil, van_trees, two_point]
    shifts: [jacobian, dct]
    low_frequency: 3
    pictures: 1
execution: {threads: 1}  # a search takes thousands of tiny steps, which threads that wait for each other slow down
"""
MORE_LEVELS = SWEEP.replace("[0.5, 2]", "[0.5, 1, 2]")
KINDS = {
    ("cramer_rao", None),
    ("barankin", "jacobian"),
    ("barankin", "dct"),
    ("hcr", "jacobian"),
    ("hcr", "dct"),
    ("dfil", None),
    ("van_trees", None),
    ("two_point", "two_point"),
}


def run_text(text: str, folder: Path) -> Summary:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.yaml").write_text(text)
    summary = run(folder / "sweep.yaml", results=folder / "results", local=True, mirror=False)
    assert summary.exit_code == 0, summary.failures
    return summary


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    summary = run_text(SWEEP, folder)
    assert (summary.computed, summary.missing) == (2 * 6, 0)
    return folder / "results"


def test_every_bound_of_every_level_has_a_row_per_image(reference: Path) -> None:
    rows = run_query(reference, "FROM bounds").to_pylist()
    assert {(row["bound"], row["search"]) for row in rows} == KINDS
    assert len(rows) == len(KINDS) * 3
    for row in rows:
        assert row["images"] + row["images_without"] == 4
        if (row["mechanism"], row["bound"]) == ("laplace", "barankin"):
            assert (row["images"], row["reason"]) == (0, "proved for Gaussian noise only")
        else:
            assert row["images"] == 4, row
            assert row["mean_mse_bound"] > 0
            assert row["holds_for"].startswith(
                "every" if row["bound"] in ("van_trees", "two_point") else "unbiased"
            )
    kinds = run_query(reference, "SELECT kind, count(*) AS n FROM pictures GROUP BY kind").to_pylist()
    drawn = {row["kind"]: row["n"] for row in kinds}
    assert drawn["original"] == drawn["moved"] == 3


def test_what_has_no_bound_says_why(reference: Path) -> None:
    rows = run_query(
        reference,
        "SELECT mechanism, status, value, reason FROM measurements WHERE measure = 'bounds' "
        "AND mechanism NOT IN ('gaussian', 'laplace')",
    ).to_pylist()
    assert {row["mechanism"] for row in rows} == {"none", "laplace@input", "gaussian@input + laplace"}
    for row in rows:
        assert (row["status"], row["value"]) == ("not_applicable", None)
        assert row["reason"].startswith("no bound: ")


def test_shards_and_batches_change_no_row(reference: Path, tmp_path: Path) -> None:
    run_text(SWEEP.replace("threads: 1", "threads: 1, shards: 3, batch_size: 5"), tmp_path)
    assert_same_rows(reference, tmp_path / "results")


def test_a_second_run_computes_nothing_and_a_new_level_only_that_level(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    shutil.copytree(reference, results)
    again = run_text(SWEEP, tmp_path)
    assert (again.computed, again.images) == (0, 0)
    before = run_query(results, "FROM per_image_bounds ORDER BY ALL").to_pylist()
    with monkeypatch.context() as patch:
        patch.setattr(
            "hushsweep.workers.measures.decomposed.jacobian",
            lambda *args, **kwargs: pytest.fail("the Jacobian was computed again"),
        )
        assert run_text(MORE_LEVELS, tmp_path).computed == 2
    after = run_query(results, "FROM per_image_bounds ORDER BY ALL").to_pylist()
    old = {row["computed_by"] for row in before}
    assert [row for row in after if row["computed_by"] in old] == before
    assert len(after) == len(before) + 4 * len(KINDS)
    run_text(MORE_LEVELS, tmp_path / "fresh")
    assert_same_rows(tmp_path / "fresh" / "results", results)


def test_a_jacobian_that_is_too_large_leaves_an_estimate_that_is_called_one(tmp_path: Path) -> None:
    run_text(SWEEP.replace("images: 4", "images: 4\n    memory_gb: 1e-6\n    restarts: 5"), tmp_path)
    rows = run_query(tmp_path / "results", "FROM bounds WHERE mechanism = 'gaussian'").to_pylist()
    estimates = [row for row in rows if row["bound"] == "cramer_rao_estimate"]
    assert len(estimates) == 2
    for row in estimates:
        assert row["holds_for"].startswith("no bound")
        assert row["mean_mse_estimate"] > 0
        assert row["mean_mse_bound"] is None
    lost = {(row["bound"], row["search"]) for row in rows if row["images"] == 0}
    assert lost == {("cramer_rao", None), ("dfil", None), ("barankin", "jacobian"), ("hcr", "jacobian")}
    assert all("memory_gb: 1e-06" in row["reason"] for row in rows if row["images"] == 0)


def test_a_finished_run_shows_its_bounds_and_for_whom_they_hold(
    reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    spec = reference.parent / "sweep.yaml"
    found = CliRunner().invoke(app, ["run", str(spec), "--results", str(reference), "--local", "--no-mlflow"])
    assert found.exit_code == 0, found.output
    table, _, rest = found.output.partition("bounds, of a median image")
    lines = table.partition("standard error over images and draws.")[2].splitlines()
    assert max(map(len, lines)) <= 100
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    levels = {(curve, noise): numbers for curve, noise, *numbers in cells if noise}
    assert [noise for _, noise in levels] == ["0.5", "2", "1"]
    # Cramer-Rao, its non-identifiable share, Barankin, HCR, 1/dFIL, van Trees, two-point
    assert [[number == "-" for number in numbers] for numbers in levels.values()] == [
        [False] * 7,
        [False] * 7,
        [False, False, True, False, False, False, False],
    ]
    words = " ".join(rest.split())
    assert "an estimate is no bound" in words
    assert "FROM bounds" in words
