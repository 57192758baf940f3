"""A sweep with attacks beside bounds as the measures leave it, written through Store."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hushsweep.datasets.results import Store
from tests.dashboards.bound_rows import UNBIASED
from tests.dashboards.conftest import ACCURACY, LEVELS, measurements, plan_of, point, write_trial

MODEL = "torchvision/resnet18"
BLIND = 0.8
IMAGES, CANDIDATES, SIDE = 6, 20, 8
PIXEL = "normalised pixel^2"
DECODER = {"attack": "decoder", "epochs": 20, "batch_size": 128}
ATTACKS: dict[str, tuple[str, dict[str, Any], float]] = {
    "e0" * 8: ("blind", {"attack": "blind", "images": 1000}, 1.0),
    "e1" * 8: ("ridge", {"attack": "ridge", "images": 1000}, 0.6),
    "e2" * 8: ("ridge, 10 queries", {"attack": "ridge", "images": 1000, "queries": 10}, 0.3),
    "e3" * 8: ("decoder, epochs 20", {**DECODER, "images": 1000}, 0.5),
    "e4" * 8: ("decoder, epochs 5", {**DECODER, "epochs": 5, "images": 1000}, 0.55),
    "e5" * 8: ("bayes", {"attack": "bayes", "images": 1000}, 0.2),
    "e6" * 8: ("ridge, mask", {"attack": "ridge", "images": 1000, "masked": True}, 0.4),
    "e7" * 8: ("decoder, all levels", {**DECODER, "levels": [0.2, 5.0], "images": 1000}, 0.52),
    "e8" * 8: ("map, gaussian prior", {"attack": "map", "prior": "gaussian", "images": 1000}, 0.7),
}
"""Measure id of reconstruction to the name of its attack, its options, and the error at infinite noise over BLIND."""
SANDWICHES: dict[str, tuple[str, dict[str, Any], float]] = {
    "d0" * 8: ("blind", {"attack": "blind", "distance": 1.0, "prior_std": 0.5}, 1.0),
    "d1" * 8: ("ridge", {"attack": "ridge", "distance": 1.0, "prior_std": 0.5}, 0.7),
    "d2" * 8: ("decoder", {**DECODER, "distance": 1.0, "prior_std": 0.5}, 0.65),
}
"""The same of the measure sandwich."""
HOLDS_FOR = {
    "two_point": "every estimator; average over the image and the image moved",
    "van_trees": "every estimator; average over the image blurred by the prior",
}
BOUNDS = "c3" * 8


def entry_of(level: float, mechanism: str = "gaussian") -> dict[str, Any]:
    entry = point(MODEL, mechanism, level)
    measures = [
        {"measure_id": measure_id, "name": name, "options": options}
        for name, group in (("reconstruction", ATTACKS), ("sandwich", SANDWICHES))
        for measure_id, (_, options, _) in group.items()
    ]
    bounds = {"measure_id": BOUNDS, "name": "bounds", "options": {"images": IMAGES}}
    return {**entry, "measures": [entry["measures"][0], bounds, *measures]}


def error(size: float, level: float) -> float:
    """Error of an attack: it grows with the noise."""
    return BLIND if size == 1 else BLIND * size * (0.5 + 0.5 * level / (1 + level))


def bound(name: str, level: float) -> float:
    """Bound for every estimator, below every error."""
    return {"two_point": 0.1, "van_trees": 0.15}[name] * level / (1 + level)


def dfil(level: float) -> float:
    """Bound for unbiased estimators, which attacks pass at high levels."""
    return 0.2 * level**2


def _statistics(
    entry: dict[str, Any], measure: dict[str, Any], trial: str, violated: set[str]
) -> Iterator[dict[str, Any]]:
    level, measure_id = entry["fields"]["level"], measure["measure_id"]
    common = measurements(entry, entry["measures"][0], trial)[0] | {
        "measure_id": measure_id,
        "measure": measure["name"],
        "options": json.dumps(measure["options"], sort_keys=True),
        "n": IMAGES,
        "stderr": None,
        "unit": PIXEL,
        "reason": None,
    }
    if measure["name"] == "reconstruction":
        mse = error(ATTACKS[measure_id][2], level)
        numbers = {"mse": mse, "mse_worst_off": mse / 2, "mse_grey": 1600 * mse, "psnr": 20 - mse}
        numbers |= {"ssim": 1 - mse, "recognised": 0.9, "reidentified": 0.5}
        for name, value in numbers.items():
            yield {**common, "statistic": name, "value": value, "stderr": 0.01 if name == "mse" else None}
    elif measure["name"] == "bounds":
        yield {**common, "statistic": "dfil_mse", "value": dfil(level), "holds_for": UNBIASED}
    elif measure["name"] == "sandwich":
        for name, holds_for in HOLDS_FOR.items():
            mse, least = error(SANDWICHES[measure_id][2], level), bound(name, level)
            is_wrong = measure_id in violated and name == "van_trees"
            mse = least / 2 if is_wrong else mse
            yield {**common, "statistic": f"{name}_mse_bound", "value": least, "holds_for": holds_for}
            yield {**common, "statistic": f"{name}_attack_mse", "value": mse, "stderr": 0.001}
            yield {**common, "statistic": f"{name}_gap", "value": mse / least, "unit": "ratio"}
            yield {**common, "statistic": f"{name}_violated", "value": float(is_wrong), "unit": "0 or 1"}


def _image_rows(entry: dict[str, Any], measure: dict[str, Any], trial: str) -> list[dict[str, Any]]:
    if measure["name"] == "sandwich":
        return []
    common = {
        "point_id": entry["point_id"],
        "measure_id": measure["measure_id"],
        "computed_by": trial,
        "status": "complete",
    }
    images = [
        {**common, "image_index": image, "image": f"test/{image}", "label": image} for image in range(IMAGES)
    ]
    level = entry["fields"]["level"]
    if measure["name"] == "bounds":
        own = {
            "bound": "dfil",
            "holds_for": f"{UNBIASED}; average over the pixels",
            "mse_bound": dfil(level),
        }
        return [{**row, **own} for row in images]
    own = {
        "attack": measure["options"]["attack"],
        "draws": 1,
        "mse": error(ATTACKS[measure["measure_id"]][2], level),
        "candidates": CANDIDATES,
        "recognised": 1,
        "reidentified": 1,
    }
    return [{**row, **own} for row in images]


def _picture_rows(entry: dict[str, Any], measure: dict[str, Any], trial: str) -> list[dict[str, Any]]:
    y, x = np.indices((SIDE, SIDE))
    clean = 255 * (np.hypot(x - 3.5, y - 3.5) < 3)
    noisy = clean + 40 * entry["fields"]["level"] * np.sin(x * y)
    common = {"point_id": entry["point_id"], "measure_id": measure["measure_id"], "computed_by": trial}
    common |= {"image_index": 0, "channels": 1, "height": SIDE, "width": SIDE}
    return [
        {**common, "kind": kind, "bound": name, "pixels": pixels.clip(0, 255).astype(np.uint8).tobytes()}
        for kind, name, pixels in (
            ("original", None, clean),
            ("reconstruction", measure["options"]["attack"], noisy),
        )
    ]


def fill_attacks(
    root: Path, *, violated: Sequence[str] = (), mechanisms: Sequence[str] = ("gaussian", "laplace")
) -> Store:
    """Fill a folder with the sweep `attacked`, a curve per mechanism.

    Args:
        root: The folder.
        violated: Ids of sandwiches whose attack is below the van Trees bound.
        mechanisms: Of the curves.
    """
    store, trial = Store(root), "trial-a"
    entries = [entry_of(level, mechanism) for mechanism in mechanisms for level in LEVELS]
    store.write_sweep("attacked", spec_text="name: attacked\n", plan=plan_of("attacked", entries))
    write_trial(store, trial, entries, ACCURACY)
    for number, measure in enumerate(entries[0]["measures"][1:], start=1):
        name = f"{trial}.{measure['measure_id']}"
        own = [(entry, entry["measures"][number]) for entry in entries]
        images = [row for entry, one in own for row in _image_rows(entry, one, trial)]
        if images:
            store.write(f"per_image/{measure['name']}", name, images)
        if measure["measure_id"] in ("e1" * 8, "e3" * 8):
            store.write(
                "pictures", name, [row for entry, one in own for row in _picture_rows(entry, one, trial)]
            )
        rows = [row for entry, one in own for row in _statistics(entry, one, trial, {*violated})]
        store.write("measurements", name, rows)
    return store
