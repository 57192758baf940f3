"""What runs on a device: models and cuts, mechanisms, bounds, measures, training and evaluation."""

if not __name__.startswith("hushsweep."):
    raise ImportError(
        f"this folder is the package hushsweep.workers, imported here as {__name__!r}; use 'import hushsweep.workers'"
    )
