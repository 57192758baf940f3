"""Time the batched search for HCR shifts against the published way of doing it, on the same images and settings.

python benchmarks/hcr_search.py --data ../shared/data --results /tmp/bench --images 20 --restarts 25 --rounds 10

The yardstick solves, for every restart and round, one block-diagonal system for all images with scipy's LSQR, and goes
to the host and back with every product, as the code of arXiv:2404.02866 does; it is written afresh here.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

from hushsweep.datasets.images import DatasetConfig, describe_dataset, load_images
from hushsweep.workers.bounds import bound_modes, chi_square_gaussian
from hushsweep.workers.bounds.search import items_that_fit, search_shifts
from hushsweep.workers.devices import device_name, resolve_device, threads
from hushsweep.workers.features import Activations
from hushsweep.workers.models import ModelConfig, SplitModel, input_transform, load_model
from hushsweep.workers.noise import normal_draws
from hushsweep.workers.training import resolve_weights


@dataclass(frozen=True, kw_only=True)
class Task:
    """What both searches are given."""

    model: SplitModel
    exact: SplitModel
    x: Tensor
    starts: Tensor
    noise_std: float
    rounds: int
    step: float
    tolerance: float


def joint_search(task: Task) -> Tensor:
    """Search as published: all images of a restart in one system, one restart after the other."""
    shifts = [_joint_restart(task, task.starts[:, r]) for r in range(task.starts.shape[1])]
    return torch.stack(shifts, dim=1)


def _joint_restart(task: Task, start: Tensor) -> Tensor:
    model, x = task.model.features, task.x
    with torch.no_grad():
        clean = model(x)
    difference = (start * (task.noise_std * task.step / math.sqrt(start[0].numel()))).flatten(1).cpu().numpy()
    lengths = np.linalg.norm(difference, axis=1, keepdims=True)
    target, perturbed = difference, x.clone()
    for _ in range(task.rounds):
        target = target / np.linalg.norm(target, axis=1, keepdims=True) * lengths
        tolerance = task.tolerance * np.linalg.norm(target, axis=1).min()
        system = _block_diagonal(model, perturbed, clean.shape)
        delta = scipy.sparse.linalg.lsqr(system, target.ravel(), atol=tolerance)[0]
        perturbed = x + torch.from_numpy(delta.reshape(x.shape)).to(x)
        with torch.no_grad():
            target = (model(perturbed) - clean).flatten(1).cpu().numpy()
    return perturbed - x


def _block_diagonal(
    model: Callable[[Tensor], Tensor], points: Tensor, shape: torch.Size
) -> scipy.sparse.linalg.LinearOperator:
    _, pull_back = torch.func.vjp(model, points)

    def to_device(v: np.ndarray, size: torch.Size) -> Tensor:
        return torch.from_numpy(v.astype(np.float32).reshape(size)).to(points)

    def matvec(v: np.ndarray) -> np.ndarray:
        return (
            torch.func.jvp(model, (points,), (to_device(v, points.shape),))[1].detach().cpu().numpy().ravel()
        )

    def rmatvec(u: np.ndarray) -> np.ndarray:
        return pull_back(to_device(u, shape))[0].detach().cpu().numpy().ravel()

    return scipy.sparse.linalg.LinearOperator(
        (shape.numel(), points.numel()), matvec=matvec, rmatvec=rmatvec, dtype=np.float32
    )


def batched_search(task: Task, dtype: torch.dtype) -> Tensor:
    """Search as the measure does: every (image, restart) its own problem, all in one batch."""
    model = task.exact if dtype == torch.float64 else task.model
    x = task.x.to(dtype)
    return search_shifts(
        model,
        task.exact,
        x,
        task.starts,
        noise_std=task.noise_std,
        rounds=task.rounds,
        step=task.step,
        lsqr_tolerance=task.tolerance,
        max_items=items_that_fit(model, x[:1], 2**31),
    ).input_shift


def prepare(args: argparse.Namespace, device: torch.device) -> Task:
    """Train the paper's MNIST network or find it trained, and draw the starts."""
    dataset = DatasetConfig(name="mnist", root=str(args.data))
    config, info = ModelConfig(name="mnist_mlp", weights="train"), describe_dataset(dataset)
    transform = input_transform(config, info, input_size=None)
    cache = args.results / "cache"
    state, _ = resolve_weights(
        config,
        info=info,
        transform=transform,
        dataset=dataset,
        models_dir=args.results / "models",
        cache_dir=cache,
        device=device,
    )
    model = load_model(config, "features", info=info, transform=transform, state_dict=state, device=device)
    images = load_images(dataset, transform.geometry, cache_dir=cache)
    activations = Activations(model=model, images=images, logits=False, device=device, batch_size=256)
    starts = normal_draws(
        model.feature_shape,
        seed=0,
        purpose="hcr-start",
        image_indices=range(args.images),
        count=args.restarts,
        device=device,
    )
    return Task(
        model=model,
        exact=model.double(),
        x=activations.inputs(range(args.images)),
        starts=starts,
        noise_std=activations.rms(range(1)),
        rounds=args.rounds,
        step=args.step,
        tolerance=args.tolerance,
    )


def timed(task: Task, search: Callable[[], Tensor]) -> tuple[float, float, Tensor]:
    """Return seconds, the mean bound (largest over restarts), and the mean bound of every restart on its own."""
    started = time.perf_counter()
    shift = search()
    seconds = time.perf_counter() - started
    modes = [
        bound_modes(task.exact, task.x, part, lambda z: chi_square_gaussian(z, task.noise_std)).modes
        for part in (shift, *torch.split(shift, 1, dim=1))
    ]
    return seconds, float(modes[0].mean()), torch.stack([m.mean() for m in modes[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist/ in it")
    parser.add_argument("--results", type=Path, required=True, help="keeps the trained network")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--step", type=float, default=1 / 200)
    parser.add_argument("--tolerance", type=float, default=0.02)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    device = resolve_device(args.device)
    with threads(args.threads):
        task = prepare(args, device)
        print(
            f"{device_name(device)}, {args.threads} thread(s), {args.images} images x {args.restarts} restarts"
        )
        searches: dict[str, Callable[[], Tensor]] = {
            "batched, float64": lambda: batched_search(task, torch.float64),
            "batched, float32": lambda: batched_search(task, torch.float32),
            "joint LSQR, as published": lambda: joint_search(task),
        }
        found = {name: timed(task, search) for name, search in searches.items()}
    yardstick, _, apart = found["joint LSQR, as published"]
    for name, (seconds, bound, single) in found.items():
        print(
            f"{name:25} {seconds:8.1f} s   mean bound {bound:.4f}   per restart {single.mean():.4f} "
            f"({single.min():.4f} to {single.max():.4f})   {yardstick / seconds:5.1f}x"
        )
    ours = found["batched, float64"]
    inside = "inside" if apart.min() <= ours[2].mean() <= apart.max() else "OUTSIDE"
    print(
        f"ratio {yardstick / ours[0]:.1f}x (target >= 5x); mean of a restart {inside} the published restarts"
    )


if __name__ == "__main__":
    main()
