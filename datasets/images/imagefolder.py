"""A folder of class folders of image files, as ImageNet is usually unpacked."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hushsweep.datasets.images.base import DatasetConfig, DatasetError
from hushsweep.datasets.images.roots import GUIDE, check_split, resolve_root
from hushsweep.datasets.images.source import Content, ImageSource, digest, probe

_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_SPLITS = {"train", "test", "val", "validation"}
_PROBES = 16


def open_imagefolder(config: DatasetConfig) -> ImageSource:
    """Open a folder whose subfolders are the classes, in the order and with the labels of torchvision.

    Hidden folders are no classes. The fingerprint is that of the sorted list of relative paths and sizes, so
    that 50,000 files take a second.

    Raises:
        DatasetError: no images, unreadable folders or files, or folders that are splits, not classes.
    """
    check_split(config)
    root = resolve_root(config)
    folder = root / config.split if config.split else root
    if not folder.is_dir():
        raise DatasetError(
            f"imagefolder/{config.split}: no folder '{config.split}' in '{root}'; it holds: {_some(root)}"
        )
    classes = sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")
    )
    if classes and set(classes) <= _SPLITS:
        raise DatasetError(
            f"imagefolder: '{folder}' holds the splits {', '.join(classes)}, not class folders; "
            "set dataset.split to one of them"
        )
    paths, labels, sizes = [], [], []
    for label, name in enumerate(classes):
        for path, size in _images_below(folder / name):
            paths.append(path)
            labels.append(label)
            sizes.append(size)
    if not paths:
        raise DatasetError(
            f"imagefolder: no images ({' '.join(_SUFFIXES)}) in class folders under '{folder}'; "
            f"how to lay them out: {GUIDE}"
        )
    start = len(os.fspath(folder)) + 1
    relative = [path[start:].replace(os.sep, "/") for path in paths]
    listing = sorted(zip(map(os.fsencode, relative), sizes, strict=True))

    def contents(positions: NDArray[np.int64]) -> Iterator[Content]:
        return (Path(paths[i]) for i in positions)

    sample = np.unique(np.linspace(0, len(paths) - 1, _PROBES).astype(np.int64))
    return ImageSource(
        split=config.split or "all",
        fingerprint=digest(part for name, size in listing for part in (name, str(size).encode())),
        labels=np.array(labels, np.int64),
        contents=contents,
        name_of=lambda i: os.fsencode(relative[i]).decode("utf-8", "backslashreplace"),
        classes=len(classes),
        channels=max((channels for channels, _ in probe(contents(sample))), default=3),
        class_names=tuple(classes),
    )


def folder_splits(config: DatasetConfig) -> tuple[str, ...]:
    """The usual splits that are subfolders of the root; none where the subfolders are classes."""
    names = {entry.name for entry in os.scandir(resolve_root(config)) if entry.is_dir()}
    found = names & _SPLITS
    # A class may be called "train"; two splits side by side, or nothing but splits, are splits.
    all_splits = found == {name for name in names if not name.startswith(".")}
    return tuple(sorted(found)) if all_splits or ("train" in found and len(found) > 1) else ()


def _images_below(folder: Path) -> Iterator[tuple[str, int]]:
    """Paths and sizes of image files in torchvision's order: folders by path, then files by name."""

    def refuse(error: OSError) -> None:
        raise DatasetError(
            f"imagefolder: cannot read '{error.filename}' ({error.strerror}); mend it or take it out"
        ) from error

    for where, _, names in sorted(os.walk(folder, onerror=refuse, followlinks=True)):
        for name in sorted(names):
            if name.lower().endswith(_SUFFIXES):
                path = os.path.join(where, name)  # noqa: PTH118  (Path is ten times slower, for 50,000 files)
                try:
                    yield path, os.stat(path).st_size  # noqa: PTH116
                except OSError as error:
                    refuse(error)


def _some(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
