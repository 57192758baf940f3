"""What a node says of itself; the standard library alone, since it runs where hushsweep may be missing."""

import importlib.util
import os
import platform
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def probe(results: str, mark: str, content: str) -> dict[str, Any]:
    """Look at the node that this runs on.

    Args:
        results: the results folder, or the nearest folder above it.
        mark: name of a file that was written there on another node.
        content: what stands in that file.

    Returns:
        ``versions`` by package (None: not installed), ``gpus`` by name, ``data``: the folder of HUSHSWEEP_DATA or
        None, ``data_there``, ``results``: "" or what is wrong with the folder, ``free``: bytes.
    """
    data = os.environ.get("HUSHSWEEP_DATA")
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "gpus": _gpus(),
        "data": data,
        "data_there": data is not None and os.access(data, os.R_OK | os.X_OK),
        "results": _results(Path(results), mark, content),
        "free": shutil.disk_usage(results).free if Path(results).is_dir() else None,
    }


_PACKAGES = ("hushsweep", "torch", "ray")


def _version(name: str) -> str | None:
    module = "hushsweep.sweeps" if name == "hushsweep" else name
    try:
        return version(name) if importlib.util.find_spec(module) else None
    except (PackageNotFoundError, ModuleNotFoundError):
        return None


def _gpus() -> list[str]:
    try:
        import torch
    except ImportError:
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _results(folder: Path, mark: str, content: str) -> str:
    if not folder.is_dir():
        return "not there"
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return f"cannot be written: {error.strerror}"
    try:
        seen = (folder / mark).read_text()
    except OSError:
        seen = ""
    return "" if seen == content else "another folder than on the node that asks"
