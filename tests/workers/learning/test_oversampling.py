"""Over-sampling balances classes, keeps what there was, and says how often one image is used."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hushsweep.datasets.images import DatasetConfig, Geometry, ImageSet, load_images
from hushsweep.datasets.tasks import training_part
from hushsweep.workers.accounting import extra
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning.oversampling import oversample

COUNTS = (60, 40, 30, 20, 10, 9, 8, 7, 6, 2)


def digits(folder: Path, counts: tuple[int, ...] | None = COUNTS, **fields) -> ImageSet:
    config = DatasetConfig(name="digits", class_counts=counts, **fields)
    return load_images(training_part(config), Geometry(channels=1), cache_dir=folder)


@pytest.mark.parametrize("kind", ["random", "smote"])
def test_classes_are_balanced_and_what_there_was_comes_first(kind, tmp_path) -> None:
    images = digits(tmp_path)
    found, _ = oversample(images, kind, 0)
    assert np.bincount(found.labels).tolist() == [60] * 10
    assert len(found) == len(found.images) == len(found.indices) == len(found.names) == found.info.size == 600
    assert found.images.dtype == np.uint8
    assert found.images.shape[1:] == images.images.shape[1:]
    for name in ("images", "labels", "indices"):
        np.testing.assert_array_equal(getattr(found, name)[: len(images)], getattr(images, name))
    assert list(found.names[: len(images)]) == list(images.names)
    assert found.info.fingerprint != images.info.fingerprint
    again, _ = oversample(images, kind, 0)
    np.testing.assert_array_equal(found.images, again.images)
    np.testing.assert_array_equal(found.labels, again.labels)
    assert (oversample(images, kind, 1)[0].images != found.images).any()
    with pytest.raises(OSError, match="No such file"):
        pickle.loads(pickle.dumps(found))


def test_copies_are_counted(tmp_path) -> None:
    images = digits(tmp_path, counts=(30, 70), task="less_than_5")
    found, copies = oversample(images, "random", 0)
    assert copies == max(np.count_nonzero(found.indices == index) for index in images.indices)
    assert copies > 2
    label, secondary, pixels = ({} for _ in range(3))
    for place, index in enumerate(found.indices):
        assert label.setdefault(index, found.labels[place]) == found.labels[place]
        assert secondary.setdefault(index, found.secondary[place]) == found.secondary[place]
        assert (pixels.setdefault(index, found.images[place]) == found.images[place]).all()


def test_smote_lies_between_two_images_of_the_class(tmp_path) -> None:
    images = digits(tmp_path)
    found, copies = oversample(images, "smote", 0)
    assert copies == 0, "unknown"
    assert (found.indices[len(images) :] == -1).all()
    label = int(np.bincount(images.labels).argmin())
    first, second = images.images[images.labels == label].reshape(2, -1).astype(float)
    made = found.images[len(images) :][found.labels[len(images) :] == label].reshape(58, -1).astype(float)
    assert (np.minimum(first, second) <= made).all()
    assert (made <= np.maximum(first, second)).all()
    steps = (made - first) @ (second - first) / ((second - first) ** 2).sum()
    np.testing.assert_allclose(made, first + steps[:, None] * (second - first), atol=1.0)
    assert 0.2 < steps.std() < 0.4, "58 uniform draws: 0.29"


@pytest.mark.parametrize("kind", ["random", "smote"])
def test_what_is_balanced_stays(kind, tmp_path) -> None:
    images = digits(tmp_path, counts=(5,) * 10)
    assert oversample(images, kind, 0) == (images, 1)


def test_a_class_without_images_stays_without(tmp_path) -> None:
    found, _ = oversample(digits(tmp_path, counts=(9, 7, 5, 0, 0, 0, 0, 0, 0, 0)), "smote", 0)
    assert sorted(np.bincount(found.labels, minlength=10)) == [0] * 7 + [9] * 3


def test_smote_of_one_image_is_refused(tmp_path) -> None:
    images = digits(tmp_path, counts=(*COUNTS[:-1], 1))
    with pytest.raises(
        PlugInError, match=r"one class has a single image .* raise its number .*, or use random"
    ):
        oversample(images, "smote", 0)
    assert np.bincount(oversample(images, "random", 0)[0].labels).tolist() == [60] * 10


def test_without_the_extra(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    with pytest.raises(PlugInError, match=r"over-sampling \(smote\) needs the extra dp; run: pip install"):
        oversample(digits(tmp_path), "smote", 0)


def test_importing_it_imports_no_extra() -> None:
    script = (
        "import sys; import hushsweep.workers.learning.oversampling;"
        "print([m for m in ('imblearn', 'sklearn', 'opacus', 'dp_accounting') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_set_it_is_made_of_stays_as_it_is(tmp_path) -> None:
    images = digits(tmp_path)
    before = replace(images, images=images.images.copy())
    oversample(images, "smote", 0)
    np.testing.assert_array_equal(images.images, before.images)
    assert images.info == before.info
