"""What training costs: adaptive noise injection against a plain PyTorch loop, and two trainings at once.

python benchmarks/learning.py [loop | together] [--images 54000] [--epochs 1] [--repeats 3]

``loop`` trains conv5 and a mask network on MNIST, once as a sweep does (with a checkpoint and 2,000 validation images
after every epoch) and once in the loop that somebody would write for this alone; both on one thread, by turns, and by
the CPU's clock too, which other work on the machine does not slow. ``together`` trains in two processes of one thread
each, and in one.
"""

import argparse
import multiprocessing
import time
from pathlib import Path
from typing import NamedTuple

import torch
from common import data_root, print_machine, scratch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from hushsweep.datasets.images import DatasetConfig, describe_dataset, load_images
from hushsweep.datasets.tasks import training_part
from hushsweep.workers.devices import threads
from hushsweep.workers.learning.learn import learn
from hushsweep.workers.learning.task import LearningTask
from hushsweep.workers.mechanisms.ani import Ani
from hushsweep.workers.mechanisms.mask_networks import find_mask_network
from hushsweep.workers.models import ModelConfig, input_transform, trainable

MODEL = ModelConfig(name="conv5", weights="random")
NETWORK = "wconv2_embedding"
BATCH = 128
LARGEST_LOSS = 0.15
SMALLEST_RATIO = 0.9


def learning_task(images: int, seed: int) -> LearningTask:
    """MNIST, less than 5."""
    dataset = DatasetConfig(
        name="mnist", root=str(data_root() / "mnist"), task="less_than_5", train_limit=images
    )
    info = describe_dataset(dataset)
    return LearningTask(
        model=MODEL,
        cut="features",
        dataset=dataset,
        info=info,
        transform=input_transform(MODEL, info, input_size=None),
        seed=seed,
        base="random/0",
        device=torch.device("cpu"),
    )


class Speed(NamedTuple):
    """Images per second, by the wall's clock and by the CPU's."""

    wall: float
    cpu: float


class Clock:
    """Both clocks, started."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def speed(self, images: int) -> Speed:
        """Of so many images since the start."""
        return Speed(images / (time.perf_counter() - self.wall), images / (time.process_time() - self.cpu))


def sweep_loop(cache: Path, images: int, epochs: int, precision: str, seed: int = 0) -> Speed:
    """Speed of the whole training, with all that a sweep keeps."""
    task = learning_task(images, seed)
    ani = Ani(penalty=1.0, network=NETWORK, batch_size=BATCH, epochs=epochs, training_precision=precision)
    with scratch() as results:
        clock = Clock()
        learn(
            "ani",
            ani,
            "input",
            task,
            base_state=lambda: None,
            models_dir=Path(results) / "models",
            cache_dir=cache,
        )
        return clock.speed(epochs * images)


def plain_loop(cache: Path, images: int, epochs: int, precision: str) -> Speed:
    """Speed of the same two networks, loss, optimiser and batches, with nothing kept or watched."""
    task = learning_task(images, 0)
    part = training_part(task.dataset)
    loaded = load_images(part, task.transform.geometry, cache_dir=cache)
    pixels, labels = torch.tensor(loaded.images), torch.tensor(loaded.labels)
    mean, std = (torch.tensor(value).reshape(-1, 1, 1) for value in (task.transform.mean, task.transform.std))
    clock = Clock()
    server = trainable(MODEL, "features", info=task.info, transform=task.transform).network.train()
    mask = find_mask_network(NETWORK, "exp_tanh", (1, 28, 28)).train()
    for network in (server, mask):
        network.to(memory_format=torch.channels_last)
    optimiser = SGD([*server.parameters(), *mask.parameters()], lr=0.1, momentum=0.9, weight_decay=5e-4)
    steps = epochs * -(-images // BATCH)
    annealing = CosineAnnealingLR(optimiser, steps)
    for epoch in range(epochs):
        for batch, rows in enumerate(torch.randperm(images).split(BATCH)):
            x = ((pixels[rows] / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                y = mask(x).float().exp()
                log_std = 0.6931471805599453 - 2 * y - torch.log1p(torch.exp(-2 * y))
                out = server(torch.tanh(y) * x + log_std.exp() * torch.randn_like(x))
                grown = min(1.0, 2 * (epoch * -(-images // BATCH) + batch) / steps)
                loss = nn.functional.cross_entropy(out.float(), labels[rows]) - grown * log_std.mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            annealing.step()
    return clock.speed(epochs * images)


def compare_loops(options: argparse.Namespace) -> None:
    """Both loops by turns, so that a noisy minute hits both."""
    with scratch() as folder, threads(1):
        cache = Path(folder)
        for precision in ("float32", "bfloat16"):
            plain_loop(cache, options.images, 1, precision)
            sweep_loop(cache, options.images, 1, precision)
            pairs = [
                (
                    plain_loop(cache, options.images, options.epochs, precision),
                    sweep_loop(cache, options.images, options.epochs, precision),
                )
                for _ in range(options.repeats)
            ]
            for clock in Speed._fields:
                plain, ours = (
                    max(getattr(speed, clock) for speed in column) for column in zip(*pairs, strict=True)
                )
                print(
                    f"ANI on MNIST, conv5 and {NETWORK}, {precision}, {options.images:,} images an epoch, {clock} "
                    f"clock: sweep {ours:,.0f} images/s, plain loop {plain:,.0f}, ratio {ours / plain:.2f}x "
                    f"(target >= {SMALLEST_RATIO}x)"
                )
            print(f"  all: {[tuple(round(value) for speed in pair for value in speed) for pair in pairs]}")


def _train(cache: Path, images: int, epochs: int, seed: int, barrier, results) -> None:
    torch.set_num_threads(1)
    sweep_loop(cache, images, 1, "float32", seed)
    barrier.wait()
    results.put(sweep_loop(cache, images, epochs, "float32", seed).wall)


def throughput(cache: Path, images: int, epochs: int, processes: int) -> float:
    """Images per second of all processes together."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    started = [
        context.Process(target=_train, args=(cache, images, epochs, seed, barrier, results))
        for seed in range(processes)
    ]
    for process in started:
        process.start()
    total = sum(results.get() for _ in started)
    for process in started:
        process.join()
    return total


def compare_processes(options: argparse.Namespace) -> None:
    """Two trainings at once against twice one."""
    with scratch() as folder:
        cache = Path(folder)
        pairs = [
            (
                throughput(cache, options.images, options.epochs, 1),
                throughput(cache, options.images, options.epochs, 2),
            )
            for _ in range(options.repeats)
        ]
        one, two = (max(column) for column in zip(*pairs, strict=True))
        print(
            f"two trainings at once, one thread each: {two:,.0f} images/s in all, one alone {one:,.0f}: loss "
            f"{1 - two / (2 * one):.1%} of the total (target < {LARGEST_LOSS:.0%})"
        )
        print(f"  all: {[(round(a), round(b)) for a, b in pairs]}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", choices=["loop", "together"])
    parser.add_argument("--images", type=int, default=54000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print_machine()
    if options.what in (None, "loop"):
        compare_loops(options)
    if options.what in (None, "together"):
        compare_processes(options)


if __name__ == "__main__":
    main()
