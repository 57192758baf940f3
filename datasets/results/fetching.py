"""Files of a bucket for DuckDB: fetched when a query first reads them, in the columns and rows that it needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FileSystemHandler, PyFileSystem

from hushsweep.datasets.results.files import available


def fetched_dataset(paths: Sequence[Path], schema: pa.Schema) -> ds.Dataset:
    """Return files as one table in the columns of `schema`, null where a file is older; none is fetched yet.

    Args:
        paths: Where their copies are to be.
        schema: Of the table.
    """
    return ds.FileSystemDataset.from_paths(
        [str(path) for path in paths],
        schema=schema,
        format=ds.ParquetFileFormat(),
        filesystem=PyFileSystem(_Fetching()),
    )


def _refused(self: Any, *_: Any) -> Any:
    raise OSError("these files are read only")


class _Fetching(FileSystemHandler):  # type: ignore[misc]
    """Opens the copies of files, and nothing else."""

    def get_type_name(self) -> str:
        return "hushsweep"

    def open_input_file(self, path: str) -> pa.NativeFile:
        if not available(Path(path), listed=True):
            raise FileNotFoundError(f"No such file: {path}")
        return pa.memory_map(path)

    open_input_stream = open_input_file

    def normalize_path(self, path: str) -> str:
        return path

    get_file_info = get_file_info_selector = create_dir = delete_dir = delete_dir_contents = _refused
    delete_root_dir_contents = delete_file = move = copy_file = open_output_stream = open_append_stream = (
        _refused
    )
