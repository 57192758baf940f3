import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hushsweep.datasets.images import DatasetConfig, DatasetError, Geometry, describe_dataset, load_images
from hushsweep.datasets.images.decode import decode

SMALL = Geometry(channels=3, resize=10, crop=8)


def photos(root, **fields):
    return DatasetConfig(name="imagefolder", root=str(root), **fields)


def entries(cache_dir):
    return sorted(path for path in (cache_dir / "images").iterdir() if path.is_dir())


def python(script, *arguments):
    return [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]


LOAD = """
    import sys
    from pathlib import Path
    from hushsweep.datasets.images import DatasetConfig, Geometry, load_images
    root, cache_dir, resize = sys.argv[1:4]
    geometry = Geometry(channels=3, resize=int(resize), crop=int(resize))
    images = load_images(DatasetConfig(name="imagefolder", root=root), geometry, cache_dir=Path(cache_dir))
"""


def test_damaged_files_are_named_and_the_rest_keeps_its_place(make_folder, tmp_path, make_jpeg):
    root = make_folder(classes=2, each=5)
    (root / "class0" / "001.JPEG").write_bytes(b"")
    (root / "class0" / "003.JPEG").write_bytes(make_jpeg(3)[:200])
    (root / "class1" / "000.JPEG").write_bytes(b"this is a text file, whatever its name says")
    images = load_images(photos(root), SMALL, cache_dir=tmp_path)
    assert images.indices.tolist() == [0, 2, 4, 6, 7, 8, 9]
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert images.names[1] == "class0/002.JPEG"
    assert [(u.index, u.image) for u in images.undecodable] == [
        (1, "class0/001.JPEG"),
        (3, "class0/003.JPEG"),
        (5, "class1/000.JPEG"),
    ]
    reasons = [u.reason for u in images.undecodable]
    assert "empty" in reasons[0]
    assert "truncated" in reasons[1].lower()
    assert reasons[2] == "not an image file that Pillow knows"
    assert len(images) + len(images.undecodable) == images.info.size == 10
    expected = decode((root / "class1" / "004.JPEG").read_bytes(), SMALL)
    np.testing.assert_array_equal(images.images[6], expected)


def test_second_call_maps_the_same_files(make_folder, tmp_path, monkeypatch):
    root = make_folder()
    first = load_images(photos(root), SMALL, cache_dir=tmp_path)
    stamp = (first.path / "images.npy").stat()
    # Were anything decoded again, reading this class would fail.
    monkeypatch.setattr("hushsweep.datasets.images.cache.decode_all", None)
    second = load_images(photos(root), SMALL, cache_dir=tmp_path)
    assert second.path == first.path
    assert (second.path / "images.npy").stat().st_ino == stamp.st_ino
    np.testing.assert_array_equal(first.images, second.images)


def test_entry_does_not_depend_on_where_the_images_lie(make_folder, tmp_path):
    a = load_images(photos(make_folder(name="a")), SMALL, cache_dir=tmp_path)
    other = make_folder(name="b")
    for path in other.rglob("*.JPEG"):
        os.utime(path, (1, 1))
    b = load_images(photos(other), SMALL, cache_dir=tmp_path)
    assert a.path == b.path


@pytest.mark.parametrize(
    "change",
    [
        {"resize": 11},
        {"crop": 7},
        {"channels": 1},
        {"interpolation": "bicubic"},
        {"resize": (10, 10)},
    ],
)
def test_each_geometry_has_its_own_entry(make_folder, tmp_path, change):
    root = make_folder()
    fields = {"channels": 3, "resize": 10, "crop": 8, "interpolation": "bilinear"}
    load_images(photos(root), Geometry(**fields), cache_dir=tmp_path)
    load_images(photos(root), Geometry(**{**fields, **change}), cache_dir=tmp_path)
    assert len(entries(tmp_path)) == 2


def test_limit_keeps_classes_balanced_and_identities(make_folder, tmp_path):
    root = make_folder(classes=3, each=4)
    everything = load_images(photos(root), SMALL, cache_dir=tmp_path)
    some = load_images(photos(root, limit=6), SMALL, cache_dir=tmp_path)
    assert some.indices.tolist() == [0, 2, 4, 6, 8, 10]
    assert np.bincount(some.labels).tolist() == [2, 2, 2]
    assert (some.info.size, some.info.total) == (6, 12)
    np.testing.assert_array_equal(some.images, everything.images[some.indices])
    assert load_images(photos(root, limit=99), SMALL, cache_dir=tmp_path).path == everything.path


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_threads_change_nothing(make_folder, tmp_path, threads):
    root = make_folder(classes=4, each=30)
    (root / "class1" / "007.JPEG").write_bytes(b"")
    one = load_images(photos(root), SMALL, cache_dir=tmp_path / "one", threads=1)
    many = load_images(photos(root), SMALL, cache_dir=tmp_path / "many", threads=threads)
    np.testing.assert_array_equal(one.images, many.images)
    np.testing.assert_array_equal(one.indices, many.indices)
    assert one.undecodable == many.undecodable


def test_pickles_as_a_path_and_is_read_only(make_folder, tmp_path):
    images = load_images(photos(make_folder(classes=5, each=40)), SMALL, cache_dir=tmp_path)
    packed = pickle.dumps(images)
    assert len(packed) < 500
    copy = pickle.loads(packed)
    np.testing.assert_array_equal(copy.images, images.images)
    assert (copy.info, copy.undecodable) == (images.info, images.undecodable)
    assert list(copy.names) == list(images.names)
    assert images.names[1:3] == ["class0/001.JPEG", "class0/002.JPEG"]
    for array in (copy.images, copy.labels, copy.indices):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_images_of_different_sizes_need_a_size(make_folder, tmp_path, make_jpeg):
    root = make_folder()
    (root / "class1" / "002.JPEG").write_bytes(make_jpeg(0, size=(31, 17)))
    with pytest.raises(DatasetError, match=r"class1/002.JPEG' is 31x17, those before it 20x16.*input_size"):
        load_images(photos(root), Geometry(channels=3), cache_dir=tmp_path)
    assert not entries(tmp_path)


def test_nothing_decodable_is_an_error(make_folder, tmp_path):
    root = make_folder(classes=1, each=2)
    for path in root.rglob("*.JPEG"):
        path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"none of 2 images.*class0/000.JPEG.*empty"):
        load_images(photos(root), SMALL, cache_dir=tmp_path)


def test_a_file_that_cannot_be_read_is_not_taken_for_undecodable(make_folder, tmp_path, monkeypatch):
    """Reading may work again in a minute, so no entry may remember that it failed."""
    root = make_folder()
    lost = root / "class1" / "001.JPEG"
    kept = lost.read_bytes()
    from hushsweep.datasets.images import cache

    def lose_one(config):
        source = cache_open(config)
        lost.unlink()
        return source

    cache_open = cache.open_source
    with monkeypatch.context() as patch:
        patch.setattr(cache, "open_source", lose_one)
        with pytest.raises(DatasetError, match=r"class1/001.JPEG': cannot be read \(No such file"):
            load_images(photos(root), SMALL, cache_dir=tmp_path)
    assert not entries(tmp_path)
    lost.write_bytes(kept)
    assert len(load_images(photos(root), SMALL, cache_dir=tmp_path)) == 12


@pytest.mark.parametrize("victim", ["images.npy", "rows.arrow", "meta.json"])
@pytest.mark.parametrize("harm", ["delete", "truncate"])
def test_a_damaged_entry_is_made_again(make_folder, tmp_path, victim, harm):
    root = make_folder()
    first = load_images(photos(root), SMALL, cache_dir=tmp_path)
    expected = first.images.copy()
    file = first.path / victim
    file.unlink() if harm == "delete" else os.truncate(file, file.stat().st_size // 2)
    again = load_images(photos(root), SMALL, cache_dir=tmp_path)
    np.testing.assert_array_equal(again.images, expected)
    assert len(again.names) == 12


def test_processes_at_once_decode_once(make_folder, tmp_path):
    root = make_folder(classes=3, each=100)
    script = (
        LOAD
        + "    print(images.path, (images.path / 'images.npy').stat().st_ino, int(images.images.sum()))\n"
    )
    started = [
        subprocess.Popen(python(script, root, tmp_path, 64), stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = {process.communicate()[0] for process in started}
    assert len(outputs) == 1
    assert outputs.pop().strip()
    assert len(entries(tmp_path)) == 1


def test_threads_at_once_decode_once(make_folder, tmp_path):
    root = make_folder(classes=3, each=50)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load_images(photos(root), SMALL, cache_dir=tmp_path), range(4)))
    assert len({(images.path / "images.npy").stat().st_ino for images in found}) == 1


def test_killed_while_decoding_leaves_nothing_that_counts(make_folder, tmp_path):
    root = make_folder(classes=2, each=500)
    process = subprocess.Popen(python(LOAD, root, tmp_path, 300))
    deadline = time.monotonic() + 60
    while (
        not (files := list(tmp_path.glob("images/*.tmp/images.npy"))) or files[0].stat().st_size < 1_000_000
    ):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.suffix for path in entries(tmp_path)] == [".tmp"]
    geometry = Geometry(channels=3, resize=300, crop=300)
    images = load_images(photos(root), geometry, cache_dir=tmp_path)
    assert len(images) == 1000
    assert entries(tmp_path) == [images.path]


def test_a_full_disk_is_an_error_and_leaves_no_half_entry(make_folder, tmp_path):
    """A limit on the size of a file is met as a full disk is: by an error in the middle of writing."""
    root = make_folder(classes=2, each=100)
    limit = "\n    import resource\n    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
    full = subprocess.run(python(limit + LOAD, root, tmp_path, 8), capture_output=True, text=True)
    assert full.returncode == 1
    assert re.search(
        r"DatasetError: imagefolder/all: cannot write the decoded images.*free space", full.stderr
    )
    assert not entries(tmp_path)
    subprocess.run(python(LOAD, root, tmp_path, 8), check=True)


def test_a_cache_that_cannot_be_made_is_an_error(make_folder, tmp_path):
    (tmp_path / "images").write_text("a file where the folder should be")
    with pytest.raises(DatasetError, match="cannot write"):
        load_images(photos(make_folder()), SMALL, cache_dir=tmp_path)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path, make_jpeg):
    script = (
        LOAD + "    print([line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line][0])\n"
    )
    content, peaks = make_jpeg(0, size=(160, 120)), []
    for count in (300, 3000):
        folder = tmp_path / str(count) / "only"
        folder.mkdir(parents=True)
        for i in range(count):
            (folder / f"{i}.jpg").write_bytes(content)
        done = subprocess.run(
            python(script, folder.parent, tmp_path, 128), check=True, capture_output=True, text=True
        )
        peaks.append(int(done.stdout) / 1024)
    written = max(path.stat().st_size for path in tmp_path.rglob("images.npy")) / 2**20
    assert written > 140
    assert peaks[1] < 1.1 * peaks[0], f"MiB at the peak: {peaks}, while {written:.0f} MiB were written"


def test_describing_decodes_nothing(make_folder, monkeypatch):
    root = make_folder()
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    info = describe_dataset(photos(root, limit=7))
    assert (info.size, info.total, info.classes, info.channels) == (7, 12, 3, 3)
