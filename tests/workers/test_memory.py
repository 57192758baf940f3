"""Batches that do not fit into memory become smaller, and no number changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rows_support import assert_same_rows

from hushsweep.dashboards import run_query
from hushsweep.sweeps import Summary, run
from hushsweep.workers.memory import BatchLimit, BatchMemoryError

NETWORK = '''
import json
import os
import pathlib

import torch
from torch import nn


def real(values):
    """Whether these are digits, whose corners are black: what is looked at beforehand is random."""
    return values.ndim == 2 or bool((values[..., 0, 0] == values[..., -1, 0]).all())


class Tight(nn.Module):
    """A network for whose features, or whose head, the device has no memory beyond ``TIGHT_IMAGES`` images."""

    def __init__(self, *, num_classes, in_channels):
        super().__init__()
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, 32))
        self.second = nn.Sequential(nn.ReLU(), nn.Linear(32, num_classes))

    def _take(self, part, values):
        with pathlib.Path(os.environ["TIGHT_LOG"]).open("a") as log:
            log.write(json.dumps([part, len(values)]) + "\\n")
        if part == os.environ["TIGHT_PART"] and len(values) > int(os.environ["TIGHT_IMAGES"]) and real(values):
            if os.environ["TIGHT_KIND"] == "device":
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(values)} GiB. GPU 0 has")
            torch.empty(len(values) << 50, dtype=torch.uint8)  # no machine has that much

    def forward_features(self, x):
        self._take("features", x)
        return self.first(x)

    def forward_head(self, x):
        self._take("head", x)
        return self.second(x)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))
'''
SWEEP = """
name: tight
dataset: {name: digits, limit: 90}
model: {name: "tight_plugin:Tight", weights: random}
mechanism:
  - {name: none}
  - {name: gaussian, noise_scale: [0.5, 2]}
  - {name: laplace, noise_scale: 1, at: input}
measures:
  - {name: accuracy, draws: 2}
  - {name: information, images: 40, knn: false}
execution: {batch_size: 64, feature_cache_gb: CACHE}
"""


@pytest.fixture
def tight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tight_plugin.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TIGHT_LOG", str(tmp_path / "log"))

    def go(results: str, part: str, images: int, *, kind: str = "device", cache: int = 20) -> Summary:
        for name, value in (("PART", part), ("IMAGES", images), ("KIND", kind)):
            monkeypatch.setenv(f"TIGHT_{name}", str(value))
        (tmp_path / "log").unlink(missing_ok=True)
        (tmp_path / "tight.yaml").write_text(SWEEP.replace("CACHE", str(cache)))
        return run(
            tmp_path / "tight.yaml",
            results=tmp_path / results,
            local=True,
            mirror=False,
            allow_plugins=["tight_plugin"],
        )

    return go


def sizes(tmp_path: Path, part: str) -> list[int]:
    """Batches that the network was given, in order."""
    lines = (line.strip("[]").split(", ") for line in (tmp_path / "log").read_text().splitlines())
    return [int(size) for name, size in lines if name == f'"{part}"']


@pytest.mark.parametrize(
    ("part", "kind", "cache"),
    [("features", "device", 20), ("features", "machine", 0), ("head", "device", 20)],
)
def test_rows_are_those_of_an_undisturbed_run(
    tight, tmp_path: Path, part: str, kind: str, cache: int
) -> None:
    assert tight("whole", "nothing", 0).exit_code == 0
    assert max(sizes(tmp_path, part)) == 64
    summary = tight("tight", part, 10, kind=kind, cache=cache)
    assert summary.exit_code == 0, summary.failures
    assert_same_rows(tmp_path / "whole", tmp_path / "tight")
    tried = sizes(tmp_path, part)
    assert [size for size in tried if size > 10] == [64, 32, 16], "what did not fit is tried once"
    assert max(tried[tried.index(16) + 1 :]) == 8


def test_one_image_without_memory_fails_with_a_sentence(tight, tmp_path: Path) -> None:
    summary = tight("none", "features", 0)
    assert summary.exit_code == 1
    assert summary.missing == summary.wanted - 2, "without noise at the cut there is no information to bound"
    (reason,) = summary.failures
    assert "no memory for a batch of 1 image, down to which execution.batch_size was halved" in reason
    assert "CUDA out of memory" in reason
    assert "gpus_per_trial: 1" in reason
    statuses = run_query(
        tmp_path / "none", "SELECT DISTINCT status FROM measurements WHERE measure = 'accuracy'"
    ).to_pylist()
    assert statuses == [{"status": "failed"}]
    assert tight("none", "features", 7).exit_code == 0, "a failed point is tried again"


def test_other_errors_are_left_alone() -> None:
    def fail(part: range) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    limit = BatchLimit()
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        list(limit.pieces(range(8), fail))
    assert limit.images is None


@pytest.mark.parametrize("most", [1, 2, 3, 5, 64])
def test_pieces_are_the_whole_in_order(most: int) -> None:
    def compute(part: range) -> np.ndarray:
        if len(part) > most:
            raise MemoryError
        return np.array(part)

    limit = BatchLimit()
    parts = [range(0, 7), range(7, 20), range(20, 20), range(20, 21)]
    found = [values for part in parts for _, values in limit.pieces(part, compute)]
    assert np.concatenate(found).tolist() == list(range(21))
    with pytest.raises(BatchMemoryError, match="MemoryError"):
        list(limit.pieces(range(3), lambda part: (_ for _ in ()).throw(MemoryError())))


def test_what_a_failed_try_allocated_is_gone_before_the_next() -> None:
    """Else half a batch would not fit beside what is left of the whole one."""
    alive = set[int]()

    class Allocated:
        def __init__(self, number: int) -> None:
            self.number = number
            alive.add(number)

        def __del__(self) -> None:
            alive.discard(self.number)

    def compute(part: range) -> None:
        assert not alive
        held = Allocated(len(part))
        if held.number > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert len(list(BatchLimit().pieces(range(8), compute))) == 4
