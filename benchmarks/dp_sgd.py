"""What DP-SGD costs: steps against plain Opacus, and the memory of ghost clipping against per-sample gradients.

python benchmarks/dp_sgd.py [steps | memory] [--images 60000] [--model tanh_cnn] [--batch 512] [--repeats 3]

``steps`` trains on MNIST, once as a sweep does (with a checkpoint after every epoch) and once in the loop that Opacus'
documentation writes: PrivacyEngine around the same network, optimiser and a loader of the same expected batch; both on
one thread, by turns, by the wall's clock and by the CPU's, which other work on the machine does not slow. ``memory``
makes three steps on noise of the size of CIFAR-10 in a process of its own for either kind.
"""

import argparse
import multiprocessing
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from common import data_root, print_machine, scratch
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from hushsweep.datasets.images import DatasetConfig, describe_dataset, load_images
from hushsweep.datasets.tasks import training_part
from hushsweep.workers.devices import peak_memory, threads
from hushsweep.workers.learning.learn import learn
from hushsweep.workers.learning.task import LearningTask
from hushsweep.workers.mechanisms.dp_sgd import DpSgd
from hushsweep.workers.models import ModelConfig, input_transform, trainable
from hushsweep.workers.models.networks import OWN

LARGEST_RATIO = 1.1
SETTINGS = {"noise_multiplier": 1.0, "clip_norm": 1.0, "learning_rate": 0.1}


class Seconds(NamedTuple):
    """Per epoch, by the wall's clock and by the CPU's."""

    wall: float
    cpu: float


class Clock:
    """Both clocks, started."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def seconds(self, epochs: int) -> Seconds:
        """Of each of so many epochs since the start."""
        return Seconds((time.perf_counter() - self.wall) / epochs, (time.process_time() - self.cpu) / epochs)


def learning_task(options: argparse.Namespace) -> LearningTask:
    """MNIST, without a task, so that nothing is watched."""
    model = ModelConfig(name=options.model, weights="random")
    dataset = DatasetConfig(name="mnist", root=str(data_root() / "mnist"), train_limit=options.images)
    info = describe_dataset(dataset)
    return LearningTask(
        model=model,
        cut="features",
        dataset=dataset,
        info=info,
        transform=input_transform(model, info, input_size=None),
        seed=0,
        base="random/0",
        device=torch.device("cpu"),
    )


def sweep_loop(cache: Path, options: argparse.Namespace, gradients: str) -> Seconds:
    """The whole training, with all that a sweep keeps."""
    task = learning_task(options)
    mechanism = DpSgd(batch_size=options.batch, epochs=options.epochs, gradients=gradients, **SETTINGS)
    with scratch() as results:
        clock = Clock()
        models = Path(results) / "models"
        learn("dp_sgd", mechanism, "input", task, base_state=lambda: None, models_dir=models, cache_dir=cache)
        return clock.seconds(options.epochs)


def plain_loop(cache: Path, options: argparse.Namespace, gradients: str) -> Seconds:
    """The same in the words of Opacus' own examples, pixels normalised beforehand."""
    from opacus import PrivacyEngine

    task = learning_task(options)
    loaded = load_images(training_part(task.dataset), task.transform.geometry, cache_dir=cache)
    mean, std = (torch.tensor(value).reshape(-1, 1, 1) for value in (task.transform.mean, task.transform.std))
    images = TensorDataset((torch.tensor(loaded.images) / 255 - mean) / std, torch.tensor(loaded.labels))
    network = trainable(task.model, "features", info=task.info, transform=task.transform).network.train()
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False
    ghost = gradients == "ghost"
    criterion = nn.CrossEntropyLoss()
    made = PrivacyEngine().make_private(
        module=network,
        optimizer=SGD(network.parameters(), lr=SETTINGS["learning_rate"], momentum=0.9),
        criterion=criterion,
        data_loader=DataLoader(images, batch_size=options.batch),
        noise_multiplier=SETTINGS["noise_multiplier"],
        max_grad_norm=SETTINGS["clip_norm"],
        grad_sample_mode="ghost" if ghost else "hooks",
    )
    network, optimiser, *wrapped, loader = made
    criterion = wrapped[0] if ghost else criterion
    clock = Clock()
    for _ in range(options.epochs):
        for x, labels in loader:
            optimiser.zero_grad()
            criterion(network(x), labels).backward()
            optimiser.step()
    return clock.seconds(options.epochs)


def compare_steps(options: argparse.Namespace) -> None:
    """Both loops by turns, so that a noisy minute hits both."""
    with scratch() as folder, threads(1):
        cache = Path(folder)
        short = argparse.Namespace(**{**vars(options), "epochs": 1, "images": 10 * options.batch})
        for gradients in ("per_sample", "ghost"):
            plain_loop(cache, short, gradients)
            sweep_loop(cache, short, gradients)
            pairs = [
                (plain_loop(cache, options, gradients), sweep_loop(cache, options, gradients))
                for _ in range(options.repeats)
            ]
            for clock in Seconds._fields:
                plain, ours = (min(getattr(seconds, clock) for seconds in column) for column in zip(*pairs))
                print(
                    f"DP-SGD on MNIST, {options.model}, batch {options.batch}, {gradients}, {options.images:,} images "
                    f"an epoch, {clock} clock: sweep {ours:.1f} s per epoch, plain Opacus {plain:.1f} s, ratio "
                    f"{ours / plain:.2f}x (target <= {LARGEST_RATIO}x)"
                )
            print(
                f"  all: {[tuple(round(value, 1) for seconds in pair for value in seconds) for pair in pairs]}"
            )


def _three_steps(model: str, batch: int, gradients: str | None, results) -> None:
    torch.set_num_threads(1)
    from hushsweep.workers.learning.per_example import PrivateSteps

    network = OWN[model].build(num_classes=10, in_channels=3, side=32).train()
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False
    network.to(memory_format=torch.channels_last)
    optimiser = SGD(network.parameters(), lr=0.1, momentum=0.9)
    x, labels = torch.randn(batch, 3, 32, 32), torch.zeros(batch, dtype=torch.int64)
    x = x.contiguous(memory_format=torch.channels_last)

    def losses(places) -> torch.Tensor:
        return nn.functional.cross_entropy(network(x), labels, reduction="none")

    start = time.process_time()
    if gradients is None:
        for _ in range(3):
            optimiser.zero_grad()
            losses(None).mean().backward()
            optimiser.step()
    else:
        steps = PrivateSteps(
            network,
            optimiser,
            noise_multiplier=1.0,
            clip_norm=1.0,
            batch_size=batch,
            physical_batch=None,
            gradients=gradients,
            copies=1,
        )
        for _ in range(3):
            steps.step(batch, losses)
    results.put((peak_memory("cpu"), (time.process_time() - start) / 3))


def compare_memory(options: argparse.Namespace) -> None:
    """Each kind in a process of its own."""
    context = multiprocessing.get_context("spawn")
    for model, batch in (("vgg19_gn", 16), ("wrn16_4_gn", 64)):
        for gradients in (None, "per_sample", "ghost"):
            results = context.Queue()
            process = context.Process(target=_three_steps, args=(model, batch, gradients, results))
            process.start()
            peak, seconds = results.get()
            process.join()
            print(
                f"{model}, 32x32x3, batch {batch}, {gradients or 'plain SGD'}: peak resident memory {peak:.2f} GiB, "
                f"{seconds:.2f} s of CPU per step"
            )


def main() -> None:
    warnings.filterwarnings("ignore", "Full backward hook is firing")
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", choices=["steps", "memory"])
    parser.add_argument("--images", type=int, default=60000)
    parser.add_argument("--model", default="tanh_cnn")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print_machine()
    if options.what in (None, "steps"):
        compare_steps(options)
    if options.what in (None, "memory"):
        compare_memory(options)


if __name__ == "__main__":
    main()
