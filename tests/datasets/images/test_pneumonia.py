"""PneumoniaMNIST: the real file, and files that are not it."""

import numpy as np
import pytest

from hushsweep.datasets.images import DatasetConfig, DatasetError, Geometry, describe_dataset, load_images

GREY = Geometry(channels=1)


def write(folder, *, count=5, side=28, images=np.uint8, largest=1, **others):
    rng = np.random.default_rng(0)
    arrays = {}
    for key in ("train", "val", "test"):
        arrays[f"{key}_images"] = rng.integers(0, 256, (count, side, side)).astype(images)
        arrays[f"{key}_labels"] = np.arange(count).reshape(-1, 1).clip(0, largest).astype(np.uint8)
    path = folder / "pneumoniamnist.npz"
    np.savez(path, **{**arrays, **others})
    return arrays


def describe(folder, **fields):
    return describe_dataset(DatasetConfig(name="pneumonia", root=str(folder), **fields))


def test_the_published_parts(data_root, tmp_path):
    sizes, prints = {}, set()
    for split in ("train", "validation", "test"):
        config = DatasetConfig(name="pneumonia", root=str(data_root), split=split)
        images = load_images(config, GREY, cache_dir=tmp_path)
        sizes[split] = tuple(np.bincount(images.labels))
        prints.add(images.info.fingerprint)
        if split == "train":
            scaled = images.images / 255
            assert images.info.mean == (round(scaled.mean(), 4),)
            assert images.info.std == (round(scaled.std(), 4),)
    assert sizes == {"train": (1214, 3494), "validation": (135, 389), "test": (234, 390)}
    assert len(prints) == 3
    assert describe(data_root / "pneumonia").split == "test"
    assert describe(data_root).class_names == ("normal", "pneumonia")


def test_pixels_and_labels_are_the_files(tmp_path):
    arrays = write(tmp_path)
    config = DatasetConfig(name="pneumonia", root=str(tmp_path), split="validation")
    images = load_images(config, GREY, cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(images.images[:, 0], arrays["val_images"])
    assert images.labels.tolist() == [0, 1, 1, 1, 1]
    assert images.names[1] == "validation/00001"


def test_a_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(
        DatasetError, match=r"pneumonia/test: no file 'pneumoniamnist.npz' under .* https://medmnist.com"
    ):
        describe(tmp_path)
    with pytest.raises(DatasetError, match="unknown split 'val'; known: train, validation, test"):
        describe(tmp_path, split="val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"side": 27},
            r"test_images are uint8 of shape \(5, 27, 27\) and test_labels uint8 of shape \(5, 1\)",
        ),
        ({"images": np.float32}, "test_images are float32"),
        ({"count": 0}, r"shape \(0, 28, 28\)"),
        ({"largest": 3}, "label 3 in test_labels; expected 0 or 1"),
        ({"test_labels": np.zeros((4, 1), np.uint8)}, r"test_labels uint8 of shape \(4, 1\)"),
        ({"test_labels": np.zeros((5, 2), np.uint8)}, r"test_labels uint8 of shape \(5, 2\)"),
        ({"test_labels": np.array([{}] * 5)}, "Object arrays cannot be loaded"),
    ],
)
def test_another_content_is_refused(tmp_path, change, message):
    write(tmp_path, **change)
    with pytest.raises(DatasetError, match=message):
        describe(tmp_path)


@pytest.mark.parametrize("content", ["", "text", "PK\x03\x04 truncated"])
def test_a_file_that_is_no_archive(tmp_path, content):
    (tmp_path / "pneumoniamnist.npz").write_text(content)
    with pytest.raises(DatasetError, match=r"not the npz file of PneumoniaMNIST \(.*\); copy it again"):
        describe(tmp_path)


def test_one_array_alone_and_missing_keys(tmp_path):
    path = tmp_path / "pneumoniamnist.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DatasetError, match="one array alone"):
        describe(tmp_path)
    np.savez(path, train_images=np.zeros(3))
    with pytest.raises(DatasetError, match="test_images is not a file in the archive"):
        describe(tmp_path)
