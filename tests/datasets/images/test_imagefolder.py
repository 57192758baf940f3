import os
import time

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision import datasets, transforms

from hushsweep.datasets.images import DatasetConfig, DatasetError, Geometry, describe_dataset, load_images


def config(root, **fields):
    return DatasetConfig(name="imagefolder", root=str(root), **fields)


def test_order_and_labels_are_torchvisions(tmp_path, make_jpeg):
    names = ["b/10.jpg", "b/9.jpg", "b/B.JPG", "a-x/1.png", "a/z/1.jpg", "a/z-1/2.jpg", "a/1.jpeg", "C/1.bmp"]
    for i, name in enumerate([*names, "a/notes.txt", "b/Thumbs.db"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(make_jpeg(i))
    theirs = datasets.ImageFolder(tmp_path)
    ours = load_images(config(tmp_path), Geometry(channels=3), cache_dir=tmp_path / "C" / "not-an-image")
    assert [str(tmp_path / name) for name in ours.names] == [path for path, _ in theirs.samples]
    assert ours.labels.tolist() == theirs.targets
    assert list(ours.info.class_names) == theirs.classes
    for pixels, (image, _) in zip(ours.images, theirs, strict=True):
        np.testing.assert_array_equal(pixels.transpose(1, 2, 0), np.asarray(image))


def test_real_photographs_equal_torchvision(data_root, tmp_path):
    """All 1,000, among them greyscale, tiny and one rotated photograph."""
    images = load_images(
        config(data_root / "imagenet-sample", split="val"),
        Geometry(channels=3, resize=104, crop=91, interpolation="bilinear"),
        cache_dir=tmp_path,
    )
    assert (len(images), images.undecodable, images.info.classes) == (1000, (), 1000)
    assert images.labels.tolist() == list(range(1000))
    theirs = datasets.ImageFolder(
        data_root / "imagenet-sample" / "val",
        loader=lambda path: ImageOps.exif_transpose(Image.open(path)).convert("RGB"),
        transform=transforms.Compose([transforms.Resize(104), transforms.CenterCrop(91)]),
    )
    grey, rotated, apostrophe = "n02692877_airship", "n02951585_can_opener", "n03992509_potter's_wheel"
    named = [
        i for i, name in enumerate(images.names) if any(part in name for part in (grey, rotated, apostrophe))
    ]
    assert len(named) == 3
    for i in {*named, *range(0, 1000, 20)}:
        np.testing.assert_array_equal(
            images.images[i].transpose(1, 2, 0), np.asarray(theirs[i][0]), err_msg=str(i)
        )


def test_fifty_thousand_files_are_described_in_seconds(tmp_path):
    """100 classes that are links to one folder of 500 files: as many paths to visit, and quicker to make."""
    (tmp_path / "files").mkdir()
    for i in range(500):
        (tmp_path / "files" / f"ILSVRC2012_val_{i:08d}.JPEG").touch()
    (tmp_path / "val").mkdir()
    for label in range(100):
        (tmp_path / "val" / f"n{label:08d}").symlink_to(tmp_path / "files")
    started = time.process_time()
    info = describe_dataset(config(tmp_path, split="val", limit=5000))
    assert time.process_time() - started < 5
    assert (info.size, info.total, info.classes) == (5000, 50_000, 100)


def test_fingerprint_knows_names_and_sizes_but_not_places_and_times(make_folder, make_jpeg):
    one, two = make_folder(name="one"), make_folder(name="two")
    for path in two.rglob("*.JPEG"):
        os.utime(path, (1, 1))
    original = describe_dataset(config(one)).fingerprint
    assert describe_dataset(config(two)).fingerprint == original
    (two / "class1" / "000.JPEG").write_bytes(make_jpeg(0, size=(40, 40)))
    changed = describe_dataset(config(two)).fingerprint
    (one / "class1" / "000.JPEG").rename(one / "class1" / "0000.JPEG")
    renamed = describe_dataset(config(one)).fingerprint
    (one / "class1" / "0000.JPEG").rename(one / "class2" / "000a.JPEG")
    relabelled = describe_dataset(config(one)).fingerprint
    assert len({original, changed, renamed, relabelled}) == 4


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_channels_are_read_from_the_headers(make_folder, mode, channels):
    assert describe_dataset(config(make_folder(mode=mode))).channels == channels


def test_a_few_grey_photographs_do_not_make_a_grey_data_set(make_folder, make_jpeg):
    root = make_folder()
    (root / "class0" / "000.JPEG").write_bytes(make_jpeg(0, mode="L"))
    assert describe_dataset(config(root)).channels == 3


def test_split_folders_are_not_taken_for_classes(make_folder):
    root = make_folder(name="set/val").parent
    with pytest.raises(DatasetError, match=r"holds the splits val, not class folders; set dataset.split"):
        describe_dataset(config(root))
    info = describe_dataset(config(root, split="val"))
    assert (info.split, info.total) == ("val", 12)


def test_hidden_folders_do_not_shift_the_labels(make_folder):
    root = make_folder()
    (root / ".cache").mkdir()
    assert describe_dataset(config(root)).class_names == ("class0", "class1", "class2")


def test_an_empty_class_keeps_its_label(make_folder, tmp_path):
    root = make_folder()
    (root / "class0a").mkdir()
    images = load_images(config(root), Geometry(channels=3), cache_dir=tmp_path / "cache")
    assert images.info.classes == 4
    assert sorted(set(images.labels.tolist())) == [0, 2, 3]


def test_names_that_are_not_utf8(tmp_path, make_jpeg):
    folder = tmp_path / "set" / "a"
    folder.mkdir(parents=True)
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(make_jpeg(0))
    images = load_images(config(tmp_path / "set"), Geometry(channels=3), cache_dir=tmp_path / "cache")
    assert list(images.names) == ["a/caf\\xe9.jpg"]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: None, "no images"),
        (lambda root: (root / "a").mkdir(), "no images"),
        (lambda root: (root / "1.jpg").write_bytes(b"x"), "no images .* in class folders"),
        (lambda root: ((root / "a").mkdir(), (root / "a/1.jpg").symlink_to("gone")), "cannot read .*1.jpg"),
    ],
)
def test_folders_without_images(tmp_path, prepare, message):
    prepare(tmp_path)
    with pytest.raises(DatasetError, match=message):
        describe_dataset(config(tmp_path))


@pytest.mark.parametrize("split", ["../photos", "a/b", "", "*", ".hidden"])
def test_a_split_is_a_plain_name(make_folder, split):
    with pytest.raises(DatasetError, match="plain name"):
        describe_dataset(config(make_folder(), split=split))


def test_a_missing_split_names_what_is_there(make_folder):
    with pytest.raises(DatasetError, match=r"no folder 'val' in .*class0, class1, class2"):
        describe_dataset(config(make_folder(), split="val"))
