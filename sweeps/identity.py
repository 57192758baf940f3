"""Which fields of a sweep file can change a number, and the ids made of them.

A point's id is the hash of its identity; nothing about how it was run enters. Changing the lists below, or what goes
into an id, raises ``IDENTITY_VERSION``: stored rows are then computed anew. A new field that enters only where it is
set leaves the ids of all older points as they are, and the version with them.
"""

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from hushsweep.datasets.images import DatasetConfig, DatasetInfo
from hushsweep.datasets.tasks import shuffled_class_counts
from hushsweep.workers.measures import find_measure
from hushsweep.workers.mechanisms import find_mechanism
from hushsweep.workers.mechanisms.learned import LearnedMechanism
from hushsweep.workers.models import InputTransform, ModelConfig
from hushsweep.workers.models.files import sha256
from hushsweep.workers.trial import MeasureConfig, StageConfig, content_id

IDENTITY_VERSION = 1

IDENTITY_FIELDS = frozenset(
    {
        "seed",
        "cut",
        "precision",
        "device",
        "mechanism",
        "measures",
        "dataset.name",
        "dataset.split",
        "dataset.limit",
        "dataset.label_column",
        "dataset.image_column",
        "dataset.task",
        "dataset.secondary_column",
        "dataset.train_limit",
        "dataset.class_counts",
        "dataset.class_seed",
        "dataset.input_size",
        "model.name",
        "model.weights",
        "model.seed",
        "model.num_classes",
        "model.in_channels",
        "model.network_size",
        "model.epochs",
        "model.batch_size",
        "model.learning_rate",
        "model.training_threads",
    }
)
EXECUTION_FIELDS = frozenset(
    {
        "name",
        "description",
        "dataset.root",  # where the data lie; what they are enters as their fingerprint
        "early_stopping.name",  # decides which numbers there are, never what they are
        "early_stopping.grace_period",
        "early_stopping.reduction_factor",
        "execution.batch_size",
        "execution.shards",
        "execution.cpus_per_trial",
        "execution.gpus_per_trial",
        "execution.max_concurrent_trials",
        "execution.max_failures",
        "execution.threads",
        "execution.feature_cache_gb",
        "execution.timeout_s",
    }
)
SEEDED_WEIGHTS = ("train", "random", "prototype")
TRAINING_FIELDS = ("epochs", "batch_size", "learning_rate", "training_threads")


def subject_identity(
    *,
    dataset: DatasetConfig,
    info: DatasetInfo,
    model: ModelConfig,
    num_classes: int,
    weights: str,
    transform: InputTransform,
    cut: str,
    precision: str,
    device: str,
) -> dict[str, Any]:
    """Return what identifies data, model, weights and cut: the part that the points of a trial share.

    Args:
        dataset: settings; the root is left out.
        info: gives the split that was found and the fingerprint of the data.
        model: settings.
        num_classes: outputs of the head.
        weights: what identifies the weights: a digest, or the name under which they are published.
        transform: how images become inputs.
        cut: the cut.
        precision: of the activations.
        device: type of device.
    """
    only_where_set = {
        "task": info.task,
        "secondary_column": dataset.secondary_column,
        "train_limit": dataset.train_limit,
        "class_counts": shuffled_class_counts(dataset),
    }
    return {
        "version": IDENTITY_VERSION,
        "dataset": {
            "name": dataset.name,
            "split": info.split,
            "fingerprint": info.fingerprint,
            "limit": None if info.size == info.total else dataset.limit,
            "label_column": dataset.label_column,
            "image_column": dataset.image_column,
            **{key: value for key, value in only_where_set.items() if value is not None},
        },
        "transform": asdict(transform),
        "model": {
            "name": model.name,
            "weights": weights,
            "num_classes": num_classes,
        },
        "cut": cut,
        "precision": precision,
        "device": device,
    }


def point_id(subject: dict[str, Any], stages: tuple[StageConfig, ...], seed: int) -> str:
    """Return the id of one point."""
    return content_id({**subject, "mechanism": [_stage_identity(stage) for stage in stages], "seed": seed})


def curve_id(subject: dict[str, Any], stages: tuple[StageConfig, ...], seed: int) -> str:
    """Return the id shared by the points that differ from this one in the level alone."""
    place = level_place(stages)
    levelless = list(stages)
    if place is not None and stages[place].target_accuracy_loss is None:
        stage, name = stages[place], level_name(stages[place])
        levelless[place] = replace(stage, parameters={**stage.parameters, str(name): None})
    return content_id({**subject, "curve": [_stage_identity(stage) for stage in levelless], "seed": seed})


def measure_id(name: str, options: dict[str, Any]) -> str:
    """Return the id of a measure with all its options."""
    return content_id({"measure": name, "version": find_measure(name).VERSION, "options": options})


def measure_config(name: str, options: dict[str, Any]) -> MeasureConfig:
    """Complete a measure's options by their defaults and give it its id."""
    measure = find_measure(name)(**options)
    complete = {field.name: getattr(measure, field.name) for field in fields(measure)}
    return MeasureConfig(measure_id=measure_id(name, complete), name=name, options=complete)


def level_place(stages: tuple[StageConfig, ...]) -> int | None:
    """Return the place in the chain of the mechanism whose level is the point's.

    The one whose level is searched for, else the last one that has a level.
    """
    for place, stage in enumerate(stages):
        if stage.target_accuracy_loss is not None:
            return place
    places = [place for place, stage in enumerate(stages) if level_name(stage) is not None]
    return places[-1] if places else None


def level_name(stage: StageConfig) -> str | None:
    """Return the field that is a stage's level, given or to be found; None if it has none."""
    levels = find_mechanism(stage.name).LEVELS
    if stage.target_accuracy_loss is not None:
        return str(levels[0])
    return next((name for name in levels if stage.parameters.get(name) is not None), None)


def learns(stage: StageConfig) -> bool:
    """Tell whether a stage's mechanism is one that learns."""
    return issubclass(find_mechanism(stage.name), LearnedMechanism)


def learning_key(stages: tuple[StageConfig, ...], seed: int) -> str | None:
    """Return what points share that need one and the same training of their mechanism; None if it does not learn."""
    for stage in stages:
        if learns(stage):
            afterwards = find_mechanism(stage.name).AFTERWARDS
            parameters = {key: value for key, value in stage.parameters.items() if key not in afterwards}
            return repr((stage.name, stage.at, sorted(parameters.items()), seed))
    return None


def _stage_identity(stage: StageConfig) -> dict[str, Any]:
    searched = stage.target_accuracy_loss is not None
    parameters = stage.parameters
    if parameters.get("weights") is not None:  # a client from outside is its content, wherever its file lies
        parameters = {**parameters, "weights": sha256(Path(parameters["weights"]))}
    return {
        "name": stage.name,
        "version": find_mechanism(stage.name).VERSION,
        "at": stage.at,
        "parameters": parameters,
        "target_accuracy_loss": stage.target_accuracy_loss,
        "calibration": stage.calibration if searched else None,
    }
