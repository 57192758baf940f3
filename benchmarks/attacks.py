"""What attacks cost: gradient descent on many images at once against one, a decoder against a plain PyTorch loop.

python benchmarks/attacks.py [map | decoder] [--images 12000] [--repeats 3]

``map`` reconstructs 64 images together and one after the other. ``decoder`` trains the inversion network of MNIST's
features as a sweep does (validation after every epoch) and in the loop that somebody would write for this alone, by
turns; what one more epoch costs, by the clock and by that of the CPU, which other work on the machine does not slow.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from common import data_root, print_machine, scratch
from torch import Tensor

from hushsweep.datasets.images import DatasetConfig, ImageSet, describe_dataset, load_images
from hushsweep.workers.attacks.reconstruction import (
    Descent,
    Knowledge,
    PosteriorMode,
    Target,
    Training,
    fit_decoder,
)
from hushsweep.workers.attacks.view import View
from hushsweep.workers.devices import threads
from hushsweep.workers.features import Activations
from hushsweep.workers.measures.base import FittedPoint, FittedStage, Subject
from hushsweep.workers.mechanisms import AdditiveNoise
from hushsweep.workers.models import ModelConfig, input_transform, load_model

BATCH = 128
MAP_RATIO, DECODER_RATIO = 1.5, 0.9
NETWORKS = (("mnist", "mnist_mlp", "features"), ("cifar10", "conv6", "layers.8"))


def subject_of(dataset: DatasetConfig, name: str, cut: str, cache: Path) -> Subject:
    """A network with random weights; nothing is kept but decoded images."""
    model, info = ModelConfig(name=name, weights="random"), describe_dataset(dataset)
    transform = input_transform(model, info, input_size=None)

    def part(split: str) -> ImageSet:
        limit = dataset.train_limit if split == "train" else 1000
        config = replace(dataset, split="train" if split == "train" else "test", limit=limit)
        return load_images(config, transform.geometry, cache_dir=cache)

    activations = Activations(
        model=load_model(model, cut, info=info, transform=transform),
        images=part("test"),
        logits=False,
        device=torch.device("cpu"),
        batch_size=64,
    )
    return Subject(
        activations=activations,
        positions=range(len(activations.images)),
        rms=lambda: activations.rms(range(1)),
        part=part,
    )


def target_of(subject: Subject) -> Target:
    """Gaussian noise at the cut, half the features' root mean square."""
    noise = AdditiveNoise("gaussian", 0.5 * subject.rms())
    point = FittedPoint(point_id="noise", seed=0, stages=(FittedStage("cut/0", "cut", noise),))
    return Target(knowledge=Knowledge(subject), view=View(subject=subject, point=point))


def clocked(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of the CPU."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - cpu


def compare_map(folder: Path, images: int, repeats: int) -> None:
    """Reconstruct 64 images together, and one by one."""
    for data, name, cut in NETWORKS:
        dataset = DatasetConfig(name=data, root=str(data_root() / data), train_limit=images, limit=64)
        target = target_of(subject_of(dataset, name, cut, folder))
        truth = target.subject.activations.inputs(range(64))
        seen = target.subject.activations.cut(truth)
        attack = PosteriorMode.fit(target, Descent(steps=20, total_variation=1.0))
        ratios = []
        for _ in range(repeats):
            together, _ = clocked(lambda a=attack, s=seen, t=truth: a.reconstruct(s, t))
            alone, _ = clocked(
                lambda a=attack, s=seen, t=truth: [
                    a.reconstruct(s[i : i + 1], t[i : i + 1]) for i in range(64)
                ]
            )
            ratios.append(alone / together)
        print(
            f"{name} at {cut}: 64 images together {64 * 20 / together:,.0f} steps of an image per second, "
            f"{median(ratios):.1f} times one at a time ({', '.join(f'{r:.1f}' for r in ratios)}); target {MAP_RATIO}"
        )


def compare_decoder(folder: Path, images: int, repeats: int) -> None:
    """Train a decoder as a sweep does, and plainly."""
    dataset = DatasetConfig(name="mnist", root=str(data_root() / "mnist"), train_limit=images)
    target = target_of(subject_of(dataset, "mnist_mlp", "features", folder))
    knowledge = target.knowledge
    size = knowledge.size("train")
    places = np.arange(size)
    features, truth = (knowledge.clean("train", places, at_cut=at_cut) for at_cut in (True, False))
    ratios, cpu_ratios = [], []
    for _ in range(repeats):
        ours, plain = [], []
        for epochs in (1, 3):
            ours.append(clocked(lambda e=epochs: fit_decoder(target, Training(epochs=e))))
            decoder = fit_decoder(target, Training(epochs=1)).decoder
            plain.append(clocked(lambda e=epochs, d=decoder: plain_loop(d, features, truth, e, target)))
        both = [
            [(late - early) / 2 for late, early in zip(two, one, strict=True)] for one, two in (ours, plain)
        ]
        ratios.append(both[1][0] / both[0][0])
        cpu_ratios.append(both[1][1] / both[0][1])
        print(f"ours {size / both[0][0]:,.0f} images/s, plain loop {size / both[1][0]:,.0f} images/s")
    print(
        f"decoder: {median(ratios):.2f}x a plain loop by the clock, {median(cpu_ratios):.2f}x by the CPU's; "
        f"target {DECODER_RATIO}"
    )


def plain_loop(
    decoder: torch.nn.Module, features: Tensor, truth: Tensor, epochs: int, target: Target
) -> None:
    """What somebody would write for this alone: all in memory, noise from torch's generator, nothing but training."""
    std = target.noise_std
    assert std is not None
    decoder.train()
    optimiser = torch.optim.Adam(decoder.parameters(), lr=1e-3)
    flat = truth.flatten(1)
    for _ in range(epochs):
        for rows in torch.randperm(len(features)).split(BATCH):
            seen = features[rows] + std * torch.randn(len(rows), *features.shape[1:])
            loss = torch.nn.functional.mse_loss(decoder(seen), flat[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("map", "decoder"))
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print_machine()
    with scratch() as folder, threads(1):
        if arguments.what != "decoder":
            compare_map(folder, arguments.images, arguments.repeats)
        if arguments.what != "map":
            compare_decoder(folder, arguments.images, arguments.repeats)


if __name__ == "__main__":
    main()
