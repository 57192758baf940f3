"""A results folder as two sweeps leave it, written through Store with rows shaped like real ones."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hushsweep.datasets.results import Store

ACCURACY, HCR = "a1" * 8, "b2" * 8
LEVELS = (0.25, 0.5, 1.0, 2.0, 4.0)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODELS = {"torchvision/resnet18": 0.97, "timm/swin_tiny_patch4_window7_224": 0.93}


def curve_id(model: str, mechanism: str) -> str:
    return f"curve-{model.rpartition('/')[2][:8]}-{mechanism}"


def point(model: str, mechanism: str, level: float | None) -> dict[str, Any]:
    """A plan's entry for one point."""
    curve = curve_id(model, mechanism)
    fields = {
        "dataset": "imagefolder",
        "split": "val",
        "data_fingerprint": "f" * 64,
        "limit": 1000,
        "input_size": 91,
        "model": model,
        "weights": "prototype",
        "weights_digest": "d" * 64,
        "model_seed": 0,
        "num_classes": 1000,
        "cut": "features",
        "mechanism": mechanism,
        "mechanism_json": json.dumps(
            [{"name": mechanism, "at": "cut", "parameters": {"noise_scale": level}}], sort_keys=True
        ),
        "level_name": "noise_scale",
        "level": level,
        "noise_scale": level,
        "applied_noise_std": None if level is None else 0.7 * level,
        "seed": 0,
        "precision": "float32",
        "device_type": "cpu",
    }
    measures = [
        {"measure_id": ACCURACY, "name": "accuracy", "options": {"draws": 25}},
        {"measure_id": HCR, "name": "hcr", "options": {"images": 16}},
    ]
    label = f"{model} {mechanism} {level}"
    return {
        "point_id": f"{curve}-{level}",
        "curve_id": curve,
        "label": label,
        "fields": fields,
        "measures": measures,
    }


def points(
    mechanisms: Iterable[str] = ("gaussian", "laplace"), levels: Sequence[float] = LEVELS
) -> list[dict[str, Any]]:
    return [
        point(model, mechanism, level) for model in MODELS for mechanism in mechanisms for level in levels
    ]


def measurements(entry: dict[str, Any], measure: dict[str, Any], trial: str) -> list[dict[str, Any]]:
    """The rows a trial leaves for one measure of one point; the numbers are smooth functions of the level."""
    level, clean = entry["fields"]["level"], MODELS[entry["fields"]["model"]]
    heavy = 1.2 if entry["fields"]["mechanism"] == "laplace" else 1.0
    top1 = 0.001 + (clean - 0.001) / (1 + (level * heavy / 2.2) ** 3)
    bound = 0.31 * level / (0.4 + clean) * heavy
    if measure["name"] == "accuracy":
        values = {"clean_top1": clean, "clean_top5": 0.99, "top1": top1, "top5": min(0.99, 1.1 * top1)}
        statistics = [
            (name, value, "fraction", math.sqrt(value * (1 - value) / 1000)) for name, value in values.items()
        ]
        statistics.append(("undecodable", 1.0, "images", None))
    else:
        values = {"std_bound_mean": 1.1 * bound, "std_bound_median": bound, "std_bound_max": 3 * bound}
        statistics = [(name, value, "normalised pixel", None) for name, value in values.items()]
        statistics.append(("mse_bound", bound**2, "normalised pixel^2", None))
    common = {
        **entry["fields"],
        "point_id": entry["point_id"],
        "curve_id": entry["curve_id"],
        "measure_id": measure["measure_id"],
        "measure": measure["name"],
        "options": json.dumps(measure["options"]),
        "computed_by": trial,
        "status": "complete",
        "caveat": "memorised, not validation",
        "computed_at": START + timedelta(seconds=LEVELS.index(level) if level in LEVELS else 60),
        "seconds": 10.0 if measure["name"] == "accuracy" else 30.0,
        "n": 1000 if measure["name"] == "accuracy" else 16,
        "node": "vm",
        "device": "cpu",
        "worker": "vm:1",
        "torch_version": "2.15",
        "git_commit": "0" * 40,
    }
    return [
        {**common, "statistic": name, "value": value, "unit": unit, "stderr": stderr, "reason": _names(name)}
        for name, value, unit, stderr in statistics
    ]


def _names(statistic: str) -> str | None:
    return "n01440764/broken.JPEG" if statistic == "undecodable" else None


def failed(entry: dict[str, Any], measure: dict[str, Any], trial: str, reason: str) -> list[dict[str, Any]]:
    """The row of a measure that could not be computed."""
    row = measurements(entry, measure, trial)[0]
    return [
        {
            **row,
            "statistic": measure["name"],
            "value": None,
            "stderr": None,
            "n": None,
            "status": "failed",
            "reason": reason,
        }
    ]


def plan_of(name: str, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "sweep": name,
        "created_at": START.isoformat(),
        "spec": {"name": name},
        "points": list(entries),
    }


def write_trial(store: Store, trial: str, entries: Sequence[dict[str, Any]], measure: str = ACCURACY) -> Path:
    """Store one trial's rows of one measure, as a worker does."""
    rows = [
        row
        for entry in entries
        for planned in entry["measures"]
        if planned["measure_id"] == measure
        for row in measurements(entry, planned, trial)
    ]
    return store.write("measurements", f"{trial}.{measure}", rows)


def fill_folder(root: Path) -> Store:
    """Fill a folder: sweep `both` with four curves, sweep `small` sharing one of them."""
    store = Store(root)
    entries = points()
    shared = [entry for entry in entries if entry["curve_id"] == curve_id("torchvision/resnet18", "gaussian")]
    store.write_sweep("both", spec_text="name: both\n", plan=plan_of("both", entries))
    store.write_sweep("small", spec_text="name: small\n", plan=plan_of("small", shared))
    for model in MODELS:
        own = [entry for entry in entries if entry["fields"]["model"] == model]
        trial = f"trial-{model.rpartition('/')[2][:8]}"
        for measure in (ACCURACY, HCR):
            write_trial(store, trial, own, measure)
    return store


@pytest.fixture
def fill() -> Callable[[Path], Store]:
    """Return :func:`fill_folder`."""
    return fill_folder
