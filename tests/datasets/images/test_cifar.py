import os
import pickle
import struct

import numpy as np
import pytest
from torchvision import datasets

from hushsweep.datasets.images import DatasetConfig, DatasetError, Geometry, describe_dataset, load_images

COLOUR = Geometry(channels=3)


def python2_pickle(fields):
    """Protocol 2 as Python 2 wrote the published files: byte strings, numpy.core, raw array bytes."""

    def text(value):
        return b"U" + bytes([len(value)]) + value.encode()

    def put(value):
        if isinstance(value, str):
            return text(value)
        if isinstance(value, list):
            return b"](" + b"".join(put(item) for item in value) + b"e"
        if isinstance(value, int):
            return b"J" + struct.pack("<i", value)
        shape = b"".join(put(side) for side in value.shape)
        dtype = b"cnumpy\ndtype\n" + text("u1") + b"K\0K\1\x87R(K\3" + text("|") + b"NNNJ\xff\xff\xff\xff"
        dtype += b"J\xff\xff\xff\xffK\0tb"
        raw = value.tobytes()
        array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85" + text("b") + b"tR"
        return array + b"(K\1(" + shape + b"t" + dtype + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"

    items = b"".join(put(key) + put(value) for key, value in fields.items())
    return b"\x80\2}(" + items + b"u."


def python3_pickle(fields):
    return pickle.dumps({key.encode(): value for key, value in fields.items()}, protocol=2)


def write_cifar10(root, dump=python2_pickle):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        data = rng.integers(0, 256, (7, 3072), np.uint8)
        (folder / name).write_bytes(dump({"data": data, "labels": rng.integers(0, 10, 7).tolist()}))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta").write_bytes(dump({"label_names": names}))
    return folder


def write_cifar100(root, dump=python2_pickle):
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for name in ("train", "test"):
        fields = {
            "data": rng.integers(0, 256, (9, 3072), np.uint8),
            "fine_labels": rng.integers(0, 100, 9).tolist(),
            "coarse_labels": rng.integers(0, 20, 9).tolist(),
        }
        (folder / name).write_bytes(dump(fields))
    names = {
        f"{kind}_label_names": [f"{kind}{i}" for i in range(n)] for kind, n in (("fine", 100), ("coarse", 20))
    }
    (folder / "meta").write_bytes(dump(names))
    return folder


def load(root, name, **fields):
    return load_images(DatasetConfig(name=name, root=str(root), **fields), COLOUR, cache_dir=root / "cache")


@pytest.mark.parametrize("dump", [python2_pickle, python3_pickle])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("name", "write", "theirs"),
    [("cifar10", write_cifar10, datasets.CIFAR10), ("cifar100", write_cifar100, datasets.CIFAR100)],
)
def test_batches_equal_torchvision(tmp_path, monkeypatch, dump, split, name, write, theirs):
    write(tmp_path, dump)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: True)
    if dump is python3_pickle:  # torchvision reads keys as text, which is what Python 2's byte strings become
        monkeypatch.setattr("torchvision.datasets.cifar.pickle.load", text_keys)
    expected = theirs(tmp_path, train=split == "train")
    ours = load(tmp_path, name, split=split)
    np.testing.assert_array_equal(ours.images.transpose(0, 2, 3, 1), expected.data)
    assert ours.labels.tolist() == expected.targets
    assert list(ours.info.class_names) == expected.classes
    assert (ours.info.channels, ours.info.height, ours.info.width) == (3, 32, 32)


def text_keys(file, encoding):
    return {key.decode(): value for key, value in pickle.loads(file.read()).items()}


def test_coarse_labels_are_the_secondary_ones_or_the_other_way_round(tmp_path):
    write_cifar100(tmp_path)
    fine = load(tmp_path, "cifar100")
    coarse = load(tmp_path, "cifar100", label_column="coarse_label")
    np.testing.assert_array_equal(fine.secondary, coarse.labels)
    np.testing.assert_array_equal(coarse.secondary, fine.labels)
    assert (fine.info.classes, coarse.info.classes, coarse.info.class_names[3]) == (100, 20, "coarse3")
    assert fine.info.fingerprint != coarse.info.fingerprint


@pytest.mark.parametrize(("name", "first"), [("cifar10", "frog"), ("cifar100", "cattle")])
def test_real_parquet_shards(data_root, tmp_path, name, first):
    config = DatasetConfig(name=name, root=str(data_root), split="train", limit=1000)
    info = describe_dataset(config)
    images = load_images(config, COLOUR, cache_dir=tmp_path)
    assert images.images.shape == (1000, 3, 32, 32)
    assert (info.total, info.size, info.height, info.channels) == (50_000, 1000, 32, 3)
    assert images.indices[[0, 1, 999]].tolist() == [0, 50, 49_950]
    assert info.class_names[images.labels[0]] == first
    assert images.undecodable == ()
    whole = describe_dataset(DatasetConfig(name=name, root=str(data_root / name), split="train"))
    assert whole.fingerprint == info.fingerprint
    mean = images.images.mean((0, 2, 3)) / 255
    np.testing.assert_allclose(mean, (0.491, 0.482, 0.447) if name == "cifar10" else info.mean, atol=0.02)
    if name == "cifar100":
        assert images.secondary.max() == 19
        assert set(images.secondary[images.labels == 0]) == {4}  # apples are fruit


class Exploit:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    "harm",
    [
        pickle.dumps({"data": Exploit(), "labels": []}, protocol=2),
        b"\x80\2cbuiltins\neval\nU\x04None\x85R.",
        b"\x80\2c_codecs\nencode\nU\x01aU\x04zlib\x86R.",
        b"\x80\2cnumpy\nload\n.",
    ],
)
def test_a_batch_cannot_run_code(tmp_path, monkeypatch, harm):
    monkeypatch.chdir(tmp_path)
    (write_cifar10(tmp_path) / "test_batch").write_bytes(harm)
    with pytest.raises(DatasetError, match="test_batch': not a CIFAR batch file"):
        load(tmp_path, "cifar10")
    assert not (tmp_path / "harmed").exists()


PIXELS = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a CIFAR batch file"),
        (python2_pickle({"data": PIXELS, "labels": [1, 2]})[:-3000], "not a CIFAR batch file"),
        (pickle.dumps([1, 2]), "not a CIFAR batch file"),
        (python2_pickle({"labels": [1, 2]}), "expected 'data'"),
        (python2_pickle({"data": PIXELS[:, :9], "labels": [1, 2]}), r"expected 'data' of \(n, 3072\)"),
        (pickle.dumps({"data": PIXELS.astype(float), "labels": [1, 2]}, protocol=2), "unsigned bytes"),
        (python2_pickle({"data": PIXELS, "labels": [1]}), "list of 2 integers"),
        (python2_pickle({"data": PIXELS}), "expected 'labels'"),
        (python2_pickle({"data": PIXELS, "labels": [1, 10]}), "outside 0..9"),
        (python2_pickle({"data": PIXELS, "labels": [-1, 1]}), "outside 0..9"),
    ],
)
def test_damaged_batches_are_errors(tmp_path, content, message):
    (write_cifar10(tmp_path) / "test_batch").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        load(tmp_path, "cifar10")


def test_a_missing_batch_is_named(tmp_path):
    (write_cifar10(tmp_path) / "data_batch_3").unlink()
    with pytest.raises(DatasetError, match="data_batch_3"):
        load(tmp_path, "cifar10", split="train")


def test_shards_of_another_data_set_are_refused(data_root):
    with pytest.raises(DatasetError, match=r"no label column 'label'; give the folder of cifar10"):
        describe_dataset(DatasetConfig(name="cifar10", root=str(data_root / "cifar100")))
    with pytest.raises(DatasetError, match=r"holds 224x224 images .* expected 32x32 and 10 classes"):
        describe_dataset(DatasetConfig(name="cifar10", root=str(data_root / "pneumonia" / "chest-xray-224")))
