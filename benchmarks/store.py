"""The results store: opening 20,000 small files, a group-by over 10 million rows before and after merging.

python benchmarks/store.py [--files 20000] [--rows 10000000]

Rows per image of 1,000 images each in `--rows` / 1,000 points, a file per 10 points; the small files hold a point each.
Every question is a fresh process, as a user's is.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from common import print_machine, scratch

from hushsweep.datasets.results import Store, compact

IMAGES, POINTS_PER_FILE = 1000, 10
GROUP_BY = "SELECT point_id, sum(hits_top1) / sum(draws) AS top1 FROM per_image_accuracy GROUP BY point_id"
ASK = """
import sys, time
from hushsweep.dashboards import run_query
from hushsweep.datasets.results import Store
imported = time.perf_counter()
run_query(sys.argv[1], sys.argv[2])
seconds = time.perf_counter() - imported
print(seconds, *(int(line.split()[1]) / 2**20 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    options = parser.parse_args()
    print_machine()
    with scratch() as folder:
        many_small_files(Path(folder) / "small", options.files)
    with scratch() as folder:
        many_rows(Path(folder) / "large", options.rows)


def many_small_files(folder: Path, files: int) -> None:
    """Open a store with so many files of summaries."""
    store = Store(folder)
    for number in range(files):
        write_summaries(store, f"{number:020x}", [f"{number}"])
    question = "SELECT mechanism, avg(value) FROM measurements GROUP BY mechanism"
    show(f"{files:,} files of one point, group-by before merging (target < 30 s)", ask(folder, question))
    show("  the names of what is complete, as a run asks for them", timed(store.completed))
    show("  merging", timed(lambda: compact(store)))
    show("  group-by after merging", ask(folder, question))
    show("  the names of what is complete", timed(store.completed))


def many_rows(folder: Path, rows: int) -> None:
    """Group so many rows per image by point."""
    store = Store(folder)
    files = rows // (IMAGES * POINTS_PER_FILE)
    for number in range(files):
        points = [f"{number}-{place}" for place in range(POINTS_PER_FILE)]
        write_summaries(store, f"{number:020x}", points)
        write_images(store, f"{number:020x}", points, number)
    show(f"{rows:,} rows in {files:,} files, group-by before merging (target < 10 s)", ask(folder, GROUP_BY))
    show("  merging", timed(lambda: compact(store)))
    for _ in range(3):
        show("  group-by after merging (target < 2 s)", ask(folder, GROUP_BY))


def write_summaries(store: Store, computed_by: str, points: list[str]) -> None:
    """Write four statistics of every point, with the columns that a real row has."""
    shared = {
        "measure_id": "m",
        "curve_id": "c",
        "computed_by": computed_by,
        "dataset": "cifar10",
        "model": "torchvision/resnet18",
        "mechanism": "gaussian",
        "level_name": "noise_scale",
        "measure": "accuracy",
        "status": "complete",
        "unit": "fraction",
        "n": IMAGES,
        "computed_at": datetime.now(UTC),
    }
    statistics = ("clean_top1", "clean_top5", "top1", "top5")
    store.write(
        "measurements",
        f"{computed_by}.m",
        [
            {**shared, "point_id": p, "statistic": s, "value": 0.5, "level": 1.0}
            for p in points
            for s in statistics
        ],
    )


def write_images(store: Store, computed_by: str, points: list[str], seed: int) -> None:
    """Write the rows per image of some points."""
    generator = np.random.default_rng(seed)
    count = len(points) * IMAGES
    hits = generator.integers(0, 6, count).astype(np.float64)
    store.write(
        "per_image/accuracy",
        f"{computed_by}.m.0of1",
        pa.table(
            {
                "point_id": np.repeat(points, IMAGES),
                "measure_id": pa.repeat("m", count),
                "computed_by": pa.repeat(computed_by, count),
                "image_index": np.tile(np.arange(IMAGES), len(points)),
                "label": generator.integers(0, 10, count),
                "hits_top1": hits,
                "hits_top5": np.full(count, 5.0),
                "draws": np.full(count, 5),
                "status": pa.repeat("complete", count),
            }
        ),
    )


def ask(folder: Path, question: str) -> tuple[float, float]:
    """Ask in a process of its own; return seconds without its imports, and GiB of memory at its peak."""
    answer = subprocess.run(
        [sys.executable, "-c", ASK, str(folder), question], capture_output=True, text=True, check=True
    )
    seconds, memory = map(float, answer.stdout.split())
    return seconds, memory


def timed(work: Callable[[], object]) -> tuple[float, float]:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def show(what: str, found: tuple[float, float]) -> None:
    print(f"{what}: {found[0]:.2f} s, peak {found[1]:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
