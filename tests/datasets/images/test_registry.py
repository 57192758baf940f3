import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from hushsweep.datasets import images as package
from hushsweep.datasets.images import (
    LOADERS,
    DatasetConfig,
    DatasetError,
    Geometry,
    describe_dataset,
    load_images,
    resolve_root,
)

# One line per entry of the table: the settings with which the contract below is checked.
CONTRACT = {
    "digits": ({}, None),
    "mnist": ({"limit": 50}, ""),
    "fashion_mnist": ({"limit": 50}, ""),
    "cifar10": ({"limit": 50}, ""),
    "cifar100": ({"limit": 50}, ""),
    "celeba": ({"limit": 50}, ""),
    "pneumonia": ({"limit": 50}, ""),
    "imagefolder": ({"limit": 50, "split": "val"}, "imagenet-sample"),
    "parquet": ({"limit": 50}, "celeba"),
}
COLUMN = {"parquet": {"label_column": "Male"}}


def test_every_loader_is_in_the_contract():
    assert CONTRACT.keys() == LOADERS.keys()


@pytest.mark.parametrize("name", CONTRACT)
def test_contract(name, request, tmp_path):
    fields, folder = CONTRACT[name]
    root = None if folder is None else str(request.getfixturevalue("data_root") / folder)
    config = DatasetConfig(name=name, root=root, **fields, **COLUMN.get(name, {}))
    info = describe_dataset(config)
    assert info == describe_dataset(config)
    assert info.name == name
    assert len(info.fingerprint) == 64
    assert info.channels in (1, 3)
    assert info.class_names is None or len(info.class_names) == info.classes
    assert (info.mean is None) == (info.std is None) == (name in ("celeba", "imagefolder", "parquet"))
    assert info.mean is None or len(info.mean) == len(info.std) == info.channels
    for channels in (1, 3):
        geometry = Geometry(channels=channels, resize=(24, 20), crop=16)
        images = load_images(config, geometry, cache_dir=tmp_path)
        assert images.info == info
        assert images.images.shape == (len(images), channels, 16, 16)
        assert images.images.dtype == np.uint8
        assert images.labels.dtype == images.indices.dtype == np.int64
        assert len(images) == len(images.labels) == len(images.names) == info.size
        assert 0 <= images.labels.min() <= images.labels.max() < info.classes
        assert images.indices.max() < info.total
        assert repr(images).startswith(f"ImageSet({name}/{info.split}: {info.size} images {channels}x16x16")
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(images)).images, images.images)
        again = load_images(config, geometry, cache_dir=tmp_path / "again")
        np.testing.assert_array_equal(again.images, images.images)
    if info.height is not None:
        native = load_images(config, Geometry(channels=info.channels), cache_dir=tmp_path)
        assert native.images.shape[1:] == (info.channels, info.height, info.width)


def test_digits_are_scikit_learns(tmp_path):
    bunch = load_digits()
    is_test = np.arange(1797) % 3 == 2
    for split, chosen in (("test", is_test), ("train", ~is_test)):
        config = DatasetConfig(name="digits", split=split)
        images = load_images(config, Geometry(channels=1), cache_dir=tmp_path)
        np.testing.assert_allclose(
            images.images[:, 0] / 255, bunch.images[chosen] / 16, atol=0.5 / 255 + 1e-9
        )
        assert {0, 255} <= set(np.unique(images.images).tolist())
        np.testing.assert_array_equal(images.labels, bunch.target[chosen])
        assert np.bincount(images.labels).min() > len(images) / 13
        if split == "train":
            scaled = images.images / 255
            assert images.info.mean == (round(scaled.mean(), 4),)
            assert images.info.std == (round(scaled.std(), 4),)
    assert describe_dataset(DatasetConfig(name="digits")).total == 599
    assert describe_dataset(DatasetConfig(name="digits", split="train")).total == 1198


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"name": "mnst"},
            r"unknown data set 'mnst'; did you mean 'mnist'\? Known: digits, mnist, .*module:Name",
        ),
        ({"name": "/etc/passwd"}, "unknown data set '/etc/passwd'; known: digits"),
        ({"name": "digits", "split": "val"}, "digits: unknown split 'val'; known: train, test"),
        ({"name": "digits", "limit": 0}, "limit must be a whole number >= 1, got 0"),
        ({"name": "digits", "limit": -3}, "limit must be"),
        ({"name": "digits", "limit": 1.5}, "limit must be"),
        ({"name": "digits", "limit": True}, "limit must be"),
        ({"name": "digits", "label_column": "x"}, "label_column is for parquet, cifar100 and celeba only"),
        ({"name": "cifar100", "image_column": "x"}, "image_column is for parquet only"),
        (
            {"name": "cifar100", "label_column": "x"},
            "unknown label_column 'x'; known: fine_label, coarse_label",
        ),
        (
            {"name": "mnist", "root": "nowhere"},
            "cannot read the data root 'nowhere'.*HUSHSWEEP_DATA.*datasets.md",
        ),
        ({"name": "mnist", "root": __file__}, "not a folder"),
        ({"name": "no.such.module:Name"}, "No module named 'no'; install its package where the workers run"),
        ({"name": "json:Nothing"}, "has no attribute 'Nothing'"),
        ({"name": "json:dumps"}, "json:dumps: returned str; a loader returns an ImageSource"),
        ({"name": "json:__name__"}, "json:__name__: is a str, not a function that opens"),
    ],
)
def test_wrong_settings(fields, message, monkeypatch):
    monkeypatch.delenv("HUSHSWEEP_DATA", raising=False)
    monkeypatch.setattr("json.dumps", lambda config: "text")
    with pytest.raises(DatasetError, match=message):
        describe_dataset(DatasetConfig(**fields))


def test_no_root_at_all(monkeypatch):
    monkeypatch.delenv("HUSHSWEEP_DATA", raising=False)
    with pytest.raises(DatasetError, match=r"cifar10: no data root; set dataset.root .* HUSHSWEEP_DATA"):
        describe_dataset(DatasetConfig(name="cifar10"))


def test_root_from_the_environment(monkeypatch, tmp_path):
    (tmp_path / "data" / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUSHSWEEP_DATA", str(tmp_path / "data"))
    assert resolve_root(DatasetConfig(name="mnist")) == tmp_path / "data"
    assert resolve_root(DatasetConfig(name="mnist", root="photos")) == tmp_path / "data" / "photos"
    (tmp_path / "photos").mkdir()
    assert resolve_root(DatasetConfig(name="mnist", root="photos")) == tmp_path / "photos"
    monkeypatch.setenv("HUSHSWEEP_DATA", "data")
    assert resolve_root(DatasetConfig(name="mnist")) == tmp_path / "data"


def test_a_root_that_may_not_be_read(monkeypatch, tmp_path):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("hushsweep.datasets.images.roots.os.scandir", refuse)  # root may read everything
    with pytest.raises(DatasetError, match=r"cannot read the data root .*Permission denied"):
        describe_dataset(DatasetConfig(name="mnist", root=str(tmp_path)))


PLUG_IN = """
import numpy as np
from hushsweep.datasets.images import DatasetConfig, ImageSource


def open_stripes(config: DatasetConfig) -> ImageSource:
    images = np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((6, 4, 5), np.uint8)
    return ImageSource(
        split=config.split or "test",
        fingerprint="0" * 64,
        labels=np.arange(6),
        contents=lambda positions: (images[i] for i in positions),
        name_of=lambda i: f"stripe {i}",
        classes=6,
        channels=1,
    )
"""


def test_a_loader_from_elsewhere(monkeypatch, tmp_path):
    (tmp_path / "stripes.py").write_text(PLUG_IN)
    monkeypatch.syspath_prepend(tmp_path)
    config = DatasetConfig(name="stripes:open_stripes", limit=3)
    images = load_images(config, Geometry(channels=1), cache_dir=tmp_path)
    assert images.images[:, 0, 0, 0].tolist() == [0, 2, 4]
    assert list(images.names) == ["stripe 0", "stripe 2", "stripe 4"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def open_it(:", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('no\\nlicence')", "RuntimeError: no licence; mend it"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_loader_whose_module_fails_on_import(monkeypatch, tmp_path, code, message):
    (tmp_path / "broken_loader.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        DatasetError, match=rf"'broken_loader:open_it': its module fails on import, {message}"
    ):
        describe_dataset(DatasetConfig(name="broken_loader:open_it"))


def refuse(path):
    raise PermissionError(13, "Permission denied", str(path))


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_folder_below_the_root_that_may_not_be_read(monkeypatch, tmp_path, name):
    monkeypatch.setattr(Path, "iterdir", refuse)  # root may read everything
    with pytest.raises(DatasetError, match=rf"^{name}: cannot read '{tmp_path}' \(Permission denied\)"):
        describe_dataset(DatasetConfig(name=name, root=str(tmp_path)))


def test_a_split_that_may_not_be_read(monkeypatch, make_folder):
    root, scandir = make_folder(name="set/val").parent, os.scandir
    monkeypatch.setattr(
        os, "scandir", lambda path: refuse(path) if Path(path).name == "val" else scandir(path)
    )
    with pytest.raises(DatasetError, match=r"^imagefolder: cannot read '.*/set/val' \(Permission denied\)"):
        describe_dataset(DatasetConfig(name="imagefolder", root=str(root), split="val"))


def test_shards_that_are_no_files(tmp_path):
    (tmp_path / "test-00000-of-00001.parquet").symlink_to("test-00000-of-00001.parquet")  # a loop
    with pytest.raises(DatasetError, match=r"test-00000-of-00001\.parquet"):
        describe_dataset(DatasetConfig(name="parquet", root=str(tmp_path)))


def test_an_error_without_a_file_keeps_its_reason(monkeypatch):
    def lost(config):
        raise TimeoutError("the drive is gone")

    monkeypatch.setitem(LOADERS, "digits", lost)
    with pytest.raises(DatasetError, match=r"digits: cannot read its files \(the drive is gone\)"):
        describe_dataset(DatasetConfig(name="digits"))


def test_public_names_are_all_there():
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))


def test_imports_nothing_heavy():
    script = (
        "import sys; import hushsweep.datasets.images as i; [getattr(i, n) for n in i.__all__];"
        "print([m for m in ('torch', 'sklearn', 'pandas', 'ray', 'mlflow', 'duckdb', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
