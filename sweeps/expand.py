"""From the sweep file to the grid it stands for: lists multiply, in the order in which the file gives them."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hushsweep.datasets.images import DatasetConfig
from hushsweep.sweeps.errors import Problem
from hushsweep.sweeps.fields import SpecModel
from hushsweep.sweeps.identity import SEEDED_WEIGHTS, TRAINING_FIELDS, measure_config
from hushsweep.sweeps.spec import SweepSpec
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.mechanisms import find_mechanism
from hushsweep.workers.models import ModelConfig, find_architecture, is_path
from hushsweep.workers.trial import MeasureConfig, StageConfig


@dataclass(frozen=True)
class Grid:
    """The axes of a sweep, each entry with its place in the file where one is needed for messages."""

    datasets: list[tuple[int, DatasetConfig, int | None]]
    """(place, settings, input_size)"""
    models: list[tuple[int, ModelConfig]]
    cuts: list[str]
    chains: list[tuple[StageConfig, ...]]
    seeds: list[int]
    precisions: list[str]
    measures: list[MeasureConfig]


def expand(spec: SweepSpec, folder: Path, problems: list[Problem]) -> Grid:
    """Multiply the lists of a sweep; relative paths in it start at ``folder``. Mistakes go to ``problems``."""
    datasets = []
    for place, dataset in enumerate(spec.dataset):
        for values in product_of(dataset):
            input_size = values.pop("input_size")
            root = values.pop("root")
            values["root"] = None if root is None else _beside(folder, root)
            datasets.append((place, DatasetConfig(**values), input_size))
    return Grid(
        datasets=datasets,
        models=_models(spec, folder, problems),
        cuts=spec.cut,
        chains=_chains(spec, problems),
        seeds=spec.seed,
        precisions=list(spec.precision),
        measures=_measures(spec, problems),
    )


def _beside(folder: Path, path: str) -> str:
    """Prefer what lies beside the sweep file; leave the rest to the data sets, which know HUSHSWEEP_DATA."""
    beside = folder / Path(path).expanduser()
    return str(beside.resolve()) if beside.exists() else path


def product_of(model: SpecModel) -> Iterator[dict[str, Any]]:
    """Yield every combination of the values of a section's fields."""
    names = list(type(model).model_fields)
    values = [getattr(model, name) for name in names]
    axes = [value if isinstance(value, list) else [value] for value in values]
    for combination in itertools.product(*axes):
        yield dict(zip(names, combination, strict=True))


def _models(spec: SweepSpec, folder: Path, problems: list[Problem]) -> list[tuple[int, ModelConfig]]:
    defaults = {field.name: field.default for field in fields(ModelConfig)}
    models = []
    for place, model in enumerate(spec.model):
        for values in product_of(model):
            try:
                find_architecture(values["name"])
            except PlugInError as error:
                problems.append(Problem(("model", place, "name"), str(error)))
                continue
            weights = values["weights"]
            useless = [] if weights in SEEDED_WEIGHTS else ["seed"]
            useless += [] if weights == "train" else TRAINING_FIELDS
            problems += [
                Problem(("model", place, name), f"has no effect with weights {weights!r}; leave it out")
                for name in useless
                if values[name] is not None
            ]
            if is_path(weights):
                values["weights"] = str((folder / Path(weights).expanduser()).resolve())
            given = {name: value for name, value in values.items() if value is not None}
            models.append((place, ModelConfig(**{**defaults, **given})))
    return models


def _chains(spec: SweepSpec, problems: list[Problem]) -> list[tuple[StageConfig, ...]]:
    chains = list[tuple[StageConfig, ...]]()
    for place, stages in enumerate(spec.mechanism):
        located: list[tuple[str | int, ...]] = [("mechanism", place)]
        if len(stages) > 1:
            located = [("mechanism", place, "chain", position) for position in range(len(stages))]
        options = [
            [_stage(values, where, problems) for values in product_of(stage)]
            for stage, where in zip(stages, located, strict=True)
        ]
        for chain in itertools.product(*options):
            if sum(stage.target_accuracy_loss is not None for stage in chain) > 1:
                problems.append(
                    Problem(
                        ("mechanism", place),
                        "target_accuracy_loss stands twice in one chain; give levels to all but one",
                    )
                )
            if any(a.at == "cut" and b.at == "input" for a, b in itertools.pairwise(chain)):
                problems.append(
                    Problem(
                        ("mechanism", place),
                        "a chain acts on the input first and at the cut last; change its order",
                    )
                )
            chains.append(chain)
    return chains


def _stage(values: dict[str, Any], where: tuple[str | int, ...], problems: list[Problem]) -> StageConfig:
    name, at = values.pop("name"), values.pop("at")
    target, calibration = values.pop("target_accuracy_loss", None), values.pop("calibration", None)
    cls = find_mechanism(name)
    parameters = {key: value for key, value in values.items() if value is not None}
    levels = [key for key in cls.LEVELS if key in parameters]
    if cls.LEVELS and len(levels) + (target is not None) != 1:
        allowed = ", ".join((*cls.LEVELS, "target_accuracy_loss"))
        given = ", ".join(levels + ["target_accuracy_loss"] * (target is not None)) or "none"
        problems.append(Problem(where, f"expected exactly one of {allowed}, got {given}"))
    elif calibration is not None and target is None:
        problems.append(
            Problem((*where, "calibration"), "has no effect without target_accuracy_loss; leave it out")
        )
    elif target is None:
        try:
            cls(**parameters)
        except (TypeError, ValueError) as error:
            problems.append(Problem(where, str(error)))
    return StageConfig(
        name=name,
        at=at,
        parameters=parameters,
        target_accuracy_loss=target,
        calibration=calibration or "half",
    )


def _measures(spec: SweepSpec, problems: list[Problem]) -> list[MeasureConfig]:
    found = list[MeasureConfig]()
    for place, measure in enumerate(spec.measures):
        for values in product_of(measure):
            options = {key: value for key, value in values.items() if key != "name" and value is not None}
            try:
                config = measure_config(values["name"], options)
            except (TypeError, ValueError) as error:
                problems.append(Problem(("measures", place), str(error)))
                continue
            if config in found:
                problems.append(
                    Problem(
                        ("measures", place), f"the measure {config.name!r} stands twice with the same options"
                    )
                )
            found.append(config)
    return found
