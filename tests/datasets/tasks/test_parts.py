"""Parts to learn from, choose on and report: disjoint, whatever the limit; images decoded once for all labels."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hushsweep.datasets.images import DatasetConfig, DatasetError, Geometry, describe_dataset, load_images
from hushsweep.datasets.images.registry import open_source
from hushsweep.datasets.tasks import training_part, validation_part

GREY, COLOUR = Geometry(channels=1), Geometry(channels=3)
DIGITS = DatasetConfig(name="digits", task="less_than_5")


def part(config, name, cache_dir, geometry=GREY, **fields):
    return load_images(replace(config, split=name, **fields), geometry, cache_dir=cache_dir)


def folders(root, *splits, each=10):
    for split in splits:
        for label in ("n01440764", "n15075141"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(each):
                Image.new("RGB", (4, 4), (number, len(split), 0)).save(folder / f"{number}.png")
    return DatasetConfig(name="imagefolder", root=str(root), task="animal")


@pytest.mark.parametrize("limit", [None, 7, 100])
def test_train_and_validation_share_no_image_and_fill_the_train_split(limit, tmp_path):
    whole = load_images(DatasetConfig(name="digits", split="train"), GREY, cache_dir=tmp_path)
    train = part(DIGITS, "train", tmp_path, limit=limit)
    validation = part(DIGITS, "validation", tmp_path, limit=limit)
    assert (validation.indices % 10 == 9).all()
    assert (train.indices % 10 != 9).all()
    if limit is None:
        assert sorted([*train.indices, *validation.indices]) == whole.indices.tolist()
    else:
        assert len(train) == len(validation) == limit
    for images in (train, validation):
        np.testing.assert_array_equal(images.images, whole.images[images.indices])
        np.testing.assert_array_equal(images.secondary, whole.labels[images.indices])
        np.testing.assert_array_equal(images.labels, whole.labels[images.indices] < 5)
        assert images.names[3] == f"train/{images.indices[3]:05d}"


def test_parts_and_fingerprints_do_not_depend_on_the_limit():
    for split in ("train", "validation", "test"):
        infos = [describe_dataset(replace(DIGITS, split=split, limit=limit)) for limit in (None, 3, 40)]
        assert len({(info.fingerprint, info.total) for info in infos}) == 1
    prints = {
        describe_dataset(replace(DIGITS, split=split)).fingerprint
        for split in ("train", "validation", "test")
    }
    assert len(prints) == 3


def test_the_test_part_is_the_test_split(tmp_path):
    plain = load_images(DatasetConfig(name="digits", limit=50), GREY, cache_dir=tmp_path)
    tasked = part(DIGITS, None, tmp_path, limit=50)
    np.testing.assert_array_equal(plain.indices, tasked.indices)
    np.testing.assert_array_equal(plain.images, tasked.images)
    assert (tasked.info.split, plain.secondary, plain.info.secondary_classes) == ("test", None, None)


def test_what_is_learned_and_what_is_chosen_on():
    config = replace(DIGITS, limit=30, train_limit=200)
    learned, chosen = training_part(config), validation_part(config)
    assert (learned.split, learned.limit, describe_dataset(learned).size) == ("train", 200, 200)
    assert (chosen.split, chosen.limit, describe_dataset(chosen).size) == ("validation", 30, 30)
    assert training_part(learned) == learned
    assert training_part(DatasetConfig(name="mnist", limit=5)) == DatasetConfig(name="mnist", split="train")
    assert open_source(learned).indices.max() > 1100  # evenly spaced over all of the split


def test_splits_of_folders(tmp_path):
    """As ImageNet is unpacked (train and val), with all three, and with one folder that is cut."""
    two = folders(tmp_path / "two", "train", "val")
    names = [open_source(replace(two, split=split)).name_of(0) for split in ("train", "validation", "test")]
    sizes = [describe_dataset(replace(two, split=split)).total for split in ("train", "validation", "test")]
    assert sizes == [18, 2, 20]
    assert names == ["n01440764/0.png", "n01440764/9.png", "n01440764/0.png"]
    three = folders(tmp_path / "three", "train", "val", "test")
    for split, folder in (("train", "train"), ("validation", "val"), ("test", "test")):
        source = open_source(replace(three, split=split))
        assert len(source.labels) == 20
        assert str(next(source.contents(np.array([0])))).endswith(f"/three/{folder}/n01440764/0.png")
        assert source.indices is None
    with pytest.raises(DatasetError, match="needs a split 'train' to learn from, found only test, val"):
        describe_dataset(folders(tmp_path / "none", "test", "val"))


def test_one_folder_is_cut_in_three(data_root):
    config = DatasetConfig(name="imagefolder", root=str(data_root / "imagenet-sample"), task="animal")
    parts = {
        name: open_source(replace(config, split=name)).indices for name in ("train", "validation", "test")
    }
    assert sorted(np.concatenate(list(parts.values()))) == list(range(1000))
    assert set(parts["test"] % 10) == {3, 8}
    assert set(parts["validation"] % 10) == {9}
    inside = replace(config, root=f"{config.root}/val")  # the folder itself is the same data
    assert describe_dataset(inside).fingerprint == describe_dataset(config).fingerprint


def test_the_same_images_under_other_labels_are_one_file(data_root, tmp_path, monkeypatch):
    config = DatasetConfig(name="celeba", root=str(data_root), task="smiling_male", limit=20)
    first = part(config, "train", tmp_path, COLOUR)
    monkeypatch.setattr("hushsweep.datasets.images.cache.decode_all", None)  # nothing is decoded any more
    second = part(replace(config, task="smiling_young"), "train", tmp_path, COLOUR)
    assert second.path != first.path
    assert (second.path / "images.npy").stat().st_ino == (first.path / "images.npy").stat().st_ino
    np.testing.assert_array_equal(first.labels, second.labels)
    assert (first.secondary != second.secondary).any()
    assert second.info.task == "smiling_young"
    with pytest.raises(TypeError):
        part(config, "validation", tmp_path, COLOUR)
    with pytest.raises(TypeError):
        part(config, "train", tmp_path, Geometry(channels=1))


def test_relabelled_images_keep_what_could_not_be_decoded(tmp_path):
    config = folders(tmp_path / "photos", "train", "val")
    (tmp_path / "photos" / "train" / "n01440764" / "3.png").write_bytes(b"no image")
    plain = DatasetConfig(name="imagefolder", root=config.root, split="val")
    load_images(plain, COLOUR, cache_dir=tmp_path)
    train = part(config, "train", tmp_path, COLOUR)
    assert [(u.index, u.image) for u in train.undecodable] == [(3, "n01440764/3.png")]
    assert train.indices.tolist() == [0, 1, 2, *range(4, 9), *range(10, 19)]
    again = load_images(replace(config, split="test"), COLOUR, cache_dir=tmp_path)
    assert again.secondary.tolist() == [0] * 10 + [1] * 10
    assert again.labels.tolist() == [1] * 10 + [0] * 10
    found = {path.stat().st_ino for path in (tmp_path / "images").glob("*/images.npy")}
    assert len(found) == 2  # val and test are the same images


def test_damaged_neighbours_in_the_cache_are_left_alone(tmp_path):
    first = part(DIGITS, "test", tmp_path, limit=5)
    (first.path / "rows.arrow").write_bytes(b"")
    (tmp_path / "images" / "broken").mkdir()
    (tmp_path / "images" / "broken" / "meta.json").write_text("[]")
    plain = load_images(DatasetConfig(name="digits", limit=5), GREY, cache_dir=tmp_path)
    assert len(plain) == 5
