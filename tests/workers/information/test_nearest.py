"""The published estimator: by hand, and the bias that was measured of it."""

import math

import numpy as np
import pytest

from hushsweep.workers.information import ite_knn, kl_knn


def test_five_points_on_a_line_by_hand() -> None:
    """k = 1: distances within 0, 1, 3 are 1, 1, 2; to 0.5, 7 they are 0.5, 0.5, 2.5."""
    first, second = np.array([[0.0], [1.0], [3.0]]), np.array([[0.5], [7.0]])
    expected = (math.log(0.5) + math.log(0.5) + math.log(2.5 / 2)) / 3 + math.log(2 / 2)
    assert kl_knn(first, second, k=1) == pytest.approx(expected, rel=1e-12)


def test_third_neighbour_in_the_plane_by_hand() -> None:
    """A unit square and its centre against five points on an axis; d = 2, k = 3."""
    first = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5]], dtype=float)
    second = np.array([[10, 0], [11, 0], [12, 0], [13, 0], [14, 0]], dtype=float)
    inside = [
        1,
        1,
        1,
        1,
        math.sqrt(0.5),
    ]  # corners: the centre, then two corners at 1; the centre: four corners
    across = [math.dist(point, (12, 0)) for point in first]
    expected = 2 * np.mean(np.log(across) - np.log(inside)) + math.log(5 / 4)
    assert kl_knn(first, second) == pytest.approx(expected, rel=1e-12)


def test_pairs_are_split_and_the_second_half_permuted() -> None:
    class Reversed:
        """Permutes by reversing, then not at all."""

        calls = 0

        def permutation(self, size: int) -> np.ndarray:
            self.calls += 1
            return np.arange(size)[:: -1 if self.calls == 1 else 1]

    x, y = np.random.default_rng(0).normal(size=(2, 16, 2))
    joint = np.concatenate([x[:8], y[:8]], axis=1)
    product = np.concatenate([x[8:][::-1], y[8:]], axis=1)
    assert ite_knn(x, y, Reversed()) == kl_knn(joint, product)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entries", "ratio", "published"),
    [(1, 1, 0.307), (2, 1, 0.667), (5, 1, 1.50), (1, 100, 2.29), (2, 100, 4.38), (5, 100, 6.17)],
)
def test_the_bias_of_a_gaussian_channel_is_what_was_measured(
    entries: int, ratio: float, published: float
) -> None:
    """10,000 pairs; over ten seeds an estimate scattered by 0.02 to 0.05, the shuffled one by 0.01 to 0.02: four of the
    spread are allowed, of the difference of two for the first."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10_000, entries))
    y = x + rng.normal(size=x.shape) / math.sqrt(ratio)
    found = ite_knn(x, y, rng)
    assert found == pytest.approx(published, abs=0.25)
    if entries == 5:
        assert found < 0.9 * entries / 2 * math.log1p(ratio), "already far too small"
    assert ite_knn(x, y[rng.permutation(len(y))], rng) == pytest.approx(0, abs=0.07)


def test_many_entries_search_by_expanded_squares_but_measure_by_differences() -> None:
    rng = np.random.default_rng(0)
    first, second = 1e4 + rng.normal(size=(2, 40, 30))
    pairs = np.linalg.norm(first[:, None] - first[None], axis=2)
    across = np.linalg.norm(first[:, None] - second[None], axis=2)
    ratio = np.sort(across, axis=1)[:, 2] / np.sort(pairs, axis=1)[:, 3]
    assert kl_knn(first, second) == pytest.approx(30 * np.log(ratio).mean() + math.log(40 / 39), rel=1e-9)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (np.zeros((3, 1)), np.zeros((5, 1)), "have no neighbour number 3"),
        (np.zeros((5, 1)), np.ones((5, 1)), "3 or more points are equal"),
        (np.zeros((5, 1)), np.zeros((5, 2)), "expected the same entries"),
    ],
)
def test_samples_that_give_no_number_are_refused(first: np.ndarray, second: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kl_knn(first, second)


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="expected pairs"):
        ite_knn(np.zeros((5, 1)), np.zeros((4, 1)), np.random.default_rng(0))
