"""Bytes on disk: input images with their decoded cache, and the Parquet store of results."""

if not __name__.startswith("hushsweep."):
    raise ImportError(
        f"this folder is the package hushsweep.datasets, imported here as {__name__!r}; use 'import hushsweep.datasets'"
    )
