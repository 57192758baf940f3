"""What the clean network can do on the images on which levels are chosen."""

import json
from pathlib import Path

import numpy as np
import torch

from hushsweep.datasets.images import describe_dataset, load_images
from hushsweep.datasets.results import Store
from hushsweep.datasets.results.files import kept, write_json
from hushsweep.workers.devices import resolve_device, threads
from hushsweep.workers.learning.task import watched_part
from hushsweep.workers.memory import BatchLimit
from hushsweep.workers.models import check_model, input_transform, load_model
from hushsweep.workers.training import WEIGHTS_MADE_HERE, resolve_weights, weights_digest
from hushsweep.workers.trial import Execution, Trial, content_id

_VERSION = 1


def clean_accuracy(trial: Trial, *, results: Path | str, execution: Execution) -> float:
    """Return the clean network's accuracy on those validation images that learned mechanisms are watched on.

    The weights are those of every point of the same setting, trained if they have to be; the number is kept.

    Args:
        trial: says which data, network and cut; its points play no role.
        results: the results folder.
        execution: how to do it.

    Raises:
        PlugInError: the network or its training are impossible.
        DatasetError: there is no validation part.
    """
    store, device = Store(results, create=False), resolve_device(trial.device)
    kept = kept_accuracy(trial, store.cache_dir)
    if kept is not None:
        return kept
    info, part = describe_dataset(trial.dataset), watched_part(trial.dataset)
    transform = input_transform(trial.model, info, input_size=trial.input_size)
    with threads(execution.threads):
        state, _ = resolve_weights(
            trial.model,
            info=info,
            transform=transform,
            dataset=trial.dataset,
            models_dir=store.models_dir,
            cache_dir=store.cache_dir,
            device=device,
        )
        images = load_images(
            part, transform.geometry, cache_dir=store.cache_dir, threads=execution.decode_threads
        )
        model = load_model(
            trial.model, trial.cut, info=info, transform=transform, state_dict=state, device=device
        )

        @torch.inference_mode()
        def count(chosen: range) -> int:
            rows = slice(chosen.start, chosen.stop)
            x = model.normalise(torch.from_numpy(np.array(images.images[rows])).to(device))
            labels = torch.from_numpy(np.array(images.labels[rows])).to(device)
            return int((model.head(model.features(x)).argmax(1) == labels).sum())

        hits, limit, positions = 0, BatchLimit(), range(len(images))
        for start in range(0, len(images), execution.batch_size):
            batch = positions[start : start + execution.batch_size]
            for _, found in limit.pieces(batch, count):
                hits += found
    file = _file(trial, store.cache_dir)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"accuracy": hits / len(images)})
    return hits / len(images)


def kept_accuracy(trial: Trial, cache_dir: Path) -> float | None:
    """Return what :func:`clean_accuracy` found before, None if nothing is kept of it."""
    file = _file(trial, cache_dir)
    return float(json.loads(file.read_text())["accuracy"]) if kept(file) else None


def _file(trial: Trial, cache_dir: Path) -> Path:
    """Name the number by all that it depends on."""
    model, part = trial.model, watched_part(trial.dataset)
    info, seen = describe_dataset(trial.dataset), describe_dataset(part)
    transform = input_transform(model, info, input_size=trial.input_size)
    digest = check_model(model, info).weights_digest
    if model.weights in WEIGHTS_MADE_HERE:
        digest = weights_digest(
            model, info=info, transform=transform, dataset=trial.dataset, device=trial.device
        )
    weights = digest or f"{model.weights}/{model.seed}"
    key = [_VERSION, model.name, model.num_classes, weights, trial.device, repr(transform)]
    return cache_dir / "references" / content_id([*key, seen.fingerprint, part.limit])
