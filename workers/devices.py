"""The device that numbers are computed on, set so that they can be computed again."""

import os
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hushsweep.workers.errors import PlugInError

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(name: str = "auto") -> torch.device:
    """Choose a device and make float32 mean float32 there: no TF32, no timing-dependent choice of kernels.

    Args:
        name: ``cpu``, ``cuda``, or ``auto`` for a GPU if one really works here.

    Raises:
        PlugInError: unknown name, or ``cuda`` without a GPU.
    """
    if name not in DEVICES:
        raise PlugInError(f"device: expected one of {', '.join(DEVICES)}, got {name!r}")
    # Asks the driver: schedulers set CUDA_VISIBLE_DEVICES for logical GPUs on machines without any.
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise PlugInError("device: 'cuda' was asked for, but torch finds no usable GPU here; use auto or cpu")
    # cuBLAS reads this when it starts; without it deterministic algorithms are refused.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def device_name(device: torch.device | str) -> str:
    """Name the hardware behind a device, for a row's provenance."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor() or platform.machine() or "cpu"


def search_memory(device: torch.device | str) -> int:
    """Return the bytes that a search for shifts may take: a quarter of a GPU's memory, 2 GiB of main memory."""
    device = torch.device(device)
    total: int = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else 2**33
    return total // 4


def peak_memory(device: torch.device | str) -> float:
    """Return the most memory that this process has had in use so far, GiB: the GPU's, or its own on a CPU."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB on Linux, in bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Compute in bfloat16 where that is safe, if asked to."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()


def in_channels_last(values: Tensor) -> Tensor:
    """Lay images or maps out as convolutions like them best, pixel by pixel; other values stay as they are."""
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with a fixed number of CPU threads, since their number changes the rounding of sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic() -> Iterator[None]:
    """Allow only algorithms that give the same bits every time; others raise a RuntimeError."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic  # a module whose one attribute is a property
    filled = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    # a tenth of the time of small networks, against code that reads what nobody wrote
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        settings.fill_uninitialized_memory = filled
