"""How many images of each class there are to learn from: which ones, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushsweep.datasets.images import DatasetConfig, DatasetError, Geometry, describe_dataset, load_images
from hushsweep.datasets.images.registry import open_source
from hushsweep.datasets.tasks import shuffled_class_counts, training_part, validation_part

GUIDES = (3000, 3500, 250, 2000, 1000, 1500, 500, 50, 5000, 2500)
COUNTS = (60, 50, 40, 30, 20, 10, 5, 1, 0, 100)
DIGITS = DatasetConfig(name="digits", class_counts=COUNTS, class_seed=3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_class_keeps_its_number_and_images_keep_their_identity(seed, tmp_path) -> None:
    config = replace(DIGITS, class_seed=seed)
    whole = open_source(DatasetConfig(name="digits", split="train"))
    kept = load_images(training_part(config), Geometry(channels=1), cache_dir=tmp_path)
    wanted = shuffled_class_counts(config)
    assert sorted(wanted) == sorted(COUNTS)
    assert tuple(np.bincount(kept.labels, minlength=10)) == wanted
    assert len(kept) == sum(COUNTS) == kept.info.total
    assert (np.diff(kept.indices) > 0).all()
    np.testing.assert_array_equal(kept.labels, whole.labels[kept.indices])
    pixels = np.stack(list(whole.contents(kept.indices)))
    np.testing.assert_array_equal(kept.images[:, 0], pixels)
    assert list(kept.names[:3]) == [f"train/{index:05d}" for index in kept.indices[:3]]
    assert kept.info.classes == 10, "a class of which nothing is kept is still one"


def test_seeds_shuffle_and_nothing_is_left_to_chance() -> None:
    orders = {shuffled_class_counts(replace(DIGITS, class_seed=seed)) for seed in range(5)}
    assert len(orders) == 5
    first, again, other = (
        describe_dataset(training_part(replace(DIGITS, class_seed=seed))).fingerprint for seed in (3, 3, 4)
    )
    assert first == again != other


def test_images_of_a_class_are_evenly_spaced() -> None:
    whole = open_source(DatasetConfig(name="digits", split="train"))
    kept = open_source(training_part(DIGITS))
    label = shuffled_class_counts(DIGITS).index(5)
    members = np.flatnonzero(whole.labels == label)
    np.testing.assert_array_equal(
        kept.indices[kept.labels == label], [members[len(members) * i // 5] for i in range(5)]
    )


def test_only_the_part_that_is_learned_changes() -> None:
    plain = replace(DIGITS, class_counts=None)
    assert describe_dataset(DIGITS) == describe_dataset(plain)
    assert describe_dataset(replace(DIGITS, split="test")) == describe_dataset(plain)
    tasked = replace(DIGITS, task="less_than_5", class_counts=(70, 30))
    for part in (validation_part, lambda config: config):
        assert describe_dataset(part(tasked)) == describe_dataset(part(replace(tasked, class_counts=None)))
    learned = open_source(training_part(tasked))
    assert tuple(np.bincount(learned.labels)) == shuffled_class_counts(tasked), "of the primary label"
    assert not (learned.indices % 10 == 9).any(), "validation keeps its images"
    np.testing.assert_array_equal(learned.labels, learned.secondary < 5)


def test_a_limit_chooses_among_what_is_kept() -> None:
    info = describe_dataset(training_part(replace(DIGITS, train_limit=100)))
    assert (info.size, info.total) == (100, sum(COUNTS))


@given(st.integers(0, 2**63 - 1))
def test_any_seed_only_reorders(seed: int) -> None:
    found = shuffled_class_counts(DatasetConfig(name="cifar10", class_counts=GUIDES, class_seed=seed))
    assert sorted(found) == sorted(GUIDES)
    assert sum(found) == 19_300


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"class_counts": (1, 2)},
            "class_counts has 2 numbers and there are 10 classes; give one number for",
        ),
        ({"class_counts": ()}, "class_counts has 0 numbers"),
        ({"class_counts": (0,) * 10}, "class_counts are all 0, so nothing is left to learn from"),
        ({"class_counts": (-1,) + (5,) * 9}, r"class_counts must be whole numbers >= 0, got \[-1, 5"),
        ({"class_counts": (1.5,) + (5,) * 9}, "class_counts must be whole numbers"),
        ({"class_counts": COUNTS, "class_seed": -1}, "class_seed must be a whole number >= 0, got -1"),
        (
            {"class_counts": (999,) * 10, "split": "train"},
            r"digits/train: class_counts, shuffled by class_seed 0, asks for 999 images of class 0 \(0\), which has 1",
        ),
        ({"class_counts": (5,) * 10, "task": "less_than_5"}, "10 numbers and there are 2 classes"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message) -> None:
    with pytest.raises(DatasetError, match=message):
        describe_dataset(DatasetConfig(name="digits", **fields))
