"""Parquet shards with an image column, as Hugging Face writes them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hushsweep.datasets.images.base import DatasetConfig, DatasetError
from hushsweep.datasets.images.published import Published
from hushsweep.datasets.images.source import Content, ImageSource, digest, numbered, probe

_WHOLE_FILES, _END = 1 << 30, 1 << 20  # bytes
_ROWS = 64  # images in memory at once, as encoded files
_PROBES = 8


def open_shards(
    config: DatasetConfig,
    shards: Sequence[Path],
    *,
    split: str,
    published: Published | None = None,
    label_column: str = "label",
    secondary_column: str | None = None,
) -> ImageSource:
    """Open shards in the order given; the columns that ``config`` names go before the other arguments.

    A ``secondary_column`` that only the argument names may be missing.

    Raises:
        DatasetError: unreadable file, columns that do not fit, or images other than the published ones.
    """
    place = f"{config.name}/{split}"
    with _open_file(shards[0]) as file:
        schema = file.schema_arrow
    declared = _declared_features(schema)
    image_column = config.image_column or _image_column(schema, declared)
    label_column = config.label_column or label_column
    if config.secondary_column == label_column:
        raise DatasetError(f"{place}: {label_column!r} is both the label_column and the secondary_column")
    for path in shards:
        _check_columns(place, path, image_column, label_column, published)
        if config.secondary_column:
            _check_label_column(place, path, config.secondary_column, "secondary_column", None)
    labels, names = _labels(place, shards, label_column, "label_column", declared)
    if not len(labels):
        raise DatasetError(f"{place}: no rows in '{shards[0]}'; how to obtain the data: docs/datasets.md")
    secondary, secondary_names = None, None
    secondary_column = config.secondary_column or secondary_column
    if secondary_column and secondary_column in schema.names:
        secondary, secondary_names = _labels(place, shards, secondary_column, "secondary_column", declared)

    def contents(positions: NDArray[np.int64]) -> Iterator[Content]:
        return _contents(shards, image_column, positions)

    headers = probe(contents(np.arange(min(_PROBES, len(labels)))))
    if published:
        _check_published(place, shards[0], published, headers, int(labels.max()))
    files = fingerprint_of(shards)
    return ImageSource(
        split=split,
        fingerprint=digest(text.encode() for text in (files, image_column, label_column)),
        pixels=digest(text.encode() for text in (files, image_column)),
        labels=labels,
        secondary=secondary,
        secondary_classes=None
        if secondary is None
        else max(len(secondary_names or ()), int(secondary.max()) + 1),
        secondary_names=secondary_names,
        contents=contents,
        name_of=numbered(split),
        classes=max(len(names or ()), int(labels.max()) + 1, published.classes if published else 0),
        channels=published.channels if published else max((channels for channels, _ in headers), default=3),
        height=published.side if published else None,
        width=published.side if published else None,
        mean=published.mean if published else None,
        std=published.std if published else None,
        class_names=names or (published.class_names if published else None),
    )


def _open_file(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DatasetError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DatasetError(f"'{path}': cannot be read as Parquet ({reason}); copy the file again")


def _declared_features(schema: pa.Schema) -> dict[str, Any]:
    """The features that Hugging Face's ``datasets`` writes into the schema's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _image_column(schema: pa.Schema, declared: dict[str, Any]) -> str:
    images = (name for name, feature in declared.items() if feature.get("_type") == "Image")
    return next((name for name in (*images, "image", "img") if name in schema.names), "image")


def _check_columns(
    place: str, path: Path, image_column: str, label_column: str, published: Published | None
) -> None:
    elsewhere = f"give the folder of {published.name} as dataset.root" if published else None
    with _open_file(path) as file:
        schema = file.schema_arrow
    kind = schema.field(image_column).type if image_column in schema.names else None
    if kind is not None and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    if kind is None or not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise DatasetError(
            f"{place}: '{path}' has no column {image_column!r} of encoded images; "
            f"{elsewhere or 'set dataset.image_column'}; its columns: {columns}"
        )
    _check_label_column(place, path, label_column, "label_column", elsewhere)


def _check_label_column(place: str, path: Path, column: str, key: str, elsewhere: str | None) -> None:
    with _open_file(path) as file:
        schema = file.schema_arrow
    if column not in schema.names:
        kind = "secondary" if key == "secondary_column" else "label"
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise DatasetError(
            f"{place}: '{path}' has no {kind} column {column!r}; "
            f"{elsewhere or f'set dataset.{key}'}; its columns: {columns}"
        )


def _labels(
    place: str, shards: Sequence[Path], column: str, key: str, declared: dict[str, Any]
) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """``(total,)`` labels of all shards, and the class names by label where there are any."""
    parts = [_read_labels(place, path, column, key) for path in shards]
    if len({part.dtype.kind for part in parts}) > 1:
        raise DatasetError(
            f"{place}: column {column!r} holds numbers in some files and text in others; use one kind"
        )
    values = np.concatenate(parts)
    if values.dtype.kind == "U":
        texts, numbers = np.unique(values, return_inverse=True)
        return numbers.astype(np.int64), tuple(texts.tolist())
    if len(values) and values.min() < 0:
        raise DatasetError(
            f"{place}: label {values.min()} in column {column!r}; is this split labelled at all?"
        )
    names = declared.get(column, {}).get("names")
    return values, tuple(map(str, names)) if isinstance(names, list) else None


def _read_labels(place: str, path: Path, column: str, key: str) -> NDArray[Any]:
    """The labels of one shard, int64 or text."""
    try:
        with _open_file(path) as file:
            values = file.read(columns=[column])[column]
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error
    if values.null_count:
        raise DatasetError(
            f"{place}: '{path}': {values.null_count} rows have no {column!r}; take them out or set "
            f"dataset.{key}"
        )
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return np.array(values.to_pylist(), dtype=str)
    if pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
        return np.asarray(values.to_numpy(), np.int64)
    raise DatasetError(
        f"{place}: '{path}': column {column!r} is {values.type}; labels must be integers >= 0 or text"
    )


def _contents(shards: Sequence[Path], column: str, positions: NDArray[np.int64]) -> Iterator[Content]:
    """Encoded images at ascending positions; row groups that hold none of them are not read."""
    first = 0
    for path in shards:
        try:
            with _open_file(path) as file:
                for group in range(file.num_row_groups):
                    last = first + file.metadata.row_group(group).num_rows
                    wanted = positions[np.searchsorted(positions, first) : np.searchsorted(positions, last)]
                    if len(wanted):
                        yield from _group_contents(file, group, column, wanted - first)
                    first = last
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, error) from error


def _group_contents(
    file: pq.ParquetFile, group: int, column: str, rows: NDArray[np.int64]
) -> Iterator[Content]:
    is_struct = pa.types.is_struct(file.schema_arrow.field(column).type)
    columns = [f"{column}.bytes" if is_struct else column]
    start = 0
    for batch in file.iter_batches(_ROWS, row_groups=[group], columns=columns):
        here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(batch))]
        cells = batch.column(0).take(pa.array(here - start))
        start += len(batch)
        for cell in cells.to_pylist():
            yield cell and cell["bytes"] if is_struct else cell


def _check_published(
    place: str,
    path: Path,
    published: Published,
    headers: set[tuple[int, tuple[int, int]]],
    largest_label: int,
) -> None:
    expected = (published.side, published.side)
    height, width = next((size for _, size in headers if size != expected), expected)
    if (height, width) != expected or largest_label >= published.classes:
        raise DatasetError(
            f"{place}: '{path}' holds {width}x{height} images with labels up to {largest_label}, expected "
            f"{published.side}x{published.side} and {published.classes} classes; give the folder of "
            f"{published.name} as dataset.root"
        )


def fingerprint_of(paths: Sequence[Path]) -> str:
    """SHA-256 of files in this order; above 1 GiB in all, of their sizes, first and last MiB (Parquet's footer)."""
    found = [(path, path.stat()) for path in paths]
    whole = sum(status.st_size for _, status in found) <= _WHOLE_FILES
    return digest(
        _digest_at(path, status.st_size, status.st_mtime_ns, whole).encode() for path, status in found
    )


@lru_cache(maxsize=1024)
def _digest_at(path: Path, size: int, modified: int, whole: bool) -> str:
    with path.open("rb") as file:
        if whole or size <= 2 * _END:
            return hashlib.file_digest(file, "sha256").hexdigest()
        start = file.read(_END)
        file.seek(-_END, 2)
        return digest([str(size).encode(), start, file.read()])
