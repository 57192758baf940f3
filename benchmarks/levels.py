"""Fifty noise levels against one: what is shared between levels, and what each one costs.

python benchmarks/levels.py [--images 256] [--repeats 3]
"""

import argparse
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import data_root, print_machine, scratch, trials_of

from hushsweep.datasets.results import Store
from hushsweep.workers.evaluate import evaluate
from hushsweep.workers.trial import Execution

SWEEP = """
name: levels
dataset: {{name: imagefolder, root: {root}/imagenet-sample/val, limit: {images}}}
model: {{name: {model}, weights: random}}
mechanism: {{name: gaussian, noise_scale: {levels}}}
measures: {{name: accuracy, draws: {draws}}}
"""
TARGETS = {"torchvision/resnet18": 1.25, "torchvision/swin_t": 2.0}


def seconds(trial, results: Path) -> float:
    """Time one trial with images decoded and the model in memory, and no activation known."""
    shutil.rmtree(results / "cache" / "features", ignore_errors=True)
    for table in ("measurements", "per_image"):
        shutil.rmtree(results / table, ignore_errors=True)
    started = time.perf_counter()
    evaluate(trial, results=results, execution=Execution(threads=2))
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print_machine()
    for model, target in TARGETS.items():
        with scratch() as folder:
            results = Store(folder).root
            levels = [float(f"{level:.6g}") for level in np.geomspace(0.01, 100, 50)]
            base = {"root": data_root(), "images": options.images, "model": model}
            cases = {
                (count, draws): trials_of(SWEEP.format(**base, levels=levels[:count], draws=draws))[0]
                for count in (1, 50)
                for draws in (1, 25)
            }
            warm = replace(cases[1, 1], points=cases[1, 1].points)
            seconds(warm, results)
            times = {case: [] for case in cases}
            for _ in range(options.repeats):  # interleaved: a noisy minute hits all alike
                for case, trial in cases.items():
                    times[case].append(seconds(trial, results))
            best = {case: min(found) for case, found in times.items()}
            for draws in (1, 25):
                ratio = best[50, draws] / best[1, draws]
                aim = f"target <= {target}x" if draws == 1 else "reported"
                print(
                    f"{model}, {options.images} images, {draws} draws: 50 levels {best[50, draws]:.2f} s, "
                    f"1 level {best[1, draws]:.2f} s, ratio {ratio:.2f}x ({aim})"
                )
            print(f"  all times: { ({case: [round(t, 2) for t in found] for case, found in times.items()}) }")


if __name__ == "__main__":
    main()
