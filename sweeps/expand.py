"""From the sweep file to the grid it stands for: lists multiply, in the order in which the file gives them."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hushsweep.datasets.images import DatasetConfig
from hushsweep.sweeps.errors import Problem
from hushsweep.sweeps.fields import SpecModel
from hushsweep.sweeps.identity import SEEDED_WEIGHTS, TRAINING_FIELDS, learns, measure_config
from hushsweep.sweeps.search.fields import RANGES, LevelRange
from hushsweep.sweeps.spec import SweepSpec
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.mechanisms import find_mechanism
from hushsweep.workers.mechanisms.learned import LearnedMechanism
from hushsweep.workers.models import ModelConfig, find_architecture, is_path
from hushsweep.workers.models.files import weights_file
from hushsweep.workers.trial import MeasureConfig, StageConfig


@dataclass(frozen=True)
class SearchedStage:
    """A mechanism whose level is searched for, with all its other settings."""

    place: int
    """Of the mechanism in the file."""
    stage: StageConfig
    """At the lowest level."""
    level_name: str
    levels: LevelRange


@dataclass(frozen=True)
class Grid:
    """The axes of a sweep, each entry with its place in the file where one is needed for messages."""

    datasets: list[tuple[int, DatasetConfig, int | None]]
    """(place, settings, input_size)"""
    models: list[tuple[int, ModelConfig]]
    cuts: list[str]
    chains: list[tuple[int, tuple[StageConfig, ...]]]
    seeds: list[int]
    precisions: list[str]
    measures: list[MeasureConfig]
    searches: list[SearchedStage] = field(default_factory=list)

    @property
    def learns(self) -> bool:
        """Whether any mechanism learns."""
        return bool(self.searches) or any(learns(stage) for _, chain in self.chains for stage in chain)


def expand(spec: SweepSpec, folder: Path, problems: list[Problem]) -> Grid:
    """Multiply the lists of a sweep; relative paths in it start at ``folder``. Mistakes go to ``problems``."""
    datasets = []
    for place, dataset in enumerate(spec.dataset):
        for values in product_of(dataset):
            input_size = values.pop("input_size")
            root = values.pop("root")
            values["root"] = None if root is None else _beside(folder, root)
            if values["class_counts"] is None and values["class_seed"] is not None:
                problems.append(
                    Problem(
                        ("dataset", place, "class_seed"), "has no effect without class_counts; leave it out"
                    )
                )
            values["class_seed"] = values["class_seed"] or 0
            datasets.append((place, DatasetConfig(**values), input_size))
    return Grid(
        datasets=datasets,
        models=_models(spec, folder, problems),
        cuts=spec.cut,
        chains=_chains(spec, folder, problems),
        seeds=spec.seed,
        precisions=list(spec.precision),
        measures=_measures(spec, problems),
        searches=_searches(spec, folder, problems),
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


def _chains(
    spec: SweepSpec, folder: Path, problems: list[Problem]
) -> list[tuple[int, tuple[StageConfig, ...]]]:
    chains = list[tuple[int, tuple[StageConfig, ...]]]()
    for place, stages in enumerate(spec.mechanism):
        if len(stages) == 1 and _range_of(stages[0]):
            continue  # its levels are searched for
        located: list[tuple[str | int, ...]] = [("mechanism", place)]
        if len(stages) > 1:
            located = [("mechanism", place, "chain", position) for position in range(len(stages))]
        options = [
            [_stage(values, where, folder, problems) for values in product_of(stage)]
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
            if len(chain) > 1 and any(learns(stage) for stage in chain):
                problems.append(
                    Problem(
                        ("mechanism", place),
                        "a mechanism that learns stands alone: it would not know what the others of its chain do; "
                        "take it out of the chain",
                    )
                )
            if any(a.at == "cut" and b.at == "input" for a, b in itertools.pairwise(chain)):
                problems.append(
                    Problem(
                        ("mechanism", place),
                        "a chain acts on the input first and at the cut last; change its order",
                    )
                )
            chains.append((place, chain))
    return chains


def _searches(spec: SweepSpec, folder: Path, problems: list[Problem]) -> list[SearchedStage]:
    found = []
    for place, stages in enumerate(spec.mechanism):
        name = _range_of(stages[0]) if len(stages) == 1 else None
        for values in product_of(stages[0]) if name else ():
            assert name is not None
            where, levels = ("mechanism", place), values[name]
            mechanism, before = find_mechanism(values["name"]), len(problems)
            if name in mechanism.AFTERWARDS:
                problems.append(
                    Problem(
                        (*where, name),
                        f"acts after {values['name']} has learned, and only learning can be watched; list its values",
                    )
                )
            elif values.get("weights") is not None:
                problems.append(
                    Problem(
                        (*where, name),
                        "a client from outside has learned already; leave the level or weights out",
                    )
                )
            elif levels.bounds[0] >= levels.bounds[1]:
                low, high = levels.bounds
                problems.append(Problem((*where, name), f"expected low < high, got {low:g} and {high:g}"))
            else:
                stage = _stage({**values, name: levels.bounds[0]}, where, folder, problems)
                if len(problems) == before:
                    found.append(SearchedStage(place, stage, name, levels))
    return found


def _range_of(stage: SpecModel) -> str | None:
    """Name of the level that is searched for, if one is."""
    return next((name for name in type(stage).model_fields if isinstance(getattr(stage, name), RANGES)), None)


def _stage(
    values: dict[str, Any], where: tuple[str | int, ...], folder: Path, problems: list[Problem]
) -> StageConfig:
    name, at = values.pop("name"), values.pop("at")
    target, calibration = values.pop("target_accuracy_loss", None), values.pop("calibration", None)
    cls = find_mechanism(name)
    parameters: dict[str, Any] = {
        key: value.bounds[0] if isinstance(value, RANGES) else value
        for key, value in values.items()
        if value is not None
    }
    outside = parameters.get("weights")
    if outside is not None:
        parameters["weights"] = str((folder / Path(outside).expanduser()).resolve())
        problems += _unread(name, parameters["weights"], where)
    levels = [key for key in cls.LEVELS if key in parameters]
    if cls.LEVELS and outside is None and len(levels) + (target is not None) != 1:
        searched = () if issubclass(cls, LearnedMechanism) else ("target_accuracy_loss",)
        allowed = ", ".join((*cls.LEVELS, *searched))
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


def _unread(name: str, weights: str, where: tuple[str | int, ...]) -> list[Problem]:
    """Say what is wrong with a client's file, as far as that can be said without its data."""
    try:
        weights_file(weights)
    except PlugInError as error:
        return [Problem((*where, "weights"), str(error))]
    if not find_mechanism(name).CAN_LOAD:
        return [Problem((*where, "weights"), f"{name} cannot use a client from outside; leave it out")]
    return []


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
