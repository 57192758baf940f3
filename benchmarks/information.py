"""The tables of docs/information.md: what the published estimator says where the truth is known, and of MNIST.

python benchmarks/information.py --data DATA [--threads 1]
"""

import argparse
import gzip
import math
import time
from pathlib import Path

import numpy as np
import torch

from hushsweep.workers.information import (
    contrast,
    ite_knn,
    log_densities,
    upper_diagonal,
    upper_full,
    upper_held_out,
)

SIZES, RATIOS, PAIRS = (1, 2, 5, 10, 20, 50, 100, 200, 784), (1, 100), 10_000
NOISES = (0.1, 0.5, 1.0, 2.0, 5.0)


def gaussian_table() -> None:
    print("| entries | " + " | ".join(map(str, SIZES)) + " |")
    for ratio in RATIOS:
        true = [entries / 2 * math.log1p(ratio) for entries in SIZES]
        found, shuffled = [], []
        for entries in SIZES:
            rng = np.random.default_rng(entries)
            x = rng.normal(size=(PAIRS, entries))
            y = x + rng.normal(size=x.shape) / math.sqrt(ratio)
            found.append(ite_knn(x, y, rng))
            shuffled.append(ite_knn(x, y[rng.permutation(PAIRS)], rng))
        for name, values in (("true", true), ("estimate", found), ("shuffled", shuffled)):
            print(
                f"| {name}, SNR {ratio} | " + " | ".join(f"{value:.4g}" for value in values) + " |",
                flush=True,
            )


def mnist_table(root: Path) -> None:
    with gzip.open(root / "mnist/MNIST/raw/t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read()[16:], dtype=np.uint8).reshape(10_000, -1) / 255
    rng = np.random.default_rng(0)
    noise = rng.normal(size=pixels.shape)
    order = rng.permutation(PAIRS)  # the two halves of the file are by different writers
    print(f"I(X; X): {ite_knn(pixels[order], pixels[order], rng):.4g}")
    for name, kept in (("mixed", order), ("in file order", slice(None))):
        print(f"of unrelated noise, {name}: {ite_knn(pixels[kept], noise, rng):.4g}")
    for std in NOISES:
        noised = pixels + std * noise
        row = [ite_knn(pixels[order], noised[other], rng) for other in (order, rng.permutation(PAIRS))]
        for images in (1000, 10_000):
            started = time.perf_counter()
            mean = torch.from_numpy(pixels[:: PAIRS // images])
            deviation, own = torch.full_like(mean, std), torch.arange(images)
            unit = torch.from_numpy(noise[:: PAIRS // images])
            bounds = contrast(log_densities(unit, own, mean, deviation), own)
            row += [float(bounds.lower.mean()), float(bounds.upper.mean())]
            row += [float(upper_held_out(mean, deviation).mean()), upper_full(mean, deviation)]
            row += [upper_diagonal(mean, deviation), time.perf_counter() - started]
        print(f"| {std:g} | " + " | ".join(f"{value:.4g}" for value in row) + " |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    gaussian_table()
    mnist_table(options.data)
