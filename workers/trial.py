"""What a worker is given: plain values, no sweep file."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from hushsweep.datasets.images import DatasetConfig
from hushsweep.workers.models import ModelConfig


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One mechanism of a chain."""

    name: str
    at: Literal["cut", "input"] = "cut"
    parameters: dict[str, Any] = field(default_factory=dict)
    target_accuracy_loss: float | None = None
    """In place of a level: the largest loss of top-1 accuracy, a fraction, that the level found may cost."""
    calibration: str = "half"
    """Where that level is found: every other image, or the name of another split."""


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """One measure with its options, and the id of the two."""

    measure_id: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PointConfig:
    """One point and what is missing of it."""

    point_id: str
    curve_id: str
    stages: tuple[StageConfig, ...]
    seed: int
    measures: tuple[MeasureConfig, ...]
    fields: dict[str, Any]
    """The columns of its rows that are known beforehand."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The points that run together because they share data, model, weights and cut; one shard of them."""

    dataset: DatasetConfig
    input_size: int | None
    model: ModelConfig
    cut: str
    precision: str
    device: str
    points: tuple[PointConfig, ...]
    shard: int = 0
    shards: int = 1
    salt: str = ""
    """Sets a repetition on purpose apart from what was computed before."""

    @property
    def trial_id(self) -> str:
        """The same for all shards of a trial, and for every attempt."""
        work = sorted(
            (point.point_id, measure.measure_id) for point in self.points for measure in point.measures
        )
        return content_id({"work": work, "shards": self.shards, "salt": self.salt})

    def work_id(self, measure: MeasureConfig, point_ids: Iterable[str]) -> str:
        """Names one measure of some points, whatever else the trial has to do; equal for all shards."""
        work = {"points": sorted(point_ids), "measure": measure.measure_id}
        return content_id({**work, "shards": self.shards, "salt": self.salt})


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a trial runs; nothing here changes a number."""

    batch_size: int = 64
    threads: int = 1
    decode_threads: int = 2
    feature_cache_gb: float = 20.0
    timeout_s: float | None = None
    """Seconds without progress after which the process of the trial ends; None waits for ever."""


def content_id(value: Any) -> str:
    """Hash plain values: SHA-256 of their canonical JSON, 20 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
