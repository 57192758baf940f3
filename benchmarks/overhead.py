"""The whole system (Ray, store, MLflow mirror) against a bare PyTorch loop over the same images.

python benchmarks/overhead.py [--images 10000] [--network-size 224]

Both decode the JPEGs of CIFAR-10, push them through ResNet-18 and count hits at five noise levels, with two threads.
Start-up is measured by the same command on 64 images and reported apart.
"""

import argparse
import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torchvision
from common import data_root, print_machine, scratch
from PIL import Image
from torch.nn import functional as F

SWEEP = """
name: overhead
dataset: {{name: cifar10, root: {root}/cifar10, limit: {images}, input_size: 32}}
model: {{name: torchvision/resnet18, weights: random, network_size: {side}}}
mechanism: {{name: gaussian, noise_scale: [0.25, 0.5, 1, 2, 4]}}
measures: {{name: accuracy}}
execution: {{threads: 2}}
"""


def bare_loop(root: Path, images: int, side: int) -> float:
    """Time what somebody would write for this one question, with nothing kept."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10).eval()
    trunk = torch.nn.Sequential(*list(model.children())[:-2])
    started = time.perf_counter()
    table = pq.read_table(root / "cifar10" / "test-00000-of-00001.parquet").slice(0, images)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(v["bytes"]))) for v in table["image"].to_pylist()])
    labels = torch.tensor(table["label"].to_numpy())
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    kept, squares = [], 0.0
    with torch.inference_mode():
        for start in range(0, images, 64):
            x = (torch.from_numpy(pixels[start : start + 64]) / 255 - mean) / std
            x = F.interpolate(x.permute(0, 3, 1, 2), size=(side, side), mode="bilinear")
            a = trunk(x)
            squares += float(a.double().square().sum())
            kept.append(
                (model.fc(a.mean((2, 3))), model.fc(torch.randn_like(a).mean((2, 3))) - model.fc.bias)
            )
        rms = (squares / (images * a[0].numel())) ** 0.5
        logits, pushed = (torch.cat(column) for column in zip(*kept))
        for scale in (0.25, 0.5, 1, 2, 4):
            ((logits + scale * rms * pushed).argmax(1) == labels).float().mean()
    return time.perf_counter() - started


def system(root: Path, images: int, side: int, folder: Path) -> float:
    """Time ``hushsweep run`` as a user starts it."""
    spec = folder / f"{images}.yaml"
    spec.write_text(SWEEP.format(root=root, images=images, side=side))
    command = [
        sys.executable,
        "-m",
        "hushsweep.sweeps",
        "run",
        str(spec),
        "--results",
        str(folder / str(images)),
    ]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--network-size", type=int, default=224)
    options = parser.parse_args()
    print_machine()
    torch.set_num_threads(2)
    root, side = data_root(), options.network_size
    with scratch() as folder:
        start_up = system(root, 64, side, Path(folder))
        ours = system(root, options.images, side, Path(folder))
        bare_start = bare_loop(root, 64, side)
        bare = bare_loop(root, options.images, side)
    work, bare_work = ours - start_up, bare - bare_start
    print(f"hushsweep run: {ours:.1f} s, of which start-up and end {start_up:.1f} s (64 images)")
    print(f"bare loop: {bare:.1f} s, of which {bare_start:.1f} s for 64 images")
    print(
        f"beyond start-up: {work:.1f} s against {bare_work:.1f} s, ratio {work / bare_work:.3f}x (target <= 1.05x)"
    )
    print(f"end to end: ratio {ours / bare:.3f}x")


if __name__ == "__main__":
    main()
