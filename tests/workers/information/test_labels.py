"""Information about labels, against what is known of MNIST's."""

import gzip
import math
import os
from pathlib import Path

import numpy as np
import pytest

from hushsweep.workers.information import label_entropy, label_entropy_given, label_information


def test_even_labels_have_the_logarithm_of_their_number() -> None:
    labels = np.repeat(np.arange(8), 5)
    assert label_entropy(labels) == pytest.approx(math.log(8), rel=1e-12)
    assert label_entropy_given(labels, labels // 4) == pytest.approx(math.log(4), rel=1e-12)
    assert label_entropy_given(labels, labels) == 0
    assert label_entropy(np.zeros(3, dtype=int)) == 0


def test_mnist_leaves_2320_millibits_to_who_knows_the_primary_label() -> None:
    root = os.environ.get("HUSHSWEEP_DATA")
    file = Path(root or ".") / "mnist" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    if root is None or not file.exists():
        pytest.skip("HUSHSWEEP_DATA has no mnist")
    labels = np.frombuffer(gzip.decompress(file.read_bytes())[8:], dtype=np.uint8).astype(np.int64)
    assert label_entropy(labels) / math.log(2) == pytest.approx(3.319, abs=5e-4)
    assert label_entropy_given(labels, labels < 5) / math.log(2) == pytest.approx(2.320, abs=5e-4)


def test_a_probe_that_knows_gains_all_and_one_that_guesses_nothing() -> None:
    labels = np.array([0, 0, 0, 1])
    share = np.array([0.75, 0.25])
    assert label_information(labels, np.zeros(4)).mean() == pytest.approx(label_entropy(labels))
    assert label_information(labels, -np.log(share[labels])).mean() == pytest.approx(0, abs=1e-12)
    assert label_information(labels, np.full(4, 5.0)).mean() < 0


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        label_entropy(np.array([], dtype=int))
    with pytest.raises(ValueError, match="the same images"):
        label_entropy_given(np.zeros(3, dtype=int), np.zeros(2, dtype=int))
    with pytest.raises(ValueError, match="2 labels but 3 cross-entropies"):
        label_information(np.zeros(2, dtype=int), np.zeros(3))
    with pytest.raises(ValueError, match="got NaN or a negative one"):
        label_information(np.zeros(1, dtype=int), np.array([math.nan]))
