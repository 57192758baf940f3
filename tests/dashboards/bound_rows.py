"""A sweep with bounds as the measure leaves it, written through Store: smooth functions of the level."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hushsweep.datasets.results import Store
from tests.dashboards.conftest import ACCURACY, LEVELS, START, measurements, plan_of, point, write_trial

BOUNDS = "c3" * 8
MODEL = "torchvision/resnet18"
SIDE = 16
UNBIASED = "unbiased estimators"
# bound, search, holds_for, size at level 1
MODE_BOUNDS = (
    ("cramer_rao", None, UNBIASED, 1.1),
    ("barankin", "jacobian", UNBIASED, 0.9),
    ("barankin", "dct", UNBIASED, 0.3),
    ("hcr", "jacobian", UNBIASED, 0.35),
    ("hcr", "lsqr", UNBIASED, 0.2),
)
ERROR_BOUNDS = (
    ("dfil", None, f"{UNBIASED}; average over the pixels", 0.6),
    ("van_trees", None, "every estimator; average over the image blurred by the prior", 0.12),
    ("two_point", "two_point", "every estimator; average over the image and the image moved", 0.08),
)
MMSE = "no bound: the least error if the network were linear and images Gaussian"
RERO = "every attacker, if each of the images is equally likely"
IMAGES = 5


def entry_of(level: float, mechanism: str = "gaussian", model: str = MODEL) -> dict[str, Any]:
    entry = point(model, mechanism, level)
    bounds = {"measure_id": BOUNDS, "name": "bounds", "options": {"images": IMAGES, "shifts": ["jacobian"]}}
    return {**entry, "measures": [entry["measures"][0], bounds]}


def mode_std(size: float, level: float, image: int) -> np.ndarray:
    """Bound of every mode: it grows with the frequency."""
    row, column = np.indices((SIDE, SIDE))
    return size * level * (1 + 0.1 * image) * np.exp(0.12 * (row + column))[None]


def ids(entry: dict[str, Any], trial: str) -> dict[str, Any]:
    return {"point_id": entry["point_id"], "measure_id": BOUNDS, "computed_by": trial}


def image_rows(entry: dict[str, Any], trial: str) -> list[dict[str, Any]]:
    level = entry["fields"]["level"]
    laplace = entry["fields"]["mechanism"] == "laplace"
    rows = []
    for image in range(IMAGES):
        common = {**ids(entry, trial), "image_index": image, "image": f"test/{image}", "label": image}
        common |= {"status": "complete"}
        for bound, search, holds_for, size in MODE_BOUNDS:
            named = {**common, "bound": bound, "search": search, "holds_for": holds_for, "basis": "dct"}
            if laplace and bound == "barankin":
                rows.append({**named, "status": "not_applicable", "reason": "proved for Gaussian noise only"})
                continue
            std = mode_std(size, level, image)
            numbers = {
                "std_bound_mean": std.mean(),
                "std_bound_median": np.median(std),
                "std_bound_max": std.max(),
                "std_bound_low_mean": std[:, :8, :8].mean(),
                "mse_bound": (std**2).mean(),
                "mse_bound_grey": 40.0**2 * (std**2).mean(),
            }
            if bound == "cramer_rao":
                numbers |= {"rank": 40 + image, "non_identifiable": 0.8, "unresolved": 0.01}
            else:
                numbers |= {"shifts": 64, "still_shifts": 0, "linear_shifts": 60}
            rows.append({**named, **numbers})
        for bound, search, holds_for, size in ERROR_BOUNDS:
            mse = (size * level / (1 + level / 8)) ** 2
            numbers = {"mse_bound": mse, "mse_bound_grey": 1600 * mse}
            if bound == "two_point":
                numbers |= {"radius": 30 * size * level, "distance": 0.99}
            rows.append({**common, "bound": bound, "search": search, "holds_for": holds_for, **numbers})
        rows.append({**common, "bound": "mmse", "holds_for": MMSE, "mse_estimate": 0.7 * level / (1 + level)})
        rows.append({**common, "bound": "rero", "holds_for": RERO, "distance": 3 / level})
    rows.append({**ids(entry, trial), "image_index": 99, "status": "failed", "reason": "truncated file"})
    return rows


def mode_rows(entry: dict[str, Any], trial: str) -> list[dict[str, Any]]:
    row, column = np.indices((SIDE, SIDE))
    share = 1 - np.exp(-0.2 * (row + column))
    rows = []
    for bound, search, _, size in MODE_BOUNDS:
        std = mode_std(size, entry["fields"]["level"], 2)[0]
        rows += [
            {
                **ids(entry, trial),
                "bound": bound,
                "search": search,
                "basis": "dct",
                "channel": 0,
                "row": r,
                "column": c,
                "std_bound": std[r, c],
                "non_identifiable": share[r, c] if bound == "cramer_rao" else None,
                "n": IMAGES,
            }
            for r in range(SIDE)
            for c in range(SIDE)
        ]
    return rows


def picture_rows(entry: dict[str, Any], trial: str, images: Sequence[int] = (0, 1)) -> list[dict[str, Any]]:
    rows = []
    for image in images:
        random = np.random.default_rng(image)
        y, x = np.indices((SIDE, SIDE))
        clean = 255 * (np.hypot(x - 7.5 - image, y - 7.5) < 5)
        noise = random.choice((-1.0, 1.0), (SIDE, SIDE))
        level = entry["fields"]["level"]
        shown = {
            ("original", None): clean,
            ("bound", "cramer_rao"): clean + 60 * level * noise,
            ("bound", "barankin_jacobian"): clean + 40 * level * noise,
            ("bound", "barankin_dct"): clean + 10 * level * noise,
            ("moved", "two_point"): clean + 30 * level * np.sin(x),
        }
        for (kind, bound), pixels in shown.items():
            rows.append(
                {
                    **ids(entry, trial),
                    "image_index": image,
                    "kind": kind,
                    "bound": bound,
                    "channels": 1,
                    "height": SIDE,
                    "width": SIDE,
                    "pixels": pixels.clip(0, 255).astype(np.uint8).tobytes(),
                }
            )
    return rows


def statistics(entry: dict[str, Any], trial: str) -> list[dict[str, Any]]:
    common = measurements(entry, entry["measures"][0], trial)[0]
    measure = entry["measures"][1]
    common |= {
        "measure_id": BOUNDS,
        "measure": "bounds",
        "options": '{"images":5}',
        "n": IMAGES,
        "stderr": None,
        "computed_at": START,
    }
    success = min(1.0, 0.2 + 0.4 / entry["fields"]["level"])
    return [
        {**common, "statistic": "rero_success", "value": success, "unit": "fraction", "holds_for": RERO},
        {
            **common,
            "statistic": "dfil_mse",
            "value": 0.5,
            "unit": "normalised pixel^2",
            "holds_for": UNBIASED,
        },
    ] * (measure["name"] == "bounds")


def write_bounds(store: Store, trial: str, entries: Sequence[dict[str, Any]]) -> None:
    """Store one trial's rows of the measure bounds, as a worker does."""
    for table, rows_of in (
        ("per_image/bounds", image_rows),
        ("modes", mode_rows),
        ("pictures", picture_rows),
        ("measurements", statistics),
    ):
        rows = [row for entry in entries for row in rows_of(entry, trial)]
        store.write(table, f"{trial}.{BOUNDS}", rows)


def fill_bounds(
    root: Path, name: str = "strong", mechanisms: Sequence[str] = ("gaussian", "laplace")
) -> Store:
    """Fill a folder with one sweep of accuracy and bounds, a curve per mechanism."""
    store = Store(root)
    entries = [entry_of(level, mechanism) for mechanism in mechanisms for level in LEVELS]
    store.write_sweep(name, spec_text="", plan=plan_of(name, entries))
    write_trial(store, "trial-a", entries, ACCURACY)
    write_bounds(store, "trial-a", entries)
    return store
