"""Whole sweeps through the Python API, in this process: equal rows however they are run, and what goes wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rows_support import assert_same_rows

from hushsweep.dashboards import run_query
from hushsweep.sweeps import RunError, Summary, run

SWEEP = """
name: small
seed: [0, 1]
dataset: {name: digits, limit: 24}
model: {name: digits_mlp, weights: random}
mechanism:
  - {name: none}
  - {name: gaussian, noise_scale: [0.5, 2]}
  - {name: laplace, noise_std: 0.7}
  - {name: gaussian, noise_scale: 0.5, at: input}
  - {chain: [{name: gaussian, noise_scale: 0.5, at: input}, {name: laplace, noise_scale: 1}]}
measures:
  - {name: accuracy, draws: 3}
  - {name: hcr, images: 20, restarts: 2, rounds: 1, low_frequency: 3}
"""


def run_text(
    text: str, folder: Path, *, name: str = "sweep.yaml", results: str = "results", **options
) -> Summary:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return run(folder / name, results=folder / results, local=True, mirror=False, **options)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    summary = run_text(SWEEP, folder)
    assert (summary.exit_code, summary.missing, summary.computed) == (0, 0, summary.wanted)
    return folder / "results"


@pytest.mark.parametrize(
    "execution",
    ["{batch_size: 7}", "{batch_size: 64, shards: 3}", "{shards: 2, feature_cache_gb: 0, threads: 2}"],
)
def test_rows_do_not_depend_on_how_they_were_computed(
    reference: Path, tmp_path: Path, execution: str
) -> None:
    run_text(SWEEP + f"execution: {execution}\n", tmp_path)
    assert_same_rows(reference, tmp_path / "results")


def test_what_is_large_lies_on_the_nodes_own_disk_where_it_has_one(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUSHSWEEP_CACHE", str(tmp_path / "node"))
    run_text(SWEEP, tmp_path)
    assert_same_rows(reference, tmp_path / "results")
    shared = tmp_path / "results" / "cache"
    assert {path.suffix for path in (shared / "features").glob("*/*")} == {".npy", ".lock"}
    assert not (shared / "images").exists()
    assert list((tmp_path / "node" / "images").glob("*/*"))
    assert {path.suffix for path in (tmp_path / "node" / "features").glob("*/*")} == {".f32"}


def test_a_second_run_computes_nothing_and_a_new_level_only_that_level(
    reference: Path, tmp_path: Path
) -> None:
    shutil.copytree(reference, tmp_path / "results")
    again = run_text(SWEEP, tmp_path)
    assert (again.computed, again.images, again.existing) == (0, 0, again.wanted)
    more = run_text(SWEEP.replace("[0.5, 2]", "[0.5, 1, 2]"), tmp_path)
    assert more.computed == 2 * 2  # two seeds, two measures
    rows = run_query(
        tmp_path / "results", "SELECT DISTINCT level, computed_by FROM measurements WHERE level = 1"
    )
    assert len(rows) == 4  # the new points and the chain's, two measures each
    fresh = tmp_path / "fresh"
    run_text(SWEEP.replace("[0.5, 2]", "[0.5, 1, 2]"), fresh)
    assert_same_rows(fresh / "results", tmp_path / "results")


def test_what_has_no_bound_says_why(reference: Path) -> None:
    rows = run_query(
        reference,
        "SELECT mechanism, status, any_value(reason) AS reason FROM measurements WHERE measure = 'hcr' GROUP BY ALL",
    ).to_pylist()
    reasons = {row["mechanism"]: (row["status"], row["reason"]) for row in rows}
    assert reasons["gaussian"][0] == reasons["laplace"][0] == "complete"
    for chain in ("none", "gaussian@input", "gaussian@input + laplace"):
        status, reason = reasons[chain]
        assert status == "not_applicable"
        assert "no HCR bound" in reason


def test_per_image_rows_add_up_to_the_summary(reference: Path) -> None:
    rows = run_query(
        reference,
        """
        SELECT m.value, m.n, sum(i.hits_top1) / sum(i.draws) AS again, count(*) AS images
        FROM measurements m JOIN per_image_accuracy i USING (point_id, measure_id)
        WHERE m.statistic = 'top1' GROUP BY m.point_id, m.measure_id, m.value, m.n
        """,
    ).to_pylist()
    assert len(rows) == 11
    for row in rows:
        assert row["value"] == pytest.approx(row["again"], abs=1e-12)
        assert row["n"] == row["images"] == 24


def test_stored_shifts_reproduce_their_bounds(reference: Path) -> None:
    from shifts_support import check_stored_shifts

    assert check_stored_shifts(reference) == 2 * 3 * 20  # noise seeds x levels x images


def test_recompute_replaces_what_counts(reference: Path, tmp_path: Path) -> None:
    shutil.copytree(reference, tmp_path / "results")
    summary = run_text(SWEEP, tmp_path, recompute=["accuracy"])
    assert summary.computed == 11
    count = "SELECT count(*) AS n, count(DISTINCT computed_by) AS trials FROM measurements WHERE measure = 'accuracy'"
    assert run_query(tmp_path / "results", count).to_pylist() == [{"n": 11 * 5, "trials": 1}]
    assert_same_rows(reference, tmp_path / "results")
    with pytest.raises(
        RunError, match="--recompute speed: the sweep has no such measure; it has accuracy, hcr"
    ):
        run_text(SWEEP, tmp_path, recompute=["speed"])


def test_a_target_finds_the_largest_level_on_images_that_are_not_reported(tmp_path: Path) -> None:
    text = """
name: target
dataset: {name: digits}
model: {name: digits_mlp, weights: train, epochs: 3}
mechanism: {name: gaussian, target_accuracy_loss: 0.03, calibration: %s}
measures: [{name: accuracy, draws: 5}, {name: hcr, images: 2, restarts: 1, rounds: 1, low_frequency: 3}]
"""
    for calibration, reported in (("half", 299), ("train", 599)):
        folder = tmp_path / calibration
        summary = run_text(text % calibration, folder)
        assert summary.exit_code == 0, summary.failures
        rows = run_query(folder / "results", "SELECT * FROM measurements").to_pylist()
        top1 = next(row for row in rows if row["statistic"] == "top1")
        clean = next(row for row in rows if row["statistic"] == "clean_top1")
        assert top1["n"] == reported
        assert top1["level"] == top1["noise_scale"] > 0.1
        assert top1["target_accuracy_loss"] == 0.03
        assert abs(clean["value"] - top1["value"] - 0.03) < 0.03, "about the loss that was asked for"
        bound = next(row for row in rows if row["statistic"] == "std_bound_mean")
        assert (bound["n"], bound["level"]) == (2, top1["level"])
        # the next finer level of the search loses more, found by an independent sweep at given levels
        indices = run_query(
            folder / "results", "SELECT image_index FROM per_image_accuracy ORDER BY 1"
        ).to_pylist()
        if calibration == "half":
            everything = run_text(
                text.replace("target_accuracy_loss: 0.03, calibration: %s", f"noise_scale: {top1['level']}"),
                folder / "fixed",
            )
            assert everything.exit_code == 0
            all_rows = run_query(
                folder / "fixed" / "results",
                "SELECT image_index, hits_top1 FROM per_image_accuracy ORDER BY 1",
            ).to_pylist()
            assert [row["image_index"] for row in indices] == [row["image_index"] for row in all_rows[1::2]]


def test_broken_images_are_counted_by_name_and_fail_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    (tmp_path / "images" / "a" / "2.png").write_bytes(b"")
    whole = (tmp_path / "images" / "b" / "3.png").read_bytes()
    (tmp_path / "images" / "b" / "3.png").write_bytes(whole[: len(whole) // 2])
    summary = run_text(
        """
name: broken
dataset: {name: imagefolder, root: images, input_size: 32}
model: {name: torchvision/resnet18, weights: random, network_size: 32}
mechanism: {name: gaussian, noise_scale: [1, 2]}
measures: {name: accuracy}
""",
        tmp_path,
    )
    assert summary.exit_code == 0, summary.failures
    rows = run_query(
        tmp_path / "results", "SELECT * FROM measurements WHERE statistic = 'undecodable'"
    ).to_pylist()
    assert [(row["value"], row["n"]) for row in rows] == [(2, 12)] * 2
    assert "2.png" in rows[0]["reason"]
    assert "3.png" in rows[0]["reason"]
    assert run_query(
        tmp_path / "results", "SELECT DISTINCT n FROM measurements WHERE statistic = 'top1'"
    ).to_pylist() == [{"n": 10}]


def test_one_bad_point_fails_alone_with_its_reason(tmp_path: Path) -> None:
    text = SWEEP.replace("{name: none}", "{name: none}\n  - {name: gaussian, target_accuracy_loss: 0.9999}")
    summary = run_text(text, tmp_path)
    assert summary.exit_code == 1
    assert summary.missing == 2 * 2  # two seeds, two measures
    assert "target_accuracy_loss 0.9999: no level" in summary.failures[0]
    failed = run_query(tmp_path / "results", "SELECT value, reason FROM measurements WHERE status = 'failed'")
    assert failed["value"].to_pylist() == [None] * 4
    again = run_text(text, tmp_path)
    assert (again.missing, again.existing) == (4, again.wanted - 4), (
        "a failed point is tried again, nothing else"
    )


def test_a_changed_sweep_file_keeps_the_old_one_beside_it(tmp_path: Path) -> None:
    small = SWEEP.replace("  - {name: hcr, images: 20, restarts: 2, rounds: 1, low_frequency: 3}\n", "")
    run_text(small, tmp_path)
    run_text(small.replace("draws: 3", "draws: 2"), tmp_path)
    folder = tmp_path / "results" / "sweeps" / "small"
    assert "draws: 2" in (folder / "spec.yaml").read_text()
    assert "draws: 3" in (folder / "spec.1.yaml").read_text()
    plan = json.loads((folder / "plan.json").read_text())
    assert {m["options"]["draws"] for p in plan["points"] for m in p["measures"]} == {2}
    counted = run_query(
        tmp_path / "results", "SELECT DISTINCT options FROM measurements WHERE sweep = 'small'"
    )
    assert counted["options"].to_pylist() == ['{"draws": 2}']


def test_a_plug_in_mechanism_runs_in_a_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deterministic mask on the input, then noise at the cut: accuracy, and a bound that sees through the mask."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "masking_plugin.py").write_text(MASK)
    summary = run_text(
        """
name: masked
dataset: {name: digits, limit: 20}
model: {name: digits_mlp, weights: random}
mechanism:
  - {chain: [{name: "masking_plugin:Mask", rows: 3, at: input}, {name: gaussian, noise_scale: 0.5}]}
  - {name: "masking_plugin:Mask", rows: [0, 8], at: input}
measures: {name: accuracy}
""",
        tmp_path,
        allow_plugins=["masking_plugin"],
    )
    assert summary.exit_code == 0, summary.failures
    hits = run_query(
        tmp_path / "results",
        "SELECT mechanism_json, clean_top1, hits_top1 FROM per_image_accuracy JOIN measurements USING (point_id) "
        "WHERE statistic = 'top1' AND mechanism = 'masking_plugin:Mask@input'",
    ).to_pylist()
    unmasked = [row for row in hits if '"rows": 0' in row["mechanism_json"]]
    assert len(unmasked) == 20
    assert all(row["clean_top1"] == row["hits_top1"] for row in unmasked)
    assert any(row["clean_top1"] != row["hits_top1"] for row in hits), "the mask changes something"


MASK = '''
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Masked:
    rows: int

    def apply(self, activations, noise):
        kept = activations.clone()
        kept[..., : self.rows, :] = 0
        return kept


@dataclass(frozen=True, kw_only=True)
class Mask:
    """Hide the first rows of an image."""

    VERSION: ClassVar[int] = 1
    LEVELS: ClassVar[tuple[str, ...]] = ()
    rows: int

    def fit(self, statistics):
        return Masked(self.rows)
'''


def test_an_added_level_searches_for_no_new_shifts(reference: Path, tmp_path: Path) -> None:
    """The search serves all levels, also those of a later run; only displacements are computed."""
    shutil.copytree(reference, tmp_path / "results")
    folder = tmp_path / "results" / "cache" / "shifts"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(before) == 2, "one search per noise seed"
    run_text(SWEEP.replace("[0.5, 2]", "[0.5, 1, 2]"), tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_recomputation_that_fails_is_not_called_done(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there before does not count: the new numbers were asked for."""
    from hushsweep.workers.measures.accuracy import Accuracy

    def fail(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    shutil.copytree(reference, tmp_path / "results")
    monkeypatch.setattr(Accuracy, "measure", fail)
    summary = run_text(SWEEP, tmp_path, recompute=["accuracy"])
    assert (summary.exit_code, summary.computed, summary.missing) == (1, 0, 11)
    assert "out of memory" in summary.failures[0]
    monkeypatch.undo()
    assert run_text(SWEEP, tmp_path).missing == 0, "the old rows still count"


def test_failures_of_different_steps_do_not_replace_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hushsweep.workers.measures.accuracy import Accuracy

    def fail(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Accuracy, "measure", fail)
    text = SWEEP.replace("{name: none}", "{name: none}\n  - {name: gaussian, target_accuracy_loss: 0.9999}")
    summary = run_text(text, tmp_path)
    rows = run_query(
        tmp_path / "results",
        "SELECT DISTINCT point_id, reason FROM measurements WHERE measure = 'accuracy' AND status = 'failed'",
    ).to_pylist()
    assert len(rows) == 13
    assert {row["reason"].split()[0] for row in rows} == {"RuntimeError:", "target_accuracy_loss"}
    assert len(summary.failures) == 2
