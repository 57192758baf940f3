"""Compare stored hits with a script that shares no code with us."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from hushsweep.dashboards import run_query
from hushsweep.workers.noise import unit_noise

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "independent_hits.py"
ROUNDING = 1e-5
"""Relative margin between the two largest logits below which float32 may decide either way."""


def compare_hits(results: Path, network: str, images: Path, scratch: Path) -> tuple[int, int]:
    """Assert equal hits per image and level; return (compared, of these within rounding of a tie and different)."""
    rows = run_query(
        results,
        f"""
        SELECT m.level, m.applied_noise_std, p.image_index, p.hits_top1
        FROM per_image_accuracy p JOIN measurements m USING (point_id, measure_id)
        WHERE m.model = '{network}' AND m.statistic = 'top1' ORDER BY m.level, p.image_index
        """,
    ).to_pylist()
    levels = sorted({row["level"] for row in rows})
    indices = sorted({row["image_index"] for row in rows})
    shape = (7, 7, 768) if "swin" in network else (512, 7, 7)
    noise = unit_noise("gaussian", shape, seed=0, purpose="cut/0", image_indices=indices, draw=0)
    np.save(scratch / "noise.npy", noise.numpy())
    out = scratch / "hits.npz"
    command = [sys.executable, str(SCRIPT), network, str(images), str(scratch / "noise.npy"), str(out)]
    subprocess.run([*command, *map(str, levels)], check=True, timeout=3000)
    found = np.load(out)
    stored = np.array([row["hits_top1"] for row in rows], dtype=bool).reshape(len(levels), len(indices))
    sigma = np.array([row["applied_noise_std"] for row in rows]).reshape(stored.shape)[:, 0]
    np.testing.assert_allclose(sigma, found["sigma"] * np.array(levels), rtol=1e-5)
    different = stored != found["hits"]
    assert (np.abs(found["margins"][different]) < ROUNDING).all(), "hits differ where no rounding explains it"
    return stored.size, int(different.sum())
