"""Weight files: read without running code, compare with a network, find or fetch published ones."""

import hashlib
import os
import pickle
import shutil
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock
from huggingface_hub import hf_hub_download
from huggingface_hub.constants import HF_HUB_OFFLINE
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models.architectures import Published

_ONLY_TENSORS = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
SUFFIXES = (".safetensors", ".pth", ".pt")


def is_path(weights: str) -> bool:
    """Whether ``weights`` names a file rather than published weights or a way to make some."""
    return weights.endswith(SUFFIXES) or "/" in weights or os.sep in weights


def weights_file(weights: str) -> Path:
    """Turn what the user wrote into the path of an existing file of a kind that is safe to read."""
    path = Path(weights).expanduser()
    if path.suffix not in SUFFIXES:
        raise PlugInError(f"weights {weights!r}: expected a file ending in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise PlugInError(f"weights {weights!r}: there is no such file; looked at {path.absolute()}")
    return path


def sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state(path: Path, *, part: Literal["client", "server"] | None = None) -> dict[str, Tensor]:
    """Read named tensors; nothing in the file is executed.

    A checkpoint that keeps them under ``state_dict`` or ``model`` is read too, and the ``module.`` that
    data-parallel training puts before names goes if every name has it.

    Args:
        path: Of the file.
        part: Of a file in which a mechanism that learned keeps its client beside the server's network, only that.

    Raises:
        PlugInError: the file is damaged or holds anything but tensors.
    """
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _read_pickle(path)
    except (OSError, RuntimeError, EOFError, ValueError, SafetensorError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise PlugInError(
            f"weights {str(path)!r} cannot be read: {reason}; "
            "expected a state_dict, saved by safetensors or torch.save (tensors only, no pickled objects)"
        ) from error
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    learned = {name.partition(".")[0] for name in state} <= {"client", "server"}
    if learned and part is not None:
        own = {name: tensor for name, tensor in state.items() if name.startswith(f"{part}.")}
        return {name.removeprefix(f"{part}."): tensor for name, tensor in own.items()} or state
    return state


@contextmanager
def tensors_only(path: Path) -> Iterator[None]:
    """Keep libraries that read the published file `path` from unpickling, which torch.hub does unless torch is told.

    Raises:
        PlugInError: the file holds anything but tensors, or is damaged.
    """
    # a whole process's setting, but one that can only make other threads safer meanwhile
    before = os.environ.get(_ONLY_TENSORS)
    os.environ[_ONLY_TENSORS] = "1"
    try:
        yield
    except (EOFError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise PlugInError(
            f"published weights {str(path)!r} cannot be read: {reason}; delete the file"
        ) from error
    finally:
        if before is None:
            del os.environ[_ONLY_TENSORS]
        else:
            os.environ[_ONLY_TENSORS] = before


def _read_pickle(path: Path) -> dict[str, Tensor]:
    content = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"its entry {name!r} is a {type(tensor).__name__}")
    return dict(content)


def check_fit(
    source: object, state: Mapping[str, Tensor], network: Mapping[str, Tensor], *, model: str
) -> None:
    """Compare names and shapes of a file with those of a network.

    Raises:
        PlugInError: they differ; with the first differences.
    """
    problems = [
        f"{name} has shape {tuple(state[name].shape)}, expected {tuple(network[name].shape)}"
        for name in network
        if name in state and state[name].shape != network[name].shape
    ]
    # A count that only matters for continued training with a cumulative average.
    missing = [name for name in network if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in network]
    problems += [f"{len(missing)} are missing ({_some(missing)})"] if missing else []
    problems += [f"{len(unexpected)} are not the network's ({_some(unexpected)})"] if unexpected else []
    if problems:
        raise PlugInError(f"weights {str(source)!r} do not fit model {model!r}: {'; '.join(problems[:4])}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def fetch(published: Published, *, timeout: float = 3.0) -> Path:
    """Return the file of published weights, fetching it once per machine if it is not there yet.

    Args:
        published: What and where.
        timeout: Seconds to wait for any sign of a network before giving up.

    Raises:
        PlugInError: it is not there and cannot be fetched (says where to put it), or it is damaged.
    """
    path = published.path
    if not path.is_file():
        if HF_HUB_OFFLINE or not _reachable(published.url, timeout):
            reason = "HF_HUB_OFFLINE is set" if HF_HUB_OFFLINE else "there is no network"
            raise PlugInError(
                f"weights {published.label!r} are not at {path} and {reason}: {published.advice}"
            )
        try:
            path = _download(published)
        except Exception as error:  # the hub's client raises kinds of its own besides OSError
            raise PlugInError(f"weights {published.label!r}: {error}; {published.advice}") from error
    if published.sha256 and not sha256(path).startswith(published.sha256):
        raise PlugInError(
            f"weights {published.label!r}: {path} is damaged (wrong SHA-256); delete it and run again"
        )
    return path


def _download(published: Published) -> Path:
    if published.repository is not None:
        return Path(hf_hub_download(published.repository, published.path.name))
    path = published.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not path.is_file():
            part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            try:
                # A fresh opener, since urlopen keeps the proxies of its first call for ever.
                opener = urllib.request.build_opener()
                with opener.open(published.url, timeout=60) as source, part.open("wb") as target:
                    shutil.copyfileobj(source, target)
                    target.flush()
                    os.fsync(target.fileno())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
    return path


def _reachable(url: str, timeout: float) -> bool:
    """Whether anything answers there; a thread, because looking a name up cannot be given a time limit."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urllib.parse.urlsplit(proxy)
    address = (parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, 443))
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=timeout).close()
        except OSError:
            return
        answered.set()

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(timeout)
    return answered.is_set()
