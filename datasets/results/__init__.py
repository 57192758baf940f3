"""The Parquet store of results and its schema."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.datasets.results.buckets import bucket_address as bucket_address
    from hushsweep.datasets.results.buckets import bucket_of as bucket_of
    from hushsweep.datasets.results.buckets import results_folder as results_folder
    from hushsweep.datasets.results.buckets import results_name as results_name
    from hushsweep.datasets.results.compaction import Compacted as Compacted
    from hushsweep.datasets.results.compaction import compact as compact
    from hushsweep.datasets.results.errors import LockHeldError as LockHeldError
    from hushsweep.datasets.results.errors import StoreError as StoreError
    from hushsweep.datasets.results.reading import read_whole as read_whole
    from hushsweep.datasets.results.schema import PROVENANCE_COLUMNS as PROVENANCE_COLUMNS
    from hushsweep.datasets.results.schema import SCHEMA_VERSION as SCHEMA_VERSION
    from hushsweep.datasets.results.schema import TABLES as TABLES
    from hushsweep.datasets.results.schema import arrow_schema as arrow_schema
    from hushsweep.datasets.results.store import Store as Store
    from hushsweep.datasets.results.store import is_store as is_store

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "buckets": ["bucket_address", "bucket_of", "results_folder", "results_name"],
        "compaction": ["Compacted", "compact"],
        "errors": ["LockHeldError", "StoreError"],
        "reading": ["read_whole"],
        "schema": ["PROVENANCE_COLUMNS", "SCHEMA_VERSION", "TABLES", "arrow_schema"],
        "store": ["Store", "is_store"],
    },
)
