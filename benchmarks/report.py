"""A report of a large sweep as one page, and with its figures as files.

python benchmarks/report.py [--points 500]

Curves of 50 noise levels with accuracy and eight bounds of ten searches on 5 images, 16 x 16 modes each, and pictures;
written by a fresh process, as a user's is.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from common import print_machine, scratch

sys.path.append(str(Path(__file__).resolve().parents[1]))
from hushsweep.datasets.results import Store
from tests.dashboards.bound_rows import entry_of, write_bounds
from tests.dashboards.conftest import ACCURACY, plan_of, write_trial

LEVELS = 50
WRITE = "import sys; from hushsweep.sweeps.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--points", type=int, default=500)
    options = parser.parse_args()
    print_machine()
    with scratch() as folder:
        results = Path(folder) / "results"
        fill(Store(results), options.points)
        page = Path(folder) / "report.html"
        command = [sys.executable, "-c", WRITE, "report", "large", "-o", str(page), "--results", str(results)]
        started = time.perf_counter()
        subprocess.run(command, check=True)
        print(
            f"a page of {options.points} points (target < 20 s, < 10 MB): {time.perf_counter() - started:.1f} s, "
            f"{page.stat().st_size / 1e6:.2f} MB"
        )


def fill(store: Store, points: int) -> None:
    """Write a finished sweep of curves of 50 levels, a trial each."""
    levels = np.geomspace(0.05, 8, LEVELS).round(4).tolist()
    entries = list[dict]()
    for number in range(points // LEVELS):
        model = ("torchvision/resnet18", "timm/swin_tiny_patch4_window7_224")[number % 2]
        curve = [entry_of(level, ("gaussian", "laplace")[number // 2 % 2], model) for level in levels]
        for entry in curve:
            entry["fields"] = {**entry["fields"], "seed": number // 4}
            entry["curve_id"] += f"-{number // 4}"
            entry["point_id"] += f"-{number // 4}"
        write_trial(store, f"trial-{number}", curve, ACCURACY)
        write_bounds(store, f"trial-{number}", curve)
        entries += curve
    store.write_sweep("large", spec_text="name: large\n", plan=plan_of("large", entries))


if __name__ == "__main__":
    main()
