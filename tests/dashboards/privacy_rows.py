"""A sweep of learned noise as its measures leave it, written through Store."""

import json
import math
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from hushsweep.datasets.results import Store
from tests.dashboards.conftest import START, plan_of

ACCURACY, INFORMATION, HCR = "a1" * 8, "f1" * 8, "b2" * 8
ATTACKERS = {"d1" * 8: ("single", 1), "d2" * 8: ("mask", 1), "d3" * 8: ("average", 4)}
CLEAN, FLOOR, SEEDS = 0.992, 0.2163, (0, 1, 2)
PENALTIES, SCALES = (0.1, 0.3, 1.0, 1.5, 3.0), (0.25, 0.5, 1.0, 2.0)
# name, server, place, level's name, level of half the primary task, level of half the secondary task
METHODS = {
    "ani": ("ani", "scratch", "input", "penalty", 4.0, 0.9),
    "cloak, retrained": ("cloak", "scratch", "input", "penalty", 6.0, 9.0),
    "cloak, frozen server": ("cloak", "frozen", "input", "penalty", 3.0, 6.0),
    "gaussian": ("gaussian", None, "input", "noise_scale", 3.2, 1.5),
}
SIDE = 28


def learned_point(
    method: str,
    level: float | None,
    seed: int,
    *,
    place: str | None = None,
    dataset: str = "mnist",
    attackers: Iterable[str] = tuple(ATTACKERS),
    **parameters: Any,
) -> dict[str, Any]:
    """A plan's entry for one point of `method`, which is a key of METHODS or `none`."""
    name, server, at, level_name, _, _ = METHODS.get(method, ("none", None, "input", None, 1, 1))
    at = place or at
    given = {**({} if level_name is None else {level_name: level}), **({"server": server} if server else {})}
    stage = {"name": name, "at": at, "parameters": {**given, **parameters}}
    stage |= {"target_accuracy_loss": None, "calibration": "half"}
    curve = f"{dataset}-{method}-{at}-{parameters}-{seed}"
    fields = {
        "dataset": dataset,
        "split": "test",
        "data_fingerprint": "f" * 64,
        "limit": 2000,
        "task": "below 5 | digit",
        "model": "conv5",
        "weights": "train",
        "weights_digest": f"{method} {level} {seed}",  # as of a server that is learned
        "model_seed": 0,
        "num_classes": 2,
        "cut": "features",
        "mechanism": name + ("@input" if at == "input" else ""),
        "mechanism_json": json.dumps([stage], sort_keys=True),
        "level_name": level_name,
        "level": level,
        "penalty": level if level_name == "penalty" else None,
        "noise_scale": level if level_name == "noise_scale" else None,
        "client_flops": 226_000 if level_name == "penalty" else None,
        "server_flops": 4_520_000,
        "seed": seed,
        "precision": "float32",
        "device_type": "cpu",
    }
    measures = [{"measure_id": ACCURACY, "name": "accuracy", "options": {"draws": 5}}]
    for measure_id, (attacker, queries) in ATTACKERS.items():
        if measure_id in attackers:
            options = {"attacker": attacker, "queries": queries}
            measures.append({"measure_id": measure_id, "name": "secondary", "options": options})
    measures.append({"measure_id": INFORMATION, "name": "information", "options": {}})
    return {
        "point_id": f"{curve}-{level}",
        "curve_id": curve,
        "label": f"{method} {level} seed {seed}",
        "fields": fields,
        "measures": measures,
        "method": method,
    }


def learned_points(
    methods: Sequence[str] = tuple(METHODS), seeds: Sequence[int] = SEEDS, **options: Any
) -> list[dict[str, Any]]:
    """What is left alone, then every method at every level with every seed."""
    points = [learned_point("none", None, 0, **options)]
    for method in methods:
        levels = SCALES if METHODS[method][3] == "noise_scale" else PENALTIES
        points += [learned_point(method, level, seed, **options) for level in levels for seed in seeds]
    return points


def numbers(entry: dict[str, Any]) -> dict[str, float]:
    """The accuracies and informations of a point: smooth in the level, with a little of the seed."""
    level, seed = entry["fields"]["level"], entry["fields"]["seed"]
    wobble = np.random.default_rng([seed, int(1000 * (level or 0)), len(entry["method"])]).normal(size=4)
    _, _, _, _, half_primary, half_secondary = METHODS.get(entry["method"], ("", None, "", None, 1.0, 1.0))
    loss = 0.0 if level is None else (level / half_primary) ** 2.2
    learned = 1.0 if level is None else 1 / (1 + (level / half_secondary) ** 1.8)
    primary = 0.5 + (CLEAN - 0.5) / (1 + loss) + 0.002 * wobble[0] * (level is not None)
    single = FLOOR + (0.985 - FLOOR) * learned + 0.012 * wobble[1] * (level is not None)
    found = {"primary": primary, "single": single, "mask": min(0.99, single + 0.01), "floor": FLOOR}
    found["average"] = min(0.99, single + 0.05 * learned + 0.01)
    if level is not None:
        found["mi_upper"] = 900 * learned / (0.2 + level) + 5 * abs(wobble[2])
        found["mi_lower"] = min(math.log2(2000), 0.5 * found["mi_upper"])
    return found


def rows_of(
    entry: dict[str, Any],
    found: dict[str, float] | None = None,
    *,
    trial: str = "t",
    status: str = "complete",
    measures: Iterable[str] | None = None,
) -> list[dict[str, Any]]:
    """The rows of a point's measures, all unless told; or one row per measure that says why there is no number."""
    found, rows = numbers(entry) if found is None else found, list[dict[str, Any]]()
    for number, measure in enumerate(entry["measures"]):
        if measures is not None and measure["measure_id"] not in measures:
            continue
        common = {
            **entry["fields"],
            "point_id": entry["point_id"],
            "curve_id": entry["curve_id"],
            "measure_id": measure["measure_id"],
            "measure": measure["name"],
            "options": json.dumps(measure["options"], sort_keys=True),
            "computed_by": trial,
            "computed_at": START + timedelta(seconds=number),
            "seconds": 20.0,
            "status": "complete",
            "n": 2000,
        }
        if status != "complete":
            rows.append({**common, "status": status, "n": None, "reason": f"{status} because"})
            continue
        for name, value, unit, stderr in _statistics(measure, found):
            has = value is not None
            reason = None if has else "infinite without noise"
            row = {**common, "statistic": name, "value": value, "unit": unit, "stderr": stderr}
            rows.append({**row, "status": "complete" if has else "not_applicable", "reason": reason})
    return rows


def _statistics(
    measure: dict[str, Any], found: dict[str, float]
) -> list[tuple[str, float | None, str, float | None]]:
    if measure["name"] == "accuracy":
        top1 = found["primary"]
        return [
            ("clean_top1", CLEAN, "fraction", 0.002),
            ("top1", top1, "fraction", math.sqrt(max(0.0, top1 * (1 - top1)) / 2000)),
            ("validation_top1", top1 + 0.001, "fraction", None),
        ]
    if measure["name"] == "secondary":
        top1 = found[measure["options"]["attacker"]]
        return [
            ("top1", top1, "fraction", 0.01),
            ("floor", found["floor"], "fraction", None),
            ("validation_top1", top1 - 0.002, "fraction", None),
            ("information", 3.3 * (top1 - FLOOR), "bit", None),
            ("entropy", 3.319, "bit", None),
        ]
    upper = found.get("mi_upper")
    return [
        ("mi_upper_diagonal", None if upper is None else 1.2 * upper, "bit", None),
        ("mi_upper_full", upper, "bit", None),
        ("mi_lower_infonce", found.get("mi_lower"), "bit", None),
        ("mi_lower_cap", math.log2(2000), "bit", None),
    ]


def picture_rows(
    entry: dict[str, Any], trial: str = "t", images: Sequence[int] = (3, 7)
) -> list[dict[str, Any]]:
    """A disc as it is, its mask, and what leaves."""
    level, y, x = entry["fields"]["level"] or 0.0, *np.indices((SIDE, SIDE))
    rows = []
    for image in images:
        random = np.random.default_rng([image, entry["fields"]["seed"]])
        disc = np.hypot(x - SIDE / 2 + image / 2, y - SIDE / 2) < 4 + image / 2
        weights = disc * 0.8 / (1 + level)
        noisy = 128 + weights * 100 + (1 - weights) * 40 * random.normal(size=disc.shape)
        shown = {"original": 255 * disc, "mask": 255 * weights, "transformed": noisy}
        if entry["fields"]["level_name"] != "penalty":
            del shown["mask"]
        for kind, pixels in shown.items():
            ids = {"point_id": entry["point_id"], "measure_id": ACCURACY, "computed_by": trial}
            shape = {"channels": 1, "height": SIDE, "width": SIDE, "bound": None}
            grey = np.clip(pixels, 0, 255).astype(np.uint8).tobytes()
            rows.append({**ids, "image_index": image, "kind": kind, **shape, "pixels": grey})
    return rows


def fill_learned(
    root: Path,
    name: str = "learned",
    entries: Sequence[dict[str, Any]] | None = None,
    *,
    pictures: bool = False,
) -> Store:
    """Fill a folder with one finished sweep."""
    store, entries = Store(root), learned_points() if entries is None else entries
    store.write_sweep(name, spec_text="", plan=plan_of(name, entries))
    store.write("measurements", name, [row for entry in entries for row in rows_of(entry)])
    if pictures:
        learned = [entry for entry in entries if entry["method"] != "none"]
        store.write("pictures", name, [row for entry in learned for row in picture_rows(entry)])
    return store
