"""What to run: sweep files, points, the planner, the Ray Tune driver and the command line."""

if not __name__.startswith("hushsweep."):
    raise ImportError(
        f"this folder is the package hushsweep.sweeps, imported here as {__name__!r}; use 'import hushsweep.sweeps'"
    )
