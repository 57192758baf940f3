"""What a data set is to the rest of the program: its settings, its description and its decoded images."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

IMAGES_FILE, ROWS_FILE, META_FILE = "images.npy", "rows.arrow", "meta.json"


class DatasetError(ValueError):
    """The user's data or settings do not fit; the message is one sentence that ends with the next step."""


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """Which images to read: plain values, as written under ``dataset:`` in a sweep file.

    Attributes:
        name: A key of ``LOADERS``, or ``package.module:Name`` for a loader from elsewhere.
        root: Folder of this data set, or one that holds it. None: the environment variable
            ``HUSHSWEEP_DATA``. A relative path that is not below the working folder is tried below it.
        split: None: the split that is reported (``test``; for ``imagefolder`` the root folder itself).
        limit: Number of images, >= 1, at the positions ``floor(i * total / limit)``, so that a folder
            sorted by class stays balanced. None: all.
        label_column: Parquet only (and cifar100: ``fine_label`` or ``coarse_label``; celeba: an attribute). None:
            ``label`` (``fine_label``; ``Smiling``).
        image_column: Parquet only. None: the column that Hugging Face declares an image, or ``image``.
        task: A key of ``datasets.tasks.TASKS``: every image gets a primary and a secondary label, and the data
            set has the parts ``train``, ``validation`` and ``test``. None: the labels as they are.
        secondary_column: Column of secondary labels (parquet, cifar100, celeba); a task made of two columns.
        train_limit: Number of images of the part ``train``, >= 1, chosen as ``limit`` chooses, from which anything
            is learned: see ``datasets.tasks.training_part``. None: all.
        class_counts: Number of images of each class, >= 0, that the part ``train`` keeps, evenly spaced within the
            class; shuffled over the classes by ``class_seed``. ``train_limit`` then chooses among them. None: all.
        class_seed: Which class gets which of ``class_counts``, >= 0.
    """

    name: str
    root: str | None = None
    split: str | None = None
    limit: int | None = None
    label_column: str | None = None
    image_column: str | None = None
    task: str | None = None
    secondary_column: str | None = None
    train_limit: int | None = None
    class_counts: tuple[int, ...] | None = None
    class_seed: int = 0


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What is known of a data set before any image is decoded.

    Attributes:
        name: As in the settings.
        split: The split that was found, never None.
        fingerprint: SHA-256 (hex) of content and labels, whatever the files' place and time.
        size: Images after ``limit``, before any turns out to be undecodable.
        total: Images before ``limit``.
        classes: Number of classes: class folders, declared names, or the largest label + 1.
        channels: 1 or 3, as stored.
        height: Pixels, where all images have this height by definition of the data set; else None.
        width: As ``height``.
        mean: Usual normalisation per channel, for pixels with black 0 and white 1; None where there is none.
        std: As ``mean``.
        class_names: Names by label, where known.
        task: Name of the task; of one made of two columns, both names joined by ``_``. None: there is no task.
        secondary_classes: As ``classes``, of the secondary labels; None without a task.
        secondary_names: As ``class_names``, of the secondary labels.
    """

    name: str
    split: str
    fingerprint: str
    size: int
    total: int
    classes: int
    channels: int
    height: int | None
    width: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    class_names: tuple[str, ...] | None
    task: str | None = None
    secondary_classes: int | None = None
    secondary_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Undecodable:
    """An image that is not in the ImageSet, and why.

    Attributes:
        index: Position in the full data set, before ``limit``.
        image: File name, or split and row number.
        reason: What the decoder said.
    """

    index: int
    image: str
    reason: str


class _Names(Sequence[str]):
    """Strings that stay in the memory-mapped file until asked for."""

    def __init__(self, strings: Any) -> None:
        self._strings = strings

    def __len__(self) -> int:
        return len(self._strings)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        found = self._strings[index]
        values: str | list[str] = found.to_pylist() if isinstance(index, slice) else found.as_py()
        return values


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ImageSet:
    """The decodable images of a data set after one geometry: read-only, memory-mapped, pickled as a path.

    Attributes:
        path: Folder of the decoded cache that holds the arrays.
        images: ``(n, channels, height, width)`` uint8, black 0 and white 255.
        labels: ``(n,)`` int64; of the primary task where there is a task.
        indices: ``(n,)`` int64, position in the full data set before ``limit``: the identity of an image.
        names: ``n`` file names, or split and row number (``test/00017``).
        secondary: ``(n,)`` int64, labels of the secondary task, or None.
        undecodable: The images that could not be decoded; ``n + len(undecodable) == info.size``.
        info: Description of the data set.
    """

    path: Path
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    names: Sequence[str]
    secondary: NDArray[np.int64] | None
    undecodable: tuple[Undecodable, ...]
    info: DatasetInfo

    @classmethod
    def open(cls, path: str | Path) -> "ImageSet":
        """Map a folder that ``load_images`` has written.

        Raises:
            OSError, ValueError, KeyError: the folder is incomplete.
        """
        path = Path(path)
        meta = json.loads((path / META_FILE).read_text(encoding="utf-8"))
        with pa.memory_map(str(path / ROWS_FILE)) as file:
            rows = pa.ipc.open_file(file).get_batch(0)
        info: dict[str, Any] = meta["info"]
        info = {key: tuple(value) if isinstance(value, list) else value for key, value in info.items()}
        images = np.load(path / IMAGES_FILE, mmap_mode="r")
        if len(images) != rows.num_rows:
            raise ValueError(f"{path}: {len(images)} images but {rows.num_rows} rows")
        return cls(
            path=path,
            images=images,
            labels=rows["label"].to_numpy(),
            indices=rows["index"].to_numpy(),
            names=_Names(rows["name"]),
            secondary=rows["secondary"].to_numpy() if "secondary" in rows.schema.names else None,
            undecodable=tuple(Undecodable(*row) for row in meta["undecodable"]),
            info=DatasetInfo(**info),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        failed = f", {len(self.undecodable)} undecodable" if self.undecodable else ""
        return f"ImageSet({self.info.name}/{self.info.split}: {len(self)} images {shape}{failed})"

    def __reduce__(self) -> tuple[Callable[..., "ImageSet"], tuple[str]]:
        return ImageSet.open, (str(self.path),)
