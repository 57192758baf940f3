import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hushsweep.datasets.images import DatasetConfig, DatasetError, Geometry, describe_dataset, load_images
from hushsweep.datasets.images.decode import decode
from hushsweep.datasets.images.shards import fingerprint_of

COLOUR = Geometry(channels=3)


@pytest.fixture
def write(tmp_path, make_jpeg):
    """Returns a function that writes one shard; image i of the whole data set is ``make_jpeg(i)``."""

    def write_shard(
        name, labels, *, start=0, image="image", label="label", plain=False, metadata=None, group=3
    ):
        files = [make_jpeg(start + i) for i in range(len(labels))]
        cells = files if plain else [{"bytes": file, "path": "somewhere.jpg"} for file in files]
        kind = pa.binary() if plain else pa.struct({"bytes": pa.binary(), "path": pa.string()})
        table = pa.table({image: pa.array(cells, kind), label: labels})
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=group)
        return path.parent

    return write_shard


def config(root, **fields):
    return DatasetConfig(name="parquet", root=str(root), **fields)


def load(root, **fields):
    return load_images(config(root, **fields), COLOUR, cache_dir=root / "cache")


def test_shards_and_row_groups_follow_each_other(write, make_jpeg):
    write("test-00001-of-00002.parquet", [5, 6, 7, 8], start=10)
    root = write("test-00000-of-00002.parquet", list(range(10)))
    images = load(root)
    assert images.labels.tolist() == [*range(10), 5, 6, 7, 8]
    assert images.names[13] == "test/00013"
    for i in range(14):
        np.testing.assert_array_equal(images.images[i], decode(make_jpeg(i), COLOUR))


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 13])
def test_limit_picks_the_same_rows_from_every_group(write, limit):
    write("test-00001-of-00002.parquet", [5, 6, 7, 8], start=10)
    root = write("test-00000-of-00002.parquet", list(range(10)))
    everything, some = load(root), load(root, limit=limit)
    assert some.indices.tolist() == [i * 14 // limit for i in range(limit)]
    np.testing.assert_array_equal(some.images, everything.images[some.indices])


def test_groups_larger_than_a_batch(write, make_jpeg):
    root = write("test.parquet", [i % 4 for i in range(200)], group=150)
    images = load(root, limit=67)
    for i, position in enumerate(images.indices):
        np.testing.assert_array_equal(images.images[i], decode(make_jpeg(int(position)), COLOUR))


@pytest.mark.parametrize(
    "name", ["test-00000-of-00001.parquet", "test.parquet", "data/test-0.parquet", "test/0000.parquet"]
)
def test_split_in_the_name_of_file_or_folder(write, tmp_path, name):
    write("train-00000-of-00001.parquet", [0] * 5)
    write(name, [1, 2])
    assert load(tmp_path / "set").labels.tolist() == [1, 2]
    assert load(tmp_path / "set", split="train").info.total == 5


def test_files_that_name_no_split_are_all_of_it(write):
    write("b.parquet", [2], start=2)
    root = write("a.parquet", [0, 1])
    images = load(root)
    assert (images.info.split, images.labels.tolist()) == ("all", [0, 1, 2])
    single = describe_dataset(config(root / "b.parquet"))
    assert (single.split, single.total) == ("all", 1)


def test_training_images_are_never_taken_for_the_reported_split(write):
    root = write("train-00000-of-00001.parquet", [0, 1])
    with pytest.raises(
        DatasetError, match=r"parquet/test: no such split .* set dataset.split to one of: train"
    ):
        load(root)


def test_hugging_face_declares_columns_and_names(write):
    features = {
        "picture": {"_type": "Image"},
        "kind": {"_type": "ClassLabel", "names": ["cat", "dog", "eel"]},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    root = write("test.parquet", [1, 0], image="picture", label="kind", metadata=metadata)
    info = load(root, label_column="kind").info
    assert (info.class_names, info.classes) == (("cat", "dog", "eel"), 3)


@pytest.mark.parametrize("metadata", [{"huggingface": "{"}, {"huggingface": '{"info": []}'}, {"other": "x"}])
def test_other_metadata_is_no_harm(write, metadata):
    root = write("test.parquet", [1, 0], metadata=metadata, plain=True)
    assert load(root).labels.tolist() == [1, 0]


@pytest.mark.parametrize("encode", [list, lambda texts: pa.array(texts).dictionary_encode()])
def test_text_labels_are_numbered_in_sorted_order(write, encode):
    root = write("test.parquet", encode(["eel", "cat", "eel", "dog"]))
    images = load(root)
    assert images.labels.tolist() == [2, 0, 2, 1]
    assert images.info.class_names == ("cat", "dog", "eel")


def test_missing_and_damaged_images_are_named(tmp_path, make_jpeg):
    cells = [{"bytes": make_jpeg(0)}, {"bytes": None}, None, {"bytes": b""}, {"bytes": make_jpeg(1)}]
    table = pa.table({"image": pa.array(cells, pa.struct({"bytes": pa.binary()})), "label": [0, 1, 2, 3, 4]})
    pq.write_table(table, tmp_path / "test.parquet")
    images = load(tmp_path)
    assert images.indices.tolist() == [0, 4]
    assert [(u.index, u.image, u.reason) for u in images.undecodable] == [
        (1, "test/00001", "no image in this row"),
        (2, "test/00002", "no image in this row"),
        (3, "test/00003", "ValueError: the file is empty"),
    ]


@pytest.mark.parametrize(
    ("labels", "fields", "message"),
    [
        ([0, -1], {}, r"label -1 in column 'label'; is this split labelled"),
        ([0, None], {}, r"1 rows have no 'label'"),
        ([0.5, 1.0], {}, r"column 'label' is double; labels must be integers"),
        (
            [0, 1],
            {"label_column": "kind"},
            r"no label column 'kind'; set dataset.label_column; its columns: image",
        ),
        ([0, 1], {"image_column": "label"}, r"no column 'label' of encoded images"),
        ([0, 1], {"image_column": "picture"}, r"no column 'picture' of .*image \(struct<"),
        ([0, 1], {"split": "val"}, r"parquet/val: no such split"),
        ([], {}, r"no rows"),
    ],
)
def test_columns_that_do_not_fit(write, labels, fields, message):
    root = write("test.parquet", labels if labels else pa.array([], pa.int64()))
    with pytest.raises(DatasetError, match=message):
        load(root, **fields)


def test_shards_of_unlike_columns(write):
    write("test-0.parquet", [0, 1])
    root = write("test-1.parquet", ["a", "b"])
    with pytest.raises(DatasetError, match="numbers in some files and text in others"):
        load(root)
    root = write("test-1.parquet", [0, 1], label="kind")
    with pytest.raises(DatasetError, match=r"test-1.parquet' has no label column 'label'"):
        load(root)


@pytest.mark.parametrize("harm", ["header", "footer", "pages"])
def test_damaged_files_are_errors(write, harm):
    root = write("test.parquet", list(range(50)))
    path = root / "test.parquet"
    content = bytearray(path.read_bytes())
    if harm == "header":
        content = content[:100]
    elif harm == "footer":
        content[-200:-8] = bytes(192)
    else:
        content[4:-2000] = bytes(len(content) - 2004)
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"test.parquet': cannot be read as Parquet"):
        load(root)


def test_an_empty_folder_says_what_to_do(tmp_path):
    with pytest.raises(DatasetError, match=r"no file 'test-\*.parquet' under .*docs/datasets.md"):
        load(tmp_path)


def test_fingerprint_follows_content_and_columns(write, tmp_path):
    root = write("test.parquet", [0, 1])
    first = describe_dataset(config(root)).fingerprint
    os.utime(root / "test.parquet", (1, 1))
    (root / "test.parquet").rename(tmp_path / "test.parquet")
    assert describe_dataset(config(tmp_path)).fingerprint == first
    assert describe_dataset(config(write("test.parquet", [0, 2]))).fingerprint != first


def test_large_files_are_known_by_size_and_ends(tmp_path):
    """Sparse files of 2 GiB: hashing them whole would take seconds each."""
    digests = []
    for name, position in (("a", None), ("b", None), ("start", 5), ("end", (2 << 30) - 5)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2 << 30)
            if position is not None:
                file.seek(position)
                file.write(b"x")
        digests.append(fingerprint_of([tmp_path / name]))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_small_files_are_known_by_every_byte_and_their_order(tmp_path):
    for name, content in (
        ("a", bytes(5 << 20)),
        ("b", bytes(3 << 20) + b"x" + bytes((2 << 20) - 1)),
        ("c", b""),
    ):
        (tmp_path / name).write_bytes(content)
    a, b, c = (tmp_path / name for name in "abc")
    orders = [[a], [b], [a, b], [b, a], [a, c], [c, a], [a, b, c]]
    assert len({fingerprint_of(paths) for paths in orders}) == len(orders)


def test_real_x_rays(data_root, tmp_path):
    root = data_root / "pneumonia" / "chest-xray-224"
    images = load_images(
        config(root, label_column="subtype"), Geometry(channels=1, resize=64), cache_dir=tmp_path
    )
    assert images.images.shape == (200, 1, 64, 64)
    assert np.bincount(images.labels).tolist() == [100, 58, 42]
    faces = load_images(
        config(data_root / "celeba", label_column="Smiling"), Geometry(channels=3), cache_dir=tmp_path
    )
    assert faces.images.shape == (600, 3, 109, 89)
    assert int(faces.labels.sum()) == 286
