"""Put stored shifts through the network again and compare with the bounds in the rows."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from hushsweep.dashboards import run_query
from hushsweep.datasets.images import DatasetConfig, ImageSet, describe_dataset, load_images
from hushsweep.workers.models import ModelConfig, SplitModel, input_transform, load_model
from hushsweep.workers.training import resolve_weights

DIGITS = DatasetConfig(name="digits", limit=24)


def check_stored_shifts(
    results: Path,
    *,
    dataset: DatasetConfig = DIGITS,
    model: str = "digits_mlp",
    weights: str = "random",
    input_size: int | None = None,
) -> int:
    """Check every (point, image) of a model's HCR rows to 1e-6; return how many there were.

    Only features(x + e) - features(x) in float64 and scipy's DCT are used: nothing of the bounds' own code.
    """
    config, info = ModelConfig(name=model, weights=weights), describe_dataset(dataset)
    transform = input_transform(config, info, input_size=input_size)
    cache = results / "cache"
    images = load_images(dataset, transform.geometry, cache_dir=cache)
    places = {"models_dir": results / "models", "cache_dir": cache, "device": "cpu"}
    resolved = resolve_weights(config, info=info, transform=transform, dataset=dataset, **places)
    network = load_model(config, "features", info=info, transform=transform, state_dict=resolved.state_dict)
    return _check(results, network, images, model)


def _check(results: Path, model: SplitModel, images: ImageSet, name: str) -> int:
    order = {int(index): place for place, index in enumerate(images.indices)}
    exact = model.double()
    rows = run_query(
        results,
        f"""
        SELECT p.*, m.mechanism, m.applied_noise_std, m.seed
        FROM per_image_hcr p
        JOIN (SELECT DISTINCT point_id, measure_id, mechanism, applied_noise_std, seed FROM measurements
              WHERE measure = 'hcr' AND model = '{name}') m USING (point_id, measure_id)
        WHERE p.status = 'complete'
        """,
    ).to_pylist()
    shifts = run_query(results, "FROM shifts").to_pylist()
    options = json.loads(
        run_query(results, "SELECT any_value(options) AS o FROM measurements WHERE measure = 'hcr'")["o"][
            0
        ].as_py()
    )
    for row in rows:
        x = model.normalise(
            torch.from_numpy(np.array(images.images[order[row["image_index"]]]))[None]
        ).double()
        sigma, bounds, squares = row["applied_noise_std"], [], []
        mine = [
            s
            for s in shifts
            if s["image_index"] == row["image_index"]
            and s["seed"] == row["seed"]
            and s["measure_id"] == row["measure_id"]
            and s["computed_by"] == row["computed_by"]
        ]
        for stored in sorted(mine, key=lambda s: s["restart"]):
            e = torch.tensor(stored["input_shift"], dtype=torch.float32).double().reshape(x.shape)
            e = e * (sigma / stored["reference_noise_std"])
            with torch.no_grad():
                z = (exact.features(x + e) - exact.features(x)).flatten().numpy()
            if row["mechanism"] == "gaussian":
                chi_square = np.expm1((z @ z) / sigma**2)
            else:
                d = np.abs(z) * np.sqrt(2) / sigma
                chi_square = np.expm1(np.log1p(2 / 3 * np.expm1(d) + 1 / 3 * np.expm1(-2 * d)).sum())
            squares.append(chi_square)
            bounds.append(np.abs(dctn(e.numpy()[0], axes=(1, 2), norm="ortho")) / np.sqrt(chi_square))
        assert squares == pytest.approx(row["chi_square"], rel=1e-6), (
            row["mechanism"],
            sigma,
            squares,
            row["chi_square"],
        )
        modes = np.max(bounds, axis=0)
        low = options["low_frequency"]
        assert modes.mean() == pytest.approx(row["std_bound_mean"], rel=1e-6)
        assert modes[:, :low, :low].mean() == pytest.approx(row["std_bound_low_mean"], rel=1e-6)
        assert modes.max() == pytest.approx(row["std_bound_max"], rel=1e-6)
        assert (modes**2).mean() == pytest.approx(row["mse_bound"], rel=1e-6)
    return len(rows)
