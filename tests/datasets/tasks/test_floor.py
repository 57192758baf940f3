"""What a perfect primary label tells of the secondary one: hand-computed cases and the published MNIST."""

import math

import numpy as np
import pytest

from hushsweep.datasets.images import DatasetConfig
from hushsweep.datasets.images.registry import open_source
from hushsweep.datasets.tasks import blind_floor, secondary_entropy


def test_floor_of_mnist(data_root):
    test = open_source(DatasetConfig(name="mnist", root=str(data_root), task="less_than_5"))
    assert (
        blind_floor(test.labels, test.secondary) == (1135 + 1028) / 10_000
    )  # a 1 below five, a 7 from it on
    entropy = secondary_entropy(test.labels, test.secondary)
    assert entropy.entropy == pytest.approx(3.319, abs=5e-4)
    assert entropy.given_primary == pytest.approx(2.320, abs=5e-4)


def test_by_hand():
    primary = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    secondary = np.array([3, 3, 3, 5, 5, 5, 9, 9])
    assert blind_floor(primary, secondary) == 5 / 8
    quarter = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    found = secondary_entropy(primary, secondary)
    assert found.entropy == pytest.approx(-(2 * 3 / 8 * math.log2(3 / 8) + 2 / 8 * math.log2(2 / 8)))
    assert found.given_primary == pytest.approx((quarter + 1) / 2)


@pytest.mark.parametrize(("classes", "floor"), [(1, 0.25), (4, 1.0)])
def test_extremes(classes, floor):
    secondary = np.repeat(np.arange(4), 25)
    primary = secondary % classes
    assert blind_floor(primary, secondary) == floor
    expected = 0.0 if classes == 4 else 2.0
    assert secondary_entropy(primary, secondary) == pytest.approx((2.0, expected))


def test_floor_is_between_chance_and_one_and_names_of_labels_do_not_count():
    rng = np.random.default_rng(0)
    for _ in range(20):
        primary, secondary = rng.integers(0, 3, 50), rng.integers(0, 7, 50)
        floor = blind_floor(primary, secondary)
        assert np.bincount(secondary).max() / 50 <= floor <= 1
        assert blind_floor(7 - primary, secondary * 10) == floor
        entropy, given = secondary_entropy(primary, secondary)
        assert 0 <= given <= entropy <= math.log2(7)


@pytest.mark.parametrize("lengths", [(0, 0), (3, 2)])
def test_labels_that_do_not_pair(lengths):
    with pytest.raises(ValueError, match="as many primary as secondary labels"):
        blind_floor(np.zeros(lengths[0], np.int64), np.zeros(lengths[1], np.int64))
