"""What people look at: SQL views, figures and the MLflow mirror. Opens without torch."""

if not __name__.startswith("hushsweep."):
    raise ImportError(
        f"this folder is the package hushsweep.dashboards, imported here as {__name__!r}; use 'import hushsweep.dashboards'"
    )
