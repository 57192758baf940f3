"""What a node says of itself; nothing else is imported, since it runs where hushsweep may be missing."""

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
        results: the results folder, or the nearest folder above it, or an address in S3.
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
        "results": (_bucket if results.startswith("s3://") else _results)(results, mark, content),
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


def _results(results: str, mark: str, content: str) -> str:
    folder = Path(results)
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


def _bucket(address: str, mark: str, content: str) -> str:
    try:
        import obstore
        from obstore.store import S3Store
    except ImportError:
        return "obstore is missing"
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    own = f"{mark}-{os.getpid()}"
    try:
        store = S3Store(
            bucket,
            prefix=prefix or None,
            client_options={"allow_http": plain},
            retry_config={"max_retries": 2},
        )
        obstore.put(store, own, b"")
        obstore.delete(store, own)
    except Exception as error:  # of whatever kind: the node has to answer
        return f"cannot be written: {' '.join(str(error).split())[:100]}"
    try:
        seen = bytes(obstore.get(store, mark).bytes())
    except FileNotFoundError:
        seen = b""
    return "" if seen == content.encode() else "another place than on the node that asks"
