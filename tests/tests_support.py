"""Small real things that several tests measure: the digits and a seeded network for them."""

from functools import cache
from multiprocessing.queues import Queue
from pathlib import Path

import torch

from hushsweep.datasets.images import DatasetConfig, ImageSet, describe_dataset, load_images
from hushsweep.sweeps.session import Summary
from hushsweep.workers import features
from hushsweep.workers.features import Activations
from hushsweep.workers.models import InputTransform, ModelConfig, SplitModel, input_transform, load_model

MODEL = ModelConfig(name="digits_mlp", weights="random")


def digits_set(cache_dir: Path, *, limit: int) -> ImageSet:
    """Load real digits."""
    dataset = DatasetConfig(name="digits", limit=limit)
    return load_images(dataset, digits_transform().geometry, cache_dir=cache_dir)


@cache
def digits_transform() -> InputTransform:
    """The transform of the digits network."""
    return input_transform(MODEL, describe_dataset(DatasetConfig(name="digits")), input_size=None)


def digits_model() -> SplitModel:
    """A digits network with seeded random weights."""
    info = describe_dataset(DatasetConfig(name="digits"))
    return load_model(MODEL, "features", info=info, transform=digits_transform())


def fill_features(folder: Path, first: range, results: "Queue[tuple[float, int]]") -> None:
    """Compute the RMS in a process of its own; tell it and how many images went through the network."""
    torch.set_num_threads(1)
    features.BLOCK = 16
    seen: list[int] = []
    activations = Activations(
        model=digits_model(),
        images=digits_set(folder, limit=70),
        logits=False,
        device=torch.device("cpu"),
        batch_size=8,
        folder=folder / "features",
        cache_bytes=1e9,
        progress=seen.append,
    )
    results.put((activations.rms(first), sum(seen)))


def ended_run(results: Path, sweep: str) -> Summary:
    """What a run comes to that finds everything there."""
    return Summary(
        sweep=sweep,
        results=results,
        wanted=1,
        existing=1,
        computed=0,
        missing=0,
        failures=(),
        images=0,
        seconds=1.0,
        interrupted=False,
        figures=(),
        mirrored="off",
    )
