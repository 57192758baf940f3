"""What the measures of one trial share: images, what is learned, the network, its activations, fitted points.

What one worker needs twice in a row (a model, an image set) stays in memory between its trials.
"""

import traceback
from dataclasses import asdict, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hushsweep.datasets.images import (
    DatasetConfig,
    DatasetInfo,
    ImageSet,
    describe_dataset,
    load_images,
    node_cache,
)
from hushsweep.datasets.results import Store, StoreError
from hushsweep.datasets.tasks import training_part, validation_part
from hushsweep.workers.features import Activations, shard_range
from hushsweep.workers.fitting import LevelSearch, fit_point
from hushsweep.workers.learning.learn import Learned, learn
from hushsweep.workers.learning.task import LearningTask, watched_part
from hushsweep.workers.measures.accuracy import count_hits
from hushsweep.workers.measures.base import FittedPoint, Subject
from hushsweep.workers.mechanisms import ActivationStatistics, find_mechanism
from hushsweep.workers.mechanisms.learned import LearnedMechanism
from hushsweep.workers.memory import BatchLimit
from hushsweep.workers.models import (
    InputTransform,
    ModelConfig,
    SplitModel,
    Trainable,
    find_architecture,
    input_transform,
    is_path,
    load_model,
    trainable,
)
from hushsweep.workers.models.flops import flops
from hushsweep.workers.progress import Progress, Report
from hushsweep.workers.training import ResolvedWeights, resolve_weights
from hushsweep.workers.trial import Execution, PointConfig, StageConfig, Trial, content_id

CACHE_VERSION = 1
"""Raise it when the same settings give other activations, levels or shifts than before."""


class TrialRun:
    """What the measures of one trial share."""

    def __init__(
        self, trial: Trial, store: Store, execution: Execution, device: torch.device, report: Report
    ) -> None:
        self.trial, self.store, self.execution, self.device, self.report = (
            trial,
            store,
            execution,
            device,
            report,
        )
        self._validation, self._limit = dict[str, float](), BatchLimit()
        self.info = describe_dataset(trial.dataset)
        self.transform = input_transform(trial.model, self.info, input_size=trial.input_size)
        images = self._part(trial.dataset)
        self.learned = self._learn()
        self.model, self.weights_digest = self._network()
        positions = shard_range(len(images), trial.shard, trial.shards)
        activations = self._activations(images)
        self.subject = Subject(
            activations=activations,
            positions=positions,
            rms=lambda: self.statistics["cut"].rms,
            cache=store.cache_dir,
            key={**self._key(images), "salt": trial.salt},
            progress=lambda images: report(Progress(images=images)),
            part=lambda name: self._part(
                training_part(trial.dataset) if name == "train" else validation_part(trial.dataset)
            ),
            fresh=self._fresh,
            full_epochs=find_architecture(trial.model.name).preset("train").epochs,
        )

    @cached_property
    def columns(self) -> dict[str, Any]:
        """What the rows of all measures say of network and mechanism."""
        columns: dict[str, Any] = {"weights_digest": self.weights_digest}
        learner = _learner(self.trial)
        if learner is None or self.learned is None:
            return columns
        stage, mechanism = learner
        shape = self.model.input_shape if stage.at == "input" else self.model.feature_shape
        return {
            **columns,
            "mechanism_digest": self.learned.digest,
            "client_flops": mechanism.flops(self.learned.client, shape),
            "server_flops": flops(self._fresh(self.model.num_classes, 0, 0), self.model.input_shape),
        }

    def _part(self, dataset: DatasetConfig) -> ImageSet:
        info = describe_dataset(dataset)
        threads = self.execution.decode_threads
        return _images(dataset, info, self.transform, self.store.cache_dir, threads)

    def _fresh(self, classes: int, extra_channels: int, seed: int) -> Trainable:
        channels = self.transform.geometry.channels + extra_channels
        return trainable(
            self.trial.model,
            self.trial.cut,
            info=self.info,
            transform=self.transform,
            num_classes=classes,
            in_channels=channels if extra_channels else None,
            seed=seed,
            device=self.device,
        )

    def _learn(self) -> Learned | None:
        """Learn what the trial's mechanism learns, if it is one that does."""
        learner, trial = _learner(self.trial), self.trial
        if learner is None:
            return None
        stage, mechanism = learner
        base = None if mechanism.server == "scratch" else self._weights()
        return learn(
            stage.name,
            mechanism,
            stage.at,
            LearningTask(
                model=trial.model,
                cut=trial.cut,
                dataset=trial.dataset,
                info=self.info,
                transform=self.transform,
                seed=trial.points[0].seed,
                base=(base and base.digest) or f"{trial.model.weights}/{trial.model.seed}",
                device=self.device,
            ),
            base_state=lambda: base and base.state_dict,
            models_dir=self.store.models_dir,
            cache_dir=self.store.cache_dir,
            decode_threads=self.execution.decode_threads,
            report=self.report,
        )

    def _weights(self) -> ResolvedWeights:
        return resolve_weights(
            self.trial.model,
            info=self.info,
            transform=self.transform,
            dataset=self.trial.dataset,
            models_dir=self.store.models_dir,
            cache_dir=self.store.cache_dir,
            device=self.device,
        )

    def _network(self) -> tuple[SplitModel, str | None]:
        """The network that is evaluated, and what identifies its weights: learned with a mechanism, or the model's."""
        trial, learned = self.trial, self.learned
        if learned is not None and learned.server is not None:
            model = load_model(
                trial.model,
                trial.cut,
                info=self.info,
                transform=self.transform,
                state_dict=learned.server,
                num_classes=trial.model.num_classes or self.info.classes,
                device=self.device,
            )
            return model, learned.digest
        return _model(
            trial.model,
            trial.cut,
            trial.dataset,
            self.info,
            self.transform,
            self.store.models_dir,
            self.store.cache_dir,
            self.device,
            _modified(trial.model.weights),
        )

    @cached_property
    def statistics(self) -> dict[str, ActivationStatistics]:
        """Of the clean activations, where a stage may act."""
        activations, positions = self.subject.activations, self.subject.positions
        return {
            "cut": ActivationStatistics(lambda: activations.rms(positions)),
            "input": ActivationStatistics(lambda: _input_rms(activations.images, self.model)),
        }

    def fit(self) -> tuple[dict[str, FittedPoint], dict[str, float], dict[str, str]]:
        """Fit all points; return the fitted ones, the levels that were searched for, and why others failed."""
        fitted, found, failures = dict[str, FittedPoint](), dict[str, float](), dict[str, str]()
        for point in self.trial.points:
            try:
                fitted[point.point_id], level = fit_point(point, self.statistics, self._search, self.learned)
            except StoreError:
                raise
            except Exception as error:  # one point's chain may not fit while the others do
                failures[point.point_id] = reason_of(error)
                continue
            if level is not None:
                found[point.point_id] = level
        return fitted, found, failures

    def validation(self, points: list[FittedPoint]) -> dict[str, float]:
        """Primary accuracy of points on the validation part, where the data set has a task; computed once."""
        if self.info.task is None:
            return {}
        if not self._validation:
            images = self._part(watched_part(self.trial.dataset))
            subject = replace(
                self.subject, activations=self._activations(images), positions=range(len(images))
            )
            hits = count_hits(subject, points, draws=1, stream="validation/").top1.mean(axis=1)
            self._validation = {p.point_id: float(top1) for p, top1 in zip(points, hits, strict=True)}
        return self._validation

    def _search(self, stage: StageConfig) -> LevelSearch:
        subject = self.subject
        if stage.calibration != "half":
            images = self._part(replace(self.trial.dataset, split=stage.calibration))
            subject = replace(subject, activations=self._activations(images))
        images = subject.activations.images
        return LevelSearch(
            subject=replace(subject, positions=range(len(images))),
            step=2 if stage.calibration == "half" else 1,
            cache=self.store.cache_dir / "levels",
            # the noise that a level stands for is relative to the RMS of the reported images
            key={**self._key(images), "reported": self._key(self.subject.activations.images)},
        )

    def _activations(self, images: ImageSet) -> Activations:
        logits = self.model.head_is_linear and all(_head_suffices(point) for point in self.trial.points)
        name = Path("features") / content_id({**self._key(images), "logits": logits})
        return Activations(
            model=self.model,
            images=images,
            logits=logits,
            device=self.device,
            batch_size=self.execution.batch_size,
            precision=self.trial.precision,
            folder=self.store.cache_dir / name,
            values_folder=node_cache(self.store.cache_dir) / name,
            cache_bytes=self.execution.feature_cache_gb * 1e9,
            limit=self._limit,
            progress=lambda images: self.report(Progress(images=images)),
        )

    def _key(self, images: ImageSet) -> dict[str, Any]:
        model = asdict(self.trial.model)
        return {
            "version": CACHE_VERSION,
            "images": images.path.name,  # names data, geometry and decoder, hence which images could be decoded
            "data": images.info.fingerprint,
            "split": images.info.split,
            "limit": self.trial.dataset.limit,
            "transform": asdict(self.transform),
            "model": {key: model[key] for key in ("name", "weights", "seed", "num_classes", "in_channels")},
            "weights": self.weights_digest,
            "cut": self.trial.cut,
            "precision": self.trial.precision,
            "device": self.device.type,
        }


def _learner(trial: Trial) -> tuple[StageConfig, LearnedMechanism] | None:
    """The mechanism that learns, and its stage: the same for all points of a trial, but for what acts afterwards."""
    for stage in trial.points[0].stages:
        mechanism = find_mechanism(stage.name)
        if issubclass(mechanism, LearnedMechanism):
            return stage, mechanism(**stage.parameters)
    return None


def _head_suffices(point: PointConfig) -> bool:
    """Tell whether a linear head turns this chain into noise on the logits (see Activations)."""
    stages = [stage for stage in point.stages if stage.name != "none"]
    return (
        not stages
        or stages[0].at == "input"
        or (len(stages) == 1 and stages[0].name in ("gaussian", "laplace"))
    )


@lru_cache(maxsize=4)
def _images(
    dataset: DatasetConfig, info: DatasetInfo, transform: InputTransform, cache: Path, decode_threads: int
) -> ImageSet:
    """Keep image sets open between trials; ``info`` has their fingerprint, so a changed one is opened anew."""
    return load_images(dataset, transform.geometry, cache_dir=cache, threads=decode_threads)


@lru_cache(maxsize=2)
def _model(
    config: ModelConfig,
    cut: str,
    dataset: DatasetConfig,
    info: DatasetInfo,
    transform: InputTransform,
    models_dir: Path,
    cache_dir: Path,
    device: torch.device,
    modified: int | None,
) -> tuple[SplitModel, str | None]:
    """Keep models in memory between trials; ``modified`` tells a weights file from its successor."""
    state, digest = resolve_weights(
        config,
        info=info,
        transform=transform,
        dataset=dataset,
        models_dir=models_dir,
        cache_dir=cache_dir,
        device=device,
    )
    return load_model(config, cut, info=info, transform=transform, state_dict=state, device=device), digest


def _modified(weights: str) -> int | None:
    return Path(weights).stat().st_mtime_ns if is_path(weights) else None


def _input_rms(images: ImageSet, model: SplitModel) -> float:
    squares = 0.0
    for start in range(0, len(images), 256):
        pixels = torch.from_numpy(np.array(images.images[start : start + 256]))
        squares += float(model.normalise(pixels).double().square().sum())
    return float(np.sqrt(squares / images.images.size))


def reason_of(error: Exception) -> str:
    """Say in one line why something failed; of an error that nobody foresaw also where."""
    text = " ".join(str(error).split())
    if isinstance(error, ValueError) and text:
        return text
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({Path(frame.filename).name}:{frame.lineno})"
