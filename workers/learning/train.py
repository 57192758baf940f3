"""One training of a mechanism: client, server and whatever works against them, epoch by epoch."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hushsweep.datasets.images import DatasetConfig, ImageSet, load_images
from hushsweep.datasets.tasks import training_part
from hushsweep.workers.devices import autocast, in_channels_last, threads
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning.loop import History, run_epochs
from hushsweep.workers.learning.task import (
    LearningTask,
    derived_seed,
    schedule_of,
    server_classes,
    watched_part,
)
from hushsweep.workers.mechanisms.learned import Batch, LearnedMechanism
from hushsweep.workers.models import Trainable, starting_state, trainable
from hushsweep.workers.progress import Progress, Report

_EVALUATION_BATCH = 256


class MechanismTraining:
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
        self._base_state, self._cache_dir, self._decode_threads = base_state, cache_dir, decode_threads
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
            history = self._run_epochs(modules, checkpoint)
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

    def _run_epochs(
        self,
        modules: Mapping[str, nn.Module],
        checkpoint: Path,
        batches: Callable[[], Sequence[np.ndarray]] | None = None,
    ) -> History:
        return run_epochs(
            modules,
            self._optimisers,
            schedule_of(self.mechanism, self.task),
            self._step,
            size=len(self.images),
            device=self.task.device,
            checkpoint=checkpoint,
            before_epoch=self._before_epoch,
            after_epoch=self._after_epoch,
            after_checkpoint=self._tell,
            batches=batches,
        )

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
        mechanism.descend(loss, [o for key, o in self._optimisers.items() if key != "adversary"])
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
        starts = range(0, len(images), _EVALUATION_BATCH)
        rows = (slice(start, start + _EVALUATION_BATCH) for start in starts)
        return zip(rows, self._normalised(images.images), strict=True)

    def _normalised(self, images: np.ndarray) -> Iterator[Tensor]:
        for start in range(0, len(images), _EVALUATION_BATCH):
            pixels = torch.from_numpy(np.array(images[start : start + _EVALUATION_BATCH]))
            yield self.network.normalise(pixels.to(self.task.device))

    def _values(self) -> Iterator[Tensor]:
        return (self._place(x) for _, x in self._batches(self.images))


def _drawn(values: Tensor, law: str) -> Tensor:
    return torch.randn_like(values)


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
