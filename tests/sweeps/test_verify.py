"""`verify` finds what was lost, doubled, changed or damaged, and nothing where all is well; `compact` moves no row."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rows_support import assert_same_rows
from typer.testing import CliRunner

from hushsweep.dashboards import mirror
from hushsweep.datasets.results import Store, compact
from hushsweep.sweeps import run
from hushsweep.sweeps.cli import app
from hushsweep.sweeps.verify import verify

SWEEP = """
name: verified
dataset: {name: digits, limit: 30}
model: {name: digits_mlp, weights: random}
mechanism:
  - {name: none}
  - {name: gaussian, noise_scale: [0.5, 1, 2]}
measures:
  - {name: accuracy, draws: 2}
  - {name: hcr, images: 4}
  - {name: bounds, images: 3, bounds: [cramer_rao]}
execution: {shards: 2}
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verified")
    (folder / "sweep.yaml").write_text(SWEEP)
    assert run(folder / "sweep.yaml", results=folder / "results", local=True, mirror=False).missing == 0
    return folder / "results"


@pytest.fixture
def results(swept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(swept, tmp_path / "results"))


def test_a_sound_folder_is_sound_before_and_after_merging(results: Path, swept: Path) -> None:
    before = verify(results)
    assert before.faults == ()
    assert (before.summaries, before.wanted, before.answered) == (10, 12, 12)
    compact(Store(results, create=False))
    after = verify(results)
    assert after.faults == ()
    assert (after.rows, after.summaries, after.answered) == (before.rows, before.summaries, before.answered)
    assert after.files < before.files
    assert_same_rows(swept, results)


def test_merging_leaves_mlflow_and_the_next_run_nothing_to_do(results: Path, tmp_path: Path) -> None:
    written = mirror(results).written
    compact(Store(results, create=False))
    report = mirror(results)
    assert (report.written, report.unchanged, report.error) == (0, written, None)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    summary = run(tmp_path / "sweep.yaml", results=results, local=True, mirror=False)
    assert (summary.computed, summary.existing, summary.images) == (0, 12, 0)


def first(results: Path, table: str) -> Path:
    return min((results / table).glob("*.parquet"))


def change(path: Path, edit: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(edit(pq.read_table(path)), path)


def flip_a_byte(results: Path) -> None:
    path = first(results, "per_image/accuracy")
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)


def cut_short(results: Path) -> None:
    path = first(results, "measurements")
    path.write_bytes(path.read_bytes()[:-100])


def lose_a_shard(results: Path) -> None:
    first(results, "per_image/hcr").unlink()


def lose_a_row(results: Path) -> None:
    change(first(results, "per_image/accuracy"), lambda rows: rows.slice(1))


def double_a_file(results: Path) -> None:
    path = first(results, "per_image/accuracy")
    computed_by, measure_id, _ = path.stem.split(".")
    shutil.copy(path, path.with_name(f"{computed_by}.{measure_id}.1of1.parquet"))


def change_a_number(results: Path) -> None:
    def edit(rows: pa.Table) -> pa.Table:
        place = rows.column_names.index("value")
        return rows.set_column(place, "value", pc.multiply(rows["value"], 1.001))

    for path in (results / "measurements").glob("*.parquet"):
        change(path, edit)


def rename_a_file(results: Path) -> None:
    path = first(results, "modes")
    path.rename(path.with_name("other.name.0of2.parquet"))


def write_a_nan(results: Path) -> None:
    def edit(rows: pa.Table) -> pa.Table:
        place = rows.column_names.index("value")
        return rows.set_column(place, "value", pa.array([float("nan")] * len(rows)))

    change(first(results, "measurements"), edit)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (flip_a_byte, "cannot be read"),
        (cut_short, "cannot be read"),
        (lose_a_shard, "rows per image"),
        (lose_a_row, "rows per image give"),
        (double_a_file, "rows per image give"),
        (change_a_number, "is stored as"),
        (rename_a_file, "which its name does not say"),
        (write_a_nan, "nan; a missing number is null"),
    ],
)
def test_every_harm_is_found_and_named(harm: Callable[[Path], None], told: str, results: Path) -> None:
    harm(results)
    answer = CliRunner().invoke(app, ["verify", "--results", str(results)])
    assert answer.exit_code == 1
    wrong = [line for line in answer.output.splitlines() if line.startswith("wrong: ")]
    assert wrong
    assert all(told in line for line in wrong), wrong


def test_a_lost_row_of_a_merged_file_is_found(results: Path) -> None:
    compact(Store(results, create=False))
    path = first(results, "per_image/accuracy")
    metadata = pq.read_schema(path).metadata
    change(path, lambda rows: rows.slice(1).replace_schema_metadata(metadata))
    assert len(verify(results).faults) == 1


def test_the_commands_say_what_they_did(results: Path) -> None:
    merged = CliRunner().invoke(app, ["compact", "--results", str(results)])
    assert merged.exit_code == 0
    assert "measurements: 3 files became 1" in merged.output
    again = CliRunner().invoke(app, ["compact", "--results", str(results)])
    assert (again.exit_code, again.output) == (0, "")
    sound = CliRunner().invoke(app, ["verify", "--results", str(results)])
    assert sound.exit_code == 0
    assert "nothing is wrong" in sound.output
    nowhere = CliRunner().invoke(app, ["verify", "--results", str(results / "nowhere")])
    assert nowhere.exit_code == 2
    assert "no results here" in nowhere.output
