"""Devices are chosen by what works, and every setting is put back."""

import pytest
import torch

from hushsweep.workers.devices import deterministic, device_name, resolve_device, threads
from hushsweep.workers.errors import PlugInError


def test_auto_takes_a_gpu_only_if_there_is_one(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # as a scheduler sets it for a logical GPU
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == torch.device("cpu")
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cudnn.benchmark


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said():
    with pytest.raises(PlugInError, match=r"'cuda' was asked for.*use auto or cpu"):
        resolve_device("cuda")


def test_unknown_device():
    with pytest.raises(PlugInError, match=r"expected one of auto, cpu, cuda, got 'tpu'"):
        resolve_device("tpu")


def test_names_the_hardware():
    assert device_name("cpu").strip()
    assert device_name(torch.device("cpu")) == device_name("cpu")


def test_settings_are_put_back_after_a_failure():
    count, inside = torch.get_num_threads(), []

    def fail() -> None:
        with threads(count + 1), deterministic():
            inside.append((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert inside == [(count + 1, True)]
    assert torch.get_num_threads() == count
    assert not torch.are_deterministic_algorithms_enabled()
