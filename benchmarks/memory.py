"""Peak memory of a worker: 1,000 images against 10,000, and 5 noise levels against 50.

python benchmarks/memory.py

Each case is a process of its own. *Private* is anonymous memory, sampled every 10 ms; *resident* is the kernel's
high-water mark, which also counts mapped files that the kernel may drop at any time.
"""

import argparse
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from common import data_root, print_machine, scratch, trials_of

from hushsweep.datasets.results import Store
from hushsweep.workers.evaluate import evaluate
from hushsweep.workers.trial import Execution

SWEEP = """
name: memory
dataset: {{name: cifar10, root: {root}/cifar10, limit: {images}, input_size: 32}}
model: {{name: torchvision/resnet18, weights: random, network_size: 32}}
cut: {cut}
mechanism: {{name: gaussian, noise_scale: {levels}}}
measures: {{name: accuracy, draws: 2}}
"""
CASES = [(images, levels) for images in (1_000, 10_000) for levels in (5, 50)]


def status(name: str) -> float:
    """Read one line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def one_case(images: int, count: int, cut: str) -> None:
    levels = [float(f"{level:.6g}") for level in np.geomspace(0.01, 100, count)]
    trial = trials_of(SWEEP.format(root=data_root(), images=images, levels=levels, cut=cut))[0]
    peak, done = [0.0], threading.Event()

    def sample() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], status("RssAnon"))
            time.sleep(0.01)

    watcher = threading.Thread(target=sample)
    watcher.start()
    with scratch() as folder:
        evaluate(trial, results=Store(folder).root, execution=Execution(threads=2))
    done.set()
    watcher.join()
    print(peak[0], status("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", nargs=3)
    options = parser.parse_args()
    if options.case:
        one_case(int(options.case[0]), int(options.case[1]), options.case[2])
        return
    print_machine()
    for cut in ("features", "layer3"):  # a linear head, and one that is not
        found = {}
        for images, levels in CASES:
            command = [sys.executable, __file__, "--case", str(images), str(levels), cut]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[images, levels] = tuple(map(float, done.stdout.split()))
            private, resident = found[images, levels]
            print(
                f"cut {cut}, {images:>6} images, {levels:>2} levels: private {private:.0f}, resident {resident:.0f} MiB"
            )
        for kind, name in ((0, "private"), (1, "resident")):
            values = [pair[kind] for pair in found.values()]
            print(
                f"  cut {cut}, {name}: largest / smallest {max(values) / min(values):.3f}x (target <= 1.10x)"
            )


if __name__ == "__main__":
    main()
