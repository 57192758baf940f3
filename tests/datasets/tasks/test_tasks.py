"""Every task on the real data: its labels, and one sentence for what does not fit."""

import io
import types

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hushsweep.datasets.images import DatasetConfig, DatasetError, ImageSource, describe_dataset
from hushsweep.datasets.images.registry import open_source
from hushsweep.datasets.tasks import TASKS

# Data set, task, folder below the data root, images of train, validation and test, primary and secondary classes.
REAL = [
    ("digits", "less_than_5", "", (1079, 119, 599), (2, 10)),
    ("mnist", "less_than_5", "", (54_000, 6_000, 10_000), (2, 10)),
    ("fashion_mnist", "less_than_5", "", (54_000, 6_000, 10_000), (2, 10)),
    ("cifar100", "superclass", "", (45_000, 5_000, 10_000), (20, 100)),
    ("celeba", "smiling_male", "", (2_160, 240, 600), (2, 2)),
    ("celeba", "smiling_young", "", (2_160, 240, 600), (2, 2)),
    ("imagefolder", "animal", "imagenet-sample", (700, 100, 200), (2, 1000)),
]


def write_parquet(path, **columns):
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    rows = len(next(iter(columns.values())))
    pq.write_table(pa.table({"image": [buffer.getvalue()] * rows, **columns}), path)


def test_every_task_is_tested_on_real_data():
    assert {(name, task) for task, known in TASKS.items() for name in known.datasets} - {
        ("parquet", "animal")
    } == {(name, task) for name, task, *_ in REAL}


@pytest.mark.parametrize(("name", "task", "folder", "sizes", "classes"), REAL)
def test_labels_and_parts(name, task, folder, sizes, classes, data_root):
    config = DatasetConfig(name=name, task=task, root=str(data_root / folder))
    assert describe_dataset(config).split == "test"
    for part, size in zip(("train", "validation", "test"), sizes, strict=True):
        source = open_source(DatasetConfig(name=name, task=task, root=config.root, split=part))
        info = describe_dataset(DatasetConfig(name=name, task=task, root=config.root, split=part))
        assert (info.task, info.split, info.total) == (task, part, size)
        assert (info.classes, info.secondary_classes) == classes
        assert (len(info.class_names), len(info.secondary_names)) == classes
        for labels, known in zip((source.labels, source.secondary), classes, strict=True):
            assert labels.dtype == np.int64
            assert labels.shape == (size,)
            assert 0 <= labels.min() <= labels.max() < known
        if known < 1000:
            assert set(source.labels) == set(range(classes[0]))


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion_mnist"])
def test_less_than_5(name, data_root):
    plain = open_source(DatasetConfig(name=name, root=str(data_root)))
    tasked = open_source(DatasetConfig(name=name, root=str(data_root), task="less_than_5"))
    np.testing.assert_array_equal(tasked.secondary, plain.labels)
    np.testing.assert_array_equal(tasked.labels, plain.labels < 5)
    assert tasked.class_names == ("5 or more", "less than 5")
    assert tasked.fingerprint != plain.fingerprint


def test_superclasses_hold_five_classes_each(data_root):
    source = open_source(DatasetConfig(name="cifar100", root=str(data_root), task="superclass"))
    pairs = set(zip(source.labels.tolist(), source.secondary.tolist(), strict=True))
    assert len(pairs) == 100
    assert np.bincount([coarse for coarse, _ in pairs]).tolist() == [5] * 20
    names = {(source.class_names[coarse], source.secondary_names[fine]) for coarse, fine in pairs}
    assert ("fruit_and_vegetables", "apple") in names
    columns = DatasetConfig(
        name="cifar100", root=str(data_root), label_column="coarse_label", secondary_column="fine_label"
    )
    assert describe_dataset(columns).task == "coarse_label_fine_label"
    assert (describe_dataset(columns).classes, describe_dataset(columns).secondary_classes) == (20, 100)


def test_counts_of_celeba_are_those_of_its_readme(data_root):
    """Counts of 1: train Smiling 1164, Male 1012, Young 1864; test Smiling 286, Male 243, Young 467."""
    expected = {"Male": (1164, 1012, 286, 243), "Young": (1164, 1864, 286, 467)}
    for column, counts in expected.items():
        parts = [
            open_source(
                DatasetConfig(
                    name="celeba", root=str(data_root), task=f"smiling_{column.lower()}", split=part
                )
            )
            for part in ("train", "validation", "test")
        ]
        sums = [(int(part.labels.sum()), int(part.secondary.sum())) for part in parts]
        assert (sums[0][0] + sums[1][0], sums[0][1] + sums[1][1], *sums[2]) == counts
        assert parts[0].class_names == ("not Smiling", "Smiling")
        assert parts[0].secondary_names == (f"not {column}", column)
    plain = describe_dataset(DatasetConfig(name="celeba", root=str(data_root), split="train"))
    assert (plain.total, plain.classes, plain.task, plain.secondary_classes) == (2400, 2, None, None)


def test_animals_by_wnid_and_by_index(data_root, make_wnids, tmp_path):
    source = open_source(
        DatasetConfig(name="imagefolder", root=str(data_root / "imagenet-sample"), task="animal")
    )
    np.testing.assert_array_equal(source.labels, source.secondary < 398)
    few = make_wnids(
        "n01440764", "n02655020", "n02666196", "n15075141"
    )  # tench, puffer | abacus, toilet tissue
    some = open_source(DatasetConfig(name="imagefolder", root=str(few), task="animal", split="train"))
    assert sorted(set(zip(some.secondary.tolist(), some.labels.tolist(), strict=True))) == [
        *((0, 1), (1, 1), (2, 0), (3, 0))
    ]
    write_parquet(tmp_path / "all.parquet", label=[*range(990, 1000)])
    shards = DatasetConfig(name="parquet", root=str(tmp_path), task="animal", split="train")
    assert open_source(shards).labels.tolist() == [0] * 7
    with pytest.raises(
        DatasetError, match=r"imagefolder/test: task 'animal' needs ImageNet's .* found 2 others"
    ):
        describe_dataset(
            DatasetConfig(name="imagefolder", root=str(make_wnids("cats", "dogs")), task="animal")
        )


@pytest.fixture
def make_wnids(tmp_path):
    """Writes ten images into each of some class folders."""

    def make(*names):
        root = tmp_path / "-".join(names)
        for name in names:
            (root / name).mkdir(parents=True)
            for number in range(10):
                Image.new("RGB", (4, 4)).save(root / name / f"{number}.png")
        return root

    return make


def test_any_two_columns_of_parquet_files_are_a_task(data_root):
    root = str(data_root / "pneumonia" / "chest-xray-224")
    source = open_source(DatasetConfig(name="parquet", root=root, secondary_column="subtype"))
    assert source.task == "label_subtype"
    assert source.secondary_names == ("normal", "bacteria", "virus")
    assert np.bincount(source.secondary).tolist() == [100, 58, 42]
    np.testing.assert_array_equal(source.labels, source.secondary > 0)
    swapped = DatasetConfig(name="parquet", root=root, label_column="subtype", secondary_column="label")
    assert describe_dataset(swapped).task == "subtype_label"
    assert describe_dataset(swapped).fingerprint != source.fingerprint


def test_a_loader_of_ones_own_gives_secondary_labels(monkeypatch):
    def open_stripes(config, secondary=(0, 1, 2)):
        return ImageSource(
            split=config.split,
            fingerprint="stripes",
            labels=np.arange(30) % 2,
            contents=lambda positions: (np.zeros((4, 4), np.uint8) for _ in positions),
            name_of=str,
            classes=2,
            channels=1,
            secondary=None if secondary is None else np.array(secondary * 10),
        )

    module = types.SimpleNamespace(good=open_stripes)
    module.none = lambda config: open_stripes(config, None)
    module.negative = lambda config: open_stripes(config, (0, 1, -2))
    module.half = lambda config: open_stripes(config, (0, 0.5, 1))
    module.short = lambda config: open_stripes(config, (0, 1))
    monkeypatch.setitem(__import__("sys").modules, "stripes", module)
    info = describe_dataset(DatasetConfig(name="stripes:good", secondary_column="kind", split="train"))
    assert (info.total, info.task, info.secondary_classes, info.secondary_names) == (
        27,
        "label_kind",
        3,
        None,
    )
    for name, message in (
        ("none", "gave no secondary labels for secondary_column 'kind'"),
        ("negative", "stripes:negative/test: secondary label -2, expected numbers >= 0"),
        ("half", "must be whole numbers, one for each of 30 images; got float64"),
        ("short", r"got int64 of shape \(20,\)"),
    ):
        with pytest.raises(DatasetError, match=message):
            describe_dataset(DatasetConfig(name=f"stripes:{name}", secondary_column="kind"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"name": "mnist", "task": "less_than_five"},
            "mnist: unknown task 'less_than_five'; did you mean 'less_than_5'.; known for mnist: less_than_5",
        ),
        (
            {"name": "cifar100", "task": "less_than_5"},
            "is for digits, mnist, fashion_mnist; known for cifar100: sup",
        ),
        ({"name": "cifar10", "task": "superclass"}, "'superclass' is for cifar100; cifar10 has no task"),
        ({"name": "digits", "task": "less_than_5", "split": "val"}, "there are: train, validation, test"),
        ({"name": "digits", "split": "validation"}, "unknown split 'validation'; known: train, test"),
        ({"name": "digits", "task": "less_than_5", "label_column": "x"}, "label_column is for parquet, "),
        (
            {"name": "digits", "secondary_column": "x"},
            "secondary_column is for parquet, cifar100 and celeba only",
        ),
        ({"name": "celeba", "task": "smiling_male", "secondary_column": "Young"}, "give one of them"),
        ({"name": "celeba", "task": "smiling_male", "label_column": "Young"}, "leave label_column out, or"),
        (
            {"name": "celeba", "secondary_column": "Mail"},
            "no secondary column 'Mail'; set dataset.secondary_column",
        ),
        ({"name": "celeba", "label_column": "Smile"}, "no label column 'Smile'; set dataset.label_column"),
        ({"name": "celeba", "secondary_column": "Smiling"}, "both the label_column and the secondary_column"),
        ({"name": "cifar100", "secondary_column": "x"}, "must be one of fine_label, coarse_label and not"),
        ({"name": "cifar100", "secondary_column": "fine_label"}, "not the label_column"),
        ({"name": "digits", "train_limit": 0}, "train_limit must be a whole number >= 1, got 0"),
        ({"name": "digits", "train_limit": 2.5}, "train_limit must be"),
    ],
)
def test_wrong_settings(fields, message, data_root, monkeypatch):
    monkeypatch.setenv("HUSHSWEEP_DATA", str(data_root))
    with pytest.raises(DatasetError, match=message):
        describe_dataset(DatasetConfig(**fields))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"label": [0] * 10},
            r"no secondary column 'kind'; set dataset.secondary_column; its columns: image .*label",
        ),
        ({"label": [0] * 10, "kind": [0.5] * 10}, "'kind' is double; labels must be integers >= 0 or text"),
        ({"label": [0] * 10, "kind": [1, -1] * 5}, "label -1 in column 'kind'"),
        (
            {"label": [0] * 10, "kind": [1, None] * 5},
            "5 rows have no 'kind'; take them out or set dataset.secondary_",
        ),
        ({"label": [0], "kind": [1]}, "cut from 1 images of 'all', and nothing is left for it"),
    ],
)
def test_columns_that_do_not_fit(columns, message, tmp_path):
    write_parquet(tmp_path / "all.parquet", **columns)
    with pytest.raises(DatasetError, match=message):
        describe_dataset(DatasetConfig(name="parquet", root=str(tmp_path), secondary_column="kind"))


def test_text_is_numbered_and_a_celeba_attribute_that_nobody_has_is_two_classes(tmp_path):
    write_parquet(tmp_path / "all.parquet", label=[0, 1] * 5, kind=["b", "a"] * 5)
    info = describe_dataset(DatasetConfig(name="parquet", root=str(tmp_path), secondary_column="kind"))
    assert info.secondary_names == ("a", "b")
    for split in ("train", "valid", "test"):
        write_parquet(tmp_path / f"{split}.parquet", Smiling=[0, 1] * 5, Bald=[0] * 10)
    config = DatasetConfig(name="celeba", root=str(tmp_path), secondary_column="Bald", split="validation")
    info = describe_dataset(config)
    assert (info.task, info.total, info.secondary_names) == ("Smiling_Bald", 10, ("not Bald", "Bald"))
