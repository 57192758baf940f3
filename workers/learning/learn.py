"""Learn a mechanism once: by content, in any process, killed or not."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors import safe_open
from torch import Tensor, nn

from hushsweep.datasets.images import DatasetConfig, DatasetInfo, ImageSet, describe_dataset, load_images
from hushsweep.datasets.tasks import training_part, validation_part
from hushsweep.workers.devices import in_channels_last, threads
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning.loop import Schedule, run_epochs
from hushsweep.workers.mechanisms.learned import Batch, LearnedMechanism
from hushsweep.workers.models import InputTransform, ModelConfig, Trainable, find_architecture, trainable
from hushsweep.workers.models.files import check_fit, read_state, weights_file
from hushsweep.workers.models.files import sha256 as sha256_of
from hushsweep.workers.models.load import input_shape, network_shape
from hushsweep.workers.models.trainable import starting_state
from hushsweep.workers.progress import Progress, Report
from hushsweep.workers.training import store_weights

VERSION = 1
"""Raise it when the same settings give other weights."""
VALIDATION_IMAGES = 2000
"""Of the validation part, evenly spaced, after every epoch."""
_EVALUATION_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class LearningTask:
    """Everything that what is learned depends on, but for the mechanism itself.

    Attributes:
        model: The server's network.
        cut: Where it is cut.
        dataset: The reported data set; its task's train part is learned, its validation part watched.
        info: Description of the reported data set.
        transform: From images to the network's input.
        seed: Of fresh weights, order and noise.
        base: What identifies the model's given weights.
        device: Where to compute.
    """

    model: ModelConfig
    cut: str
    dataset: DatasetConfig
    info: DatasetInfo
    transform: InputTransform
    seed: int
    base: str
    device: torch.device


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
    with FileLock(models_dir / f".{digest}.lock"):
        if not path.is_file():
            training = _Training(
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
            checkpoint.unlink(missing_ok=True)
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
        "epochs": _schedule(mechanism, task).epochs,
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


def server_classes(mechanism: LearnedMechanism, model: ModelConfig, info: DatasetInfo) -> int | None:
    """Outputs of a server's network that learns; None: as many as the given weights have."""
    return None if mechanism.server == "frozen" else model.num_classes or info.classes


def check_client(
    mechanism: LearnedMechanism,
    place: str,
    model: ModelConfig,
    cut: str,
    info: DatasetInfo,
    transform: InputTransform,
) -> None:
    """Build a mechanism's client for the values it would act on, before anything runs.

    Raises:
        PlugInError: the client does not fit them, or its file does not fit the client.
        ValueError: the mechanism cannot act there.
    """
    shape = _shape(place, model, cut, info, transform)
    client = mechanism.client(shape)
    if mechanism.weights is not None:
        _outside_state(mechanism, client)


def watched_part(dataset: DatasetConfig) -> DatasetConfig:
    """The images by which trainings, and levels that are searched for, are judged."""
    part = validation_part(dataset)
    return replace(part, limit=min(part.limit or VALIDATION_IMAGES, VALIDATION_IMAGES))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Compute in bfloat16 where that is safe, if asked to."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()


def derived_seed(*parts: object) -> int:
    """Make one seed of several values."""
    return int(sha256("/".join(map(str, parts)).encode()).hexdigest()[:15], 16)


def _schedule(mechanism: LearnedMechanism, task: LearningTask) -> Schedule:
    own = find_architecture(task.model.name).preset("train").epochs
    return mechanism.schedule(f"learn/{task.seed}", own)


class _Training:
    """One training, from fresh or given weights to learned ones."""

    def __init__(
        self,
        mechanism: LearnedMechanism,
        place: str,
        task: LearningTask,
        base_state: Mapping[str, Tensor] | None,
        cache_dir: Path,
        decode_threads: int,
        epochs: int,
    ) -> None:
        self.mechanism, self.place, self.task, self.epochs = mechanism, place, task, epochs
        self.images = _images(training_part(task.dataset), task, cache_dir, decode_threads)
        self.watched = _watched(task, cache_dir, decode_threads)
        if mechanism.SECONDARY and self.images.secondary is None:
            raise PlugInError(
                "the mechanism learns from secondary labels, which this data set does not have; "
                "give dataset.task, or choose another mechanism"
            )
        self.network = _network(mechanism, task, base_state)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed("client", task.seed))
            shape = self.network.input_shape if place == "input" else self.network.feature_shape
            self.client = mechanism.client(shape).to(task.device)

    def run(self, checkpoint: Path, report: Report) -> float | None:
        """Train, finish, and return the validation part's accuracy after the last epoch."""
        optimisers = {"client": self.mechanism.optimiser(self.client)}
        optimisers["adversary"] = self.mechanism.adversary_optimiser(self.client)
        modules = {"client": self.client}
        if self.mechanism.server == "frozen":
            self.network.requires_grad_(False)
        else:
            optimisers["server"] = self.mechanism.sgd(self.network)
            modules["server"] = self.network.network
        self._optimisers = {key: value for key, value in optimisers.items() if value is not None}
        self._report = report
        for module in (
            self.client,
            self.network,
        ):  # a third faster on CPUs with bfloat16, and what GPUs prefer
            module.to(memory_format=torch.channels_last)
        self._mode(training=True)
        try:
            history = run_epochs(
                modules,
                self._optimisers,
                _schedule(self.mechanism, self.task),
                self._step,
                size=len(self.images),
                device=self.task.device,
                checkpoint=checkpoint,
                before_epoch=self._before_epoch,
                after_epoch=self._after_epoch,
                after_checkpoint=self._tell,
            )
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise PlugInError(
                f"batch_size {self.mechanism.batch_size}: batch normalisation needs two images in a batch, and there "
                f"are {len(self.images)} to learn from; give a larger batch_size, or a larger dataset.train_limit"
            ) from error
        self._mode(training=False)
        with torch.no_grad(), threads(self.mechanism.training_threads):
            self.mechanism.finish(self.client, self._values)
        return history.scores[-1]

    def _mode(self, *, training: bool) -> None:
        self.client.train(training)
        self.network.train(training and self.mechanism.server != "frozen")

    def _step(self, rows: np.ndarray) -> Tensor:
        mechanism, device = self.mechanism, self.task.device
        x = in_channels_last(self.network.normalise(torch.from_numpy(self.images.images[rows]).to(device)))
        labels = torch.from_numpy(self.images.labels[rows]).to(device)
        secondary = None
        if self.images.secondary is not None:
            secondary = torch.from_numpy(self.images.secondary[rows]).to(device)
        adversary = self._optimisers.get("adversary")
        if adversary is not None:
            with autocast(device, mechanism.training_precision):
                batch = Batch(self._place(x), labels, secondary, self._logits, self._done)
                adverse = mechanism.adversary_loss(self.client, batch)
            adversary.zero_grad()
            adverse.backward()  # type: ignore[no-untyped-call]
            adversary.step()
        with autocast(device, mechanism.training_precision):
            batch = Batch(self._place(x), labels, secondary, self._logits, self._done)
            loss = mechanism.loss(self.client, batch)
        learning = [o for key, o in self._optimisers.items() if key != "adversary"]
        for optimiser in learning:
            optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if mechanism.gradient_clip is not None:
            parameters = [p for o in learning for group in o.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, mechanism.gradient_clip)
        for optimiser in learning:
            optimiser.step()
        self._done += self._per_step
        return loss.detach()

    def _logits(self, values: Tensor) -> Tensor:
        found: Tensor = self.network(values) if self.place == "input" else self.network.head(values)
        return found

    def _place(self, x: Tensor) -> Tensor:
        return x if self.place == "input" else self.network.features(x)

    def _before_epoch(self, epoch: int) -> None:
        self._done = epoch / self.epochs
        self._per_step = 1 / (self.epochs * math.ceil(len(self.images) / self.mechanism.batch_size))

    def _after_epoch(self, epoch: int) -> float | None:
        self._score = None
        if self.watched is not None:
            self._mode(training=False)
            self._score = self._accuracy(self.watched)
            self._mode(training=True)
        return self._score

    def _tell(self, epoch: int) -> None:
        """Report the epoch; whoever listens may end the training by raising what is no Exception."""
        self._report(Progress(epoch=epoch, epochs=self.epochs, score=self._score))

    @torch.no_grad()
    def _accuracy(self, images: ImageSet) -> float:
        """Accuracy of the primary task under noise, the same noise in every epoch."""
        fitted = self.mechanism.bind(self.client, "") if not self.mechanism.AFTERWARDS else None
        hits = 0
        with torch.random.fork_rng():
            torch.manual_seed(derived_seed("watch", self.task.seed))
            for rows, x in self._batches(images):
                values = self._place(x)
                if fitted is not None:
                    values = fitted.apply(values, partial(_drawn, values))
                labels = torch.from_numpy(np.array(images.labels[rows])).to(values.device)
                hits += int((self._logits(values).argmax(1) == labels).sum())
        return hits / len(images)

    def _batches(self, images: ImageSet) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(images), _EVALUATION_BATCH):
            rows = slice(start, start + _EVALUATION_BATCH)
            pixels = torch.from_numpy(np.array(images.images[rows]))
            yield rows, self.network.normalise(pixels.to(self.task.device))

    def _values(self) -> Iterator[Tensor]:
        return (self._place(x) for _, x in self._batches(self.images))


def _drawn(values: Tensor, law: str) -> Tensor:
    return torch.randn_like(values)


def _shape(
    place: str, model: ModelConfig, cut: str, info: DatasetInfo, transform: InputTransform
) -> tuple[int, ...]:
    """Shape of one image's values where a mechanism acts."""
    if place == "input":
        return input_shape(transform, info)
    return trainable(model, cut, info=info, transform=transform).feature_shape


def _network(
    mechanism: LearnedMechanism, task: LearningTask, base_state: Mapping[str, Tensor] | None
) -> Trainable:
    classes = server_classes(mechanism, task.model, task.info)
    seed, state = derived_seed("server", task.model.seed, task.seed), None
    if mechanism.server != "scratch":
        state = starting_state(
            task.model,
            info=task.info,
            transform=task.transform,
            state_dict=base_state,
            num_classes=classes,
            seed=seed,
        )
    return trainable(
        task.model,
        task.cut,
        info=task.info,
        transform=task.transform,
        state_dict=state,
        num_classes=classes,
        seed=seed,
        device=task.device,
    )


def _images(dataset: DatasetConfig, task: LearningTask, cache_dir: Path, threads: int) -> ImageSet:
    return load_images(dataset, task.transform.geometry, cache_dir=cache_dir, threads=threads)


def _watched(task: LearningTask, cache_dir: Path, threads: int) -> ImageSet | None:
    if task.info.task is None:  # without a task, a data set has no validation part that could be counted on
        return None
    return _images(watched_part(task.dataset), task, cache_dir, threads)


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
