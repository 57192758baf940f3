"""Tasks enter ids where they are used, and leave the ids of all other points as they were."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hushsweep.datasets.images import DatasetConfig, describe_dataset
from hushsweep.sweeps import SpecError, SweepSpec
from hushsweep.sweeps.resolve import Point, resolve
from hushsweep.sweeps.source import parse_source

SWEEP = """
name: tasks
dataset: {name: digits, limit: 50}
model: {name: digits_mlp, weights: [random, train]}
mechanism:
  - {name: gaussian, noise_scale: 1}
  - {name: laplace, target_accuracy_loss: 0.1, calibration: train}
measures: {name: accuracy}
"""
# As they were before there were tasks: (point_id, curve_id).
BEFORE = [
    ("c4f7390ca12aa115da1d", "e80107feb7cba3f2f150"),
    ("083dc5ac57f90d4c4ada", "2194d482f725347ff59d"),
    ("199b016cabc9d6bc6b01", "0595376e2f29c939d691"),
    ("0b7fb173f47cb3ff6465", "985d8043d1a3fd17d3de"),
]


def points_of(dataset: str = "") -> list[Point]:
    text = SWEEP.replace("limit: 50", f"limit: 50{dataset}")
    source = parse_source(text, folder=Path("/"))
    return resolve(SweepSpec.from_source(source), source, device="cpu")


def ids(points: list[Point]) -> list[tuple[str, str]]:
    return [(point.point_id, point.curve_id) for point in points]


def test_ids_without_a_task_are_those_of_before() -> None:
    points = points_of()
    assert ids(points) == BEFORE
    assert {key: points[0].fields[key] for key in ("task", "secondary_classes", "train_limit")} == {
        "task": None,
        "secondary_classes": None,
        "train_limit": None,
    }


def test_task_and_train_limit_enter_ids_and_rows() -> None:
    found = [points_of(added) for added in (", task: less_than_5", ", train_limit: 40", ", train_limit: 41")]
    everything = BEFORE + [pair for points in found for pair in ids(points)]
    assert len({point for point, _ in everything}) == len({curve for _, curve in everything}) == 16
    assert found[0][0].fields["task"] == "less_than_5"
    assert found[0][0].fields["secondary_classes"] == 10
    assert found[0][0].fields["num_classes"] == 2
    assert found[1][0].fields["train_limit"] == 40
    many = points_of(", task: [less_than_5], train_limit: [40, 41]")
    assert [point.fields["train_limit"] for point in many] == [40] * 4 + [41] * 4


def test_class_counts_enter_ids_and_rows() -> None:
    many = ", class_counts: [50, 40, 30, 20, 10, 9, 8, 7, 6, 5], class_seed: [0, 1]"
    found = points_of(many)
    everything = BEFORE + ids(found)
    assert len({point for point, _ in everything}) == len({curve for _, curve in everything}) == 12
    counts = {point.fields["class_counts"] for point in found}
    assert len(counts) == 2
    assert all(sum(json.loads(text)) == 185 for text in counts)
    weights = {point.setting.identity["model"]["weights"] for point in [*found, *points_of()]}
    assert len(weights) == 4, "random weights are the same, trained ones are learned from other images"
    same = points_of(", class_counts: [7, 7, 7, 7, 7, 7, 7, 7, 7, 7], class_seed: [0, 1]")
    assert len(same) == 4, "counts that are equal once shuffled are one point"


def test_validation_is_a_split_to_search_levels_on() -> None:
    text = SWEEP.replace("limit: 50", "limit: 50, task: less_than_5").replace(
        "calibration: train", "calibration: validation"
    )
    source = parse_source(text, folder=Path("/"))
    assert len(resolve(SweepSpec.from_source(source), source, device="cpu")) == 4


def test_pairs_of_columns_are_different_points(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUSHSWEEP_DATA", str(data_root))
    infos = [
        describe_dataset(replace(DatasetConfig(name="celeba"), secondary_column=column))
        for column in ("Male", "Young")
    ]
    assert infos[0].fingerprint != infos[1].fingerprint
    assert infos[0].task == "Smiling_Male"


@pytest.mark.parametrize(
    ("added", "said"),
    [
        (
            ", task: superclass",
            "dataset: digits: task 'superclass' is for cifar100; known for digits: less_than_5",
        ),
        (", task: less", "unknown task 'less'"),
        (", secondary_column: b", "secondary_column is for parquet, cifar100 and celeba only"),
        (", train_limit: 0", "train_limit: expected a number >= 1, got 0"),
        (", class_counts: [5, -1]", "class_counts[1]: expected a number >= 0, got -1"),
        (", class_counts: 5", "class_counts: expected a list, got 5"),
        (", class_counts: [5, 5]", "class_counts has 2 numbers and there are 10 classes"),
        (", class_seed: 1", "class_seed: has no effect without class_counts; leave it out"),
        (
            ", task: less_than_5, split: valid",
            "unknown split 'valid'; with a task there are: train, validation, test",
        ),
    ],
)
def test_mistakes_have_their_sentence(added: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        points_of(added)
    assert any(said in line for line in caught.value.lines), caught.value.lines
    assert len(caught.value.lines) == 1
