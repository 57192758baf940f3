"""Learn a mechanism once: by content, in any process, killed or not."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from hushsweep.datasets.heartbeat import locked
from hushsweep.datasets.images import DatasetConfig, DatasetInfo, describe_dataset
from hushsweep.datasets.results.files import kept, remove
from hushsweep.datasets.tasks import training_part
from hushsweep.workers.learning.task import LearningTask, schedule_of, server_classes
from hushsweep.workers.mechanisms.learned import LearnedMechanism
from hushsweep.workers.models import InputTransform, ModelConfig, Trainable, trainable
from hushsweep.workers.models.files import check_fit, read_state, weights_file
from hushsweep.workers.models.files import sha256 as sha256_of
from hushsweep.workers.models.load import input_shape, network_shape
from hushsweep.workers.progress import Report
from hushsweep.workers.training import store_weights

VERSION = 1
"""Raise it when the same settings give other weights."""


@dataclass(frozen=True)
class Learned:
    """What was learned.

    Attributes:
        digest: Names it, and its file in the results.
        client: In eval mode, on the device, without gradients.
        server: All weights of the server's network; None where it was left alone.
        score: Accuracy of the primary task on the validation part, under noise, after the last epoch; None where
            nothing was trained, there is no such part, or the noise does not belong to the training.
    """

    digest: str
    client: nn.Module
    server: Mapping[str, Tensor] | None
    score: float | None


def learn(
    name: str,
    mechanism: LearnedMechanism,
    place: str,
    task: LearningTask,
    *,
    base_state: Callable[[], Mapping[str, Tensor] | None],
    models_dir: Path,
    cache_dir: Path,
    decode_threads: int = 2,
    report: Report = lambda progress: None,
) -> Learned:
    """Learn a mechanism or find it learned; several processes learn it once.

    Args:
        name: Of the mechanism, as the sweep file spells it.
        mechanism: What to learn.
        place: ``input`` or ``cut``.
        task: On what.
        base_state: Gives the model's weights where the configuration does not name them by itself.
        models_dir: Gets ``<digest>.safetensors``, with the settings in its metadata.
        cache_dir: Holds decoded images, and checkpoints while a training runs.
        decode_threads: For images that are not decoded yet.
        report: Told after every epoch.

    Raises:
        PlugInError: the training is impossible or diverges, or a client's file does not fit.
        DatasetError: the data set has no part to learn from, or no secondary labels where they are needed.
    """
    if mechanism.weights is not None:
        return _load_outside(mechanism, place, task)
    settings = learning_settings(name, mechanism, place, task)
    digest = sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]
    path = models_dir / f"{digest}.safetensors"
    models_dir.mkdir(parents=True, exist_ok=True)
    with locked(models_dir / f".{digest}.lock"):
        if not kept(path):
            training = mechanism.training()(
                mechanism, place, task, base_state(), cache_dir, decode_threads, settings["epochs"]
            )
            checkpoint = cache_dir / "checkpoints" / digest
            score = training.run(checkpoint, report)
            state = {f"client.{key}": value for key, value in training.client.state_dict().items()}
            if mechanism.server != "frozen":
                server = training.network.network_state()
                state |= {f"server.{key}": value for key, value in server.items()}
            # what acts only afterwards, as noise of some size, is not in it
            known = None if mechanism.AFTERWARDS else score
            store_weights(path, state, {**settings, "score": known})
            remove(checkpoint)
    return _read(path, digest, mechanism, place, task)


def learning_settings(
    name: str, mechanism: LearnedMechanism, place: str, task: LearningTask
) -> dict[str, Any]:
    """Return what identifies the result of a training.

    Raises:
        DatasetError: the data set has no part to learn from.
    """
    learned = describe_dataset(training_part(task.dataset))
    parameters = mechanism.settings()
    for key in ("weights", "preset", "epochs"):  # what they come to stands beside them
        del parameters[key]
    return {
        "version": VERSION,
        "mechanism": name,
        "mechanism_version": mechanism.VERSION,
        "parameters": parameters,
        "epochs": schedule_of(mechanism, task).epochs,
        "place": place,
        "cut": task.cut if place == "cut" else None,
        "seed": task.seed,
        "base": f"scratch/{task.model.seed}" if mechanism.server == "scratch" else task.base,
        "model": task.model.name,
        "num_classes": server_classes(mechanism, task.model, task.info),
        "input": network_shape(task.transform, task.info),
        "transform": asdict(task.transform),
        "data": learned.fingerprint,
        "limit": None if learned.size == learned.total else learned.size,
        "device_type": task.device.type,
    }


def check_client(
    mechanism: LearnedMechanism,
    place: str,
    model: ModelConfig,
    cut: str,
    dataset: DatasetConfig,
    info: DatasetInfo,
    transform: InputTransform,
) -> None:
    """Build a mechanism's client for the values it would act on, and ask whether it can learn, before anything runs.

    Raises:
        PlugInError: the client does not fit them, its file does not fit the client, or the training is impossible.
        ValueError: the mechanism cannot act there.
    """
    shape = _shape(place, model, cut, info, transform)
    client = mechanism.client(shape)
    if mechanism.weights is not None:
        _outside_state(mechanism, client)
        return
    mechanism.check(
        model,
        lambda: _fresh(model, cut, info, transform),
        lambda: describe_dataset(training_part(dataset)).size,
    )


@lru_cache(maxsize=64)
def _shape(
    place: str, model: ModelConfig, cut: str, info: DatasetInfo, transform: InputTransform
) -> tuple[int, ...]:
    """Shape of one image's values where a mechanism acts."""
    if place == "input":
        return input_shape(transform, info)
    return trainable(model, cut, info=info, transform=transform).feature_shape


@lru_cache(maxsize=1)
def _fresh(model: ModelConfig, cut: str, info: DatasetInfo, transform: InputTransform) -> Trainable:
    """A network that is to be learned; kept for the next mechanism that looks at it."""
    classes = model.num_classes or info.classes
    return trainable(model, cut, info=info, transform=transform, num_classes=classes)


def _read(path: Path, digest: str, mechanism: LearnedMechanism, place: str, task: LearningTask) -> Learned:
    state = read_state(path)
    with safe_open(path, "pt") as file:
        score = json.loads(file.metadata()["settings"])["score"]
    client = _part(state, "client.")
    server = _part(state, "server.") or None
    module = mechanism.client(_shape(place, task.model, task.cut, task.info, task.transform))
    module.load_state_dict(client)
    module.to(task.device).to(memory_format=torch.channels_last)
    return Learned(digest, module.eval().requires_grad_(False), server, score)


def _load_outside(mechanism: LearnedMechanism, place: str, task: LearningTask) -> Learned:
    """Take a client that somebody else learned as it is; the model's own weights serve."""
    assert mechanism.weights is not None
    client = mechanism.client(_shape(place, task.model, task.cut, task.info, task.transform))
    client.load_state_dict(_outside_state(mechanism, client), strict=False)
    digest = sha256_of(weights_file(mechanism.weights))[:32]
    return Learned(digest, client.to(task.device).eval().requires_grad_(False), None, None)


def _outside_state(mechanism: LearnedMechanism, client: nn.Module) -> dict[str, Tensor]:
    """Read a client's tensors: a file of nothing else, or one of ours, which may hold the server's beside them."""
    assert mechanism.weights is not None
    path = weights_file(mechanism.weights)
    state = read_state(path, part="client")
    wanted = {
        name: value
        for name, value in client.state_dict().items()
        if name in state or not name.startswith(mechanism.TRAINING_ONLY)
    }
    check_fit(path, state, wanted, model="client")
    return state


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
