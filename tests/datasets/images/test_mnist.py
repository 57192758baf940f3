import gzip
import io
import shutil
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torchvision import datasets

from hushsweep.datasets.images import DatasetConfig, DatasetError, Geometry, describe_dataset, load_images
from hushsweep.datasets.images.mnist import read_idx

GREY = Geometry(channels=1)
FOLDERS = {"mnist": "mnist/MNIST/raw", "fashion_mnist": "fashion-mnist/FashionMNIST/raw"}


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_set(folder, count=20, side=28, split="t10k"):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side), np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}-images-idx3-ubyte").write_bytes(idx(images))
    (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx(labels))
    return images, labels


def describe(root, name="mnist", **fields):
    return describe_dataset(DatasetConfig(name=name, root=str(root), **fields))


@pytest.mark.parametrize(
    ("name", "theirs"), [("mnist", datasets.MNIST), ("fashion_mnist", datasets.FashionMNIST)]
)
@pytest.mark.filterwarnings("error")
def test_real_images_equal_torchvision(data_root, tmp_path, name, theirs):
    raw = tmp_path / theirs.__name__ / "raw"
    raw.mkdir(parents=True)
    for path in (data_root / FOLDERS[name]).glob("*.gz"):
        with gzip.open(path) as packed, (raw / path.stem).open("wb") as plain:
            shutil.copyfileobj(packed, plain)
    for split, mean_atol in (("test", 0.003), ("train", 5e-5)):
        config = DatasetConfig(name=name, root=str(data_root), split=split)
        ours = load_images(config, GREY, cache_dir=tmp_path)
        expected = theirs(tmp_path, train=split == "train")
        np.testing.assert_array_equal(ours.images[:, 0], expected.data.numpy())
        np.testing.assert_array_equal(ours.labels, expected.targets.numpy())
        assert list(ours.info.class_names) == [name.split(" - ")[0] for name in expected.classes]
        assert abs(ours.images.mean() / 255 - ours.info.mean[0]) < mean_atol
        assert abs(ours.images.std() / 255 - ours.info.std[0]) < 2 * mean_atol
        # Unpacked or not: the same content, so the same fingerprint and the same entry of the cache.
        assert describe(tmp_path, name, split=split) == ours.info


@pytest.mark.parametrize("layout", ["", "raw", "MNIST/raw", "mnist", "mnist/raw", "mnist/MNIST/raw", "MNIST"])
@pytest.mark.filterwarnings("ignore:.*not the published file")
def test_is_found_below_the_data_root(tmp_path, layout):
    write_set(tmp_path / layout)
    assert describe(tmp_path).total == 20


@pytest.mark.filterwarnings("ignore:.*not the published file")
def test_each_set_is_found_in_its_own_folder(tmp_path):
    write_set(tmp_path / "fashion-mnist" / "FashionMNIST" / "raw", count=30)
    write_set(tmp_path / "mnist" / "MNIST" / "raw", count=20)
    assert (describe(tmp_path).total, describe(tmp_path, "fashion_mnist").total) == (20, 30)


def test_one_set_is_not_taken_for_the_other(data_root):
    with pytest.raises(
        DatasetError, match=r"mnist/test: '.*' holds fashion_mnist/test; .* name: fashion_mnist"
    ):
        describe(data_root / FOLDERS["fashion_mnist"])


def test_other_files_of_the_same_names_are_told(tmp_path):
    write_set(tmp_path)
    with pytest.warns(UserWarning, match="not the published file"):
        describe(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"mnist/test: no file 't10k-images-idx3-ubyte.*docs/datasets.md"):
        describe(tmp_path)
    write_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(
        DatasetError, match=r"no file 't10k-labels-idx1-ubyte' beside 't10k-images-idx3-ubyte'"
    ):
        describe(tmp_path)


IMAGES = idx(np.zeros((3, 28, 28), np.uint8))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a", IMAGES[:-1], "2351 bytes of data where its header announces 2352"),
        ("a", IMAGES + b"\0", "2353 bytes of data"),
        ("a", IMAGES[:9], "not an idx file"),
        ("a", b"", "starts with nothing"),
        ("a", b"\0\0\x08\x01" + IMAGES[4:], "starts with 00000801, expected 00000803"),
        ("a", b"\0\0\x0d\x03" + IMAGES[4:], "expected 00000803"),
        ("a.gz", IMAGES, "cannot be read"),
        ("a.gz", gzip.compress(IMAGES, mtime=0)[:-9], "cannot be read"),
        ("a.gz", gzip.compress(IMAGES, mtime=0)[:-8] + bytes(8), "cannot be read"),
    ],
)
def test_damaged_idx_files_are_errors(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_idx(tmp_path / name, dimensions=3)


def test_counts_sizes_and_labels_must_fit(tmp_path):
    write_set(tmp_path, count=20)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(19, np.uint8)))
    with pytest.raises(DatasetError, match="19 labels"):
        describe(tmp_path)
    write_set(tmp_path, side=27)
    with pytest.raises(DatasetError, match=r"\(20, 27, 27\)"):
        describe(tmp_path)
    write_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(20, 12, np.uint8)))
    with pytest.raises(DatasetError, match=r"label 12 in .*; expected 0 to 9"):
        describe(tmp_path)


def test_parquet_shards_hold_it_too(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 28, 28), np.uint8)
    files = []
    for pixels in images:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        files.append({"bytes": buffer.getvalue(), "path": None})
    (tmp_path / "mnist").mkdir()
    table = pa.table({"image": files, "label": [5, 0, 4, 1, 9, 2]})
    pq.write_table(table, tmp_path / "mnist" / "test-00000-of-00001.parquet")
    ours = load_images(DatasetConfig(name="mnist", root=str(tmp_path)), GREY, cache_dir=tmp_path)
    np.testing.assert_array_equal(ours.images[:, 0], images)
    assert ours.labels.tolist() == [5, 0, 4, 1, 9, 2]
    assert (ours.info.channels, ours.info.height, ours.info.mean, ours.info.classes) == (1, 28, (0.1307,), 10)
