"""From a sweep to its points: everything that needs the disk or the networks is looked up and checked here, once."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hushsweep.datasets.images import (
    LOADERS,
    DatasetConfig,
    DatasetError,
    DatasetInfo,
    describe_dataset,
    resolve_root,
)
from hushsweep.datasets.tasks import shuffled_class_counts, training_part
from hushsweep.sweeps.errors import Problem
from hushsweep.sweeps.expand import Grid, expand
from hushsweep.sweeps.identity import (
    SEEDED_WEIGHTS,
    curve_id,
    learns,
    level_name,
    level_place,
    point_id,
    subject_identity,
)
from hushsweep.sweeps.search.fields import LevelRange, LogUniformLevels, UniformLevels
from hushsweep.sweeps.source import Source
from hushsweep.sweeps.spec import SweepSpec
from hushsweep.workers.devices import resolve_device
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning.learn import check_client
from hushsweep.workers.measures import find_measure
from hushsweep.workers.measures.sizes import JacobianSize, jacobian_size
from hushsweep.workers.mechanisms import find_mechanism
from hushsweep.workers.models import (
    CheckedModel,
    InputTransform,
    ModelConfig,
    check_cut,
    check_model,
    input_transform,
    is_path,
)
from hushsweep.workers.models.files import fetch as fetch_weights
from hushsweep.workers.training import WEIGHTS_MADE_HERE, same_classes, weights_digest
from hushsweep.workers.trial import MeasureConfig, StageConfig


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Data, model, weights and cut as resolved: what the points of a trial share."""

    dataset: DatasetConfig
    info: DatasetInfo
    input_size: int | None
    model: ModelConfig
    checked: CheckedModel
    transform: InputTransform
    cut: str
    precision: str
    device: str
    identity: dict[str, Any]

    @cached_property
    def jacobian(self) -> JacobianSize:
        """Of one image; looked at once a plan wants to know, since it takes building the network."""
        return jacobian_size(self.model, self.cut, info=self.info, transform=self.transform)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a sweep with all the measures that the sweep wants of it."""

    point_id: str
    curve_id: str
    label: str
    setting: Setting
    stages: tuple[StageConfig, ...]
    seed: int
    measures: tuple[MeasureConfig, ...]
    fields: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Searched:
    """A mechanism of one setting whose level is searched for."""

    label: str
    setting: Setting
    stage: StageConfig
    """At the lowest level."""
    level_name: str
    levels: LevelRange
    seeds: tuple[int, ...]
    measures: tuple[MeasureConfig, ...]

    def at(self, level: float) -> tuple[Point, ...]:
        """Return the points of a level, one per seed: those that a sweep has which lists it."""
        stage = replace(self.stage, parameters={**self.stage.parameters, self.level_name: level})
        return tuple(_points(self.setting, self.setting.identity, (stage,), self.seeds, self.measures))


@dataclass(frozen=True)
class Resolved:
    """What a sweep comes to: the points that it lists, and the searches that will ask for more."""

    points: list[Point]
    searches: list[Searched]


def resolve(
    spec: SweepSpec, source: Source, *, device: str | None = None, fetch: bool = False
) -> list[Point]:
    """Expand a sweep into the points that it lists; see :func:`resolve_sweep`."""
    return resolve_sweep(spec, source, device=device, fetch=fetch).points


def resolve_sweep(
    spec: SweepSpec, source: Source, *, device: str | None = None, fetch: bool = False
) -> Resolved:
    """Expand a sweep into its points and searches.

    Args:
        spec: the sweep.
        source: its text, for messages and relative paths.
        device: type of the devices that will do the work; None looks at this machine.
        fetch: also fetch published weights that are missing.

    Raises:
        SpecError: all that is wrong with its data sets, models, cuts and mechanisms.
    """
    problems = list[Problem]()
    grid = expand(spec, source.folder, problems)
    device = device or _device(spec, problems)
    settings = list(_settings(grid, device, problems, fetch=fetch))
    _check_measures(grid, problems, fetch=fetch)
    if problems:
        raise source.report(problems)
    calibrations = _calibrations(settings, grid.chains, problems)
    _check_learning(settings, grid, problems)
    _check_watching(settings, grid, spec, problems)
    if problems:
        raise source.report(problems)
    points = dict[str, Point]()
    measures = tuple(grid.measures)
    for setting, (number, (_, stages)) in itertools.product(settings, enumerate(grid.chains)):
        identity = {**setting.identity, **calibrations.get((id(setting), number), {})}
        for point in _points(setting, identity, stages, grid.seeds, measures):
            points.setdefault(point.point_id, point)
    return Resolved(list(points.values()), _searches(settings, grid))


def _check_measures(grid: Grid, problems: list[Problem], *, fetch: bool) -> None:
    """Find measures that need published weights of their own which are not to be had."""
    looked = set[Path]()
    for place, measure in enumerate(grid.measures):
        published = getattr(find_measure(measure.name)(**measure.options), "published", None)
        if published is None or published.path in looked or not (fetch or published.path.is_file()):
            continue
        looked.add(published.path)
        try:
            fetch_weights(published)
        except PlugInError as error:
            problems.append(Problem(("measures", place), str(error)))


def _searches(settings: list[Setting], grid: Grid) -> list[Searched]:
    found = []
    for setting, search in itertools.product(settings, grid.searches):
        searched = Searched(
            label="",
            setting=setting,
            stage=search.stage,
            level_name=search.level_name,
            levels=search.levels,
            seeds=tuple(grid.seeds),
            measures=tuple(grid.measures),
        )
        point = searched.at(search.levels.bounds[0])[0]
        label = " · ".join(part for part in (setting.model.name, point.fields["mechanism"]) if part)
        found.append(replace(searched, label=label))
    return found


def _check_watching(settings: list[Setting], grid: Grid, spec: SweepSpec, problems: list[Problem]) -> None:
    """Find what would keep searches and early stopping from judging by validation images."""
    blind = next((setting for setting in settings if setting.info.task is None), None)
    for search in grid.searches:
        where = ("mechanism", search.place, search.level_name)
        if blind is not None:
            problems.append(Problem(where, _no_validation("a search", blind)))
        sampled = isinstance(search.levels, (LogUniformLevels, UniformLevels))
        if sampled and not any(measure.name == "secondary" for measure in grid.measures):
            problems.append(
                Problem(
                    where,
                    "is searched for by accuracy and by what an attacker reads; add {name: secondary} to measures",
                )
            )
    if spec.early_stopping is None:
        return
    if not grid.learns:
        problems.append(Problem(("early_stopping",), "has no effect: no mechanism learns; leave it out"))
    elif blind is not None:
        problems.append(Problem(("early_stopping",), _no_validation("early stopping", blind)))
    if spec.execution.shards != 1:
        problems.append(
            Problem(
                ("execution", "shards"),
                f"expected 1 with early_stopping, got {spec.execution.shards}: shards share one training",
            )
        )


def _no_validation(who: str, setting: Setting) -> str:
    return (
        f"{who} judges by validation images, which data set {setting.dataset.name!r} has only with a task; "
        "give dataset.task or dataset.secondary_column (docs/datasets.md)"
    )


def _check_learning(settings: list[Setting], grid: Grid, problems: list[Problem]) -> None:
    """Find what would keep mechanisms and attackers from learning, before anything runs."""
    for setting, (place, measure) in itertools.product(settings, enumerate(grid.measures)):
        if getattr(find_measure(measure.name), "SECONDARY", False) and setting.info.secondary_classes is None:
            problems.append(Problem(("measures", place), _no_secondary(measure.name, setting)))
    chains = [*grid.chains, *((search.place, (search.stage,)) for search in grid.searches)]
    for setting, (place, chain) in itertools.product(settings, chains):
        stage = next((stage for stage in chain if learns(stage)), None)
        if stage is None:
            continue
        where = ("mechanism", place)
        try:
            mechanism = find_mechanism(stage.name)(**stage.parameters)
            if mechanism.SECONDARY and setting.info.secondary_classes is None:
                problems.append(Problem(where, _no_secondary(stage.name, setting)))
            check_client(
                mechanism,
                stage.at,
                setting.model,
                setting.cut,
                setting.dataset,
                setting.info,
                setting.transform,
            )
        except (PlugInError, ValueError) as error:
            problems.append(Problem(where, str(error)))


def _no_secondary(name: str, setting: Setting) -> str:
    return (
        f"{name} needs secondary labels, which data set {setting.dataset.name!r} does not have as it stands; "
        "give dataset.task or dataset.secondary_column (docs/datasets.md)"
    )


def _calibrations(
    settings: list[Setting], chains: list[tuple[int, tuple[StageConfig, ...]]], problems: list[Problem]
) -> dict[tuple[int, int], dict[str, str]]:
    """Fingerprints of the splits on which levels are searched for, by setting and chain; half needs none."""
    found = dict[tuple[int, int], dict[str, str]]()
    for (number, (place, chain)), setting in itertools.product(enumerate(chains), settings):
        split = next((s.calibration for s in chain if s.target_accuracy_loss is not None), "half")
        if split == "half":
            continue
        where = ("mechanism", place)
        try:
            info = describe_dataset(replace(setting.dataset, split=split))
        except DatasetError as error:
            problems.append(Problem(where, f"calibration: {error}"))
            continue
        if info.split == setting.info.split or info.fingerprint == setting.info.fingerprint:
            problems.append(
                Problem(
                    where, f"calibration: {split!r} is the split that is reported; use half, or another split"
                )
            )
        elif not same_classes(info, setting.info):
            problems.append(
                Problem(where, f"calibration: {split!r} has other classes than the reported split")
            )
        found[id(setting), number] = {"calibration_data": info.fingerprint}
    return found


def _device(spec: SweepSpec, problems: list[Problem]) -> str:
    try:
        return resolve_device(spec.device).type
    except ValueError as error:
        problems.append(Problem(("device",), str(error)))
        return "cpu"


def _settings(grid: Grid, device: str, problems: list[Problem], *, fetch: bool) -> Iterator[Setting]:
    infos, roots = dict[DatasetConfig, DatasetInfo](), dict[DatasetConfig, str | None]()
    for place, dataset, _ in grid.datasets:
        try:
            infos[dataset] = describe_dataset(dataset)
            roots[dataset] = (
                str(resolve_root(dataset)) if dataset.name in LOADERS and dataset.name != "digits" else None
            )
        except DatasetError as error:
            problems.append(Problem(("dataset", place), str(error)))
    for (_, dataset, input_size), (place, model) in itertools.product(grid.datasets, grid.models):
        if dataset not in infos:
            continue
        info = infos[dataset]
        if roots[dataset] is not None:  # absolute, since a worker runs in another folder
            dataset = replace(dataset, root=roots[dataset])
        try:
            checked = check_model(model, info, fetch_missing=fetch)
            transform = input_transform(model, info, input_size=input_size)
            weights = _weights_identity(model, checked, info, transform, dataset, device)
            learned = _learned_data(grid, dataset, info)
        except (PlugInError, DatasetError) as error:
            problems.append(Problem(("model", place), str(error)))
            continue
        for position, cut in enumerate(grid.cuts):
            try:
                check_cut(model, cut, info=info, transform=transform)
            except PlugInError as error:
                problems.append(Problem(("cut", position), str(error)))
                continue
            for precision in grid.precisions:
                identity = subject_identity(
                    dataset=dataset,
                    info=info,
                    model=model,
                    num_classes=checked.num_classes,
                    weights=weights,
                    transform=transform,
                    cut=cut,
                    precision=precision,
                    device=device,
                )
                yield Setting(
                    dataset=dataset,
                    info=info,
                    input_size=input_size,
                    model=model,
                    checked=checked,
                    transform=transform,
                    cut=cut,
                    precision=precision,
                    device=device,
                    identity={**identity, **learned},
                )


def _learned_data(grid: Grid, dataset: DatasetConfig, info: DatasetInfo) -> dict[str, str]:
    """Fingerprint of what mechanisms or attackers learn from; empty where neither do."""
    if info.task is None and not grid.learns:
        return {}
    return {"learned_data": describe_dataset(training_part(dataset)).fingerprint}


def _weights_identity(
    model: ModelConfig,
    checked: CheckedModel,
    info: DatasetInfo,
    transform: InputTransform,
    dataset: DatasetConfig,
    device: str,
) -> str:
    """What tells these weights from others: of published ones the name, so that a plan needs no download."""
    if model.weights in WEIGHTS_MADE_HERE:
        return weights_digest(model, info=info, transform=transform, dataset=dataset, device=device)
    if model.weights == "random":
        return f"random/{model.seed}"
    return checked.weights_digest or checked.weights if is_path(model.weights) else checked.weights


def _points(
    setting: Setting,
    identity: dict[str, Any],
    stages: tuple[StageConfig, ...],
    seeds: Sequence[int],
    measures: tuple[MeasureConfig, ...],
) -> Iterator[Point]:
    """Yield the points of one chain, which differ in the seed alone."""
    if all(stage.name == "none" for stage in stages):
        seeds = (0,)  # nothing is drawn, so all seeds are the same point
    place = level_place(stages)
    name = None if place is None else level_name(stages[place])
    target = None if place is None else stages[place].target_accuracy_loss
    parameters = {} if place is None else stages[place].parameters
    mechanism = " + ".join(stage.name + ("@input" if stage.at == "input" else "") for stage in stages)
    model, counts = setting.model, shuffled_class_counts(setting.dataset)
    fields = {
        "dataset": setting.dataset.name,
        "split": setting.info.split,
        "data_fingerprint": setting.info.fingerprint,
        "limit": setting.dataset.limit,
        "task": setting.info.task,
        "secondary_classes": setting.info.secondary_classes,
        "train_limit": setting.dataset.train_limit,
        "class_counts": None if counts is None else json.dumps(counts),
        "input_size": setting.input_size,
        "model": model.name,
        "weights": _weights_name(setting),
        "weights_digest": setting.checked.weights_digest,
        "model_seed": model.seed if model.weights in SEEDED_WEIGHTS else None,
        "num_classes": setting.checked.num_classes,
        "cut": setting.cut,
        "mechanism": mechanism,
        "mechanism_json": json.dumps([vars(stage) for stage in stages], sort_keys=True),
        "level_name": name,
        "level": parameters.get(name) if name else None,
        "noise_scale": parameters.get("noise_scale"),
        "penalty": parameters.get("penalty"),
        "noise_std": parameters.get("noise_std"),
        "target_accuracy_loss": target,
        "seed": None,
        "precision": setting.precision,
        "device_type": setting.device,
        "caveat": _caveat(setting, stages),
    }
    strength = (
        f"target loss {target:g}" if target is not None else f"{name} {parameters[name]:g}" if name else ""
    )
    for seed in seeds:
        yield Point(
            point_id=point_id(identity, stages, seed),
            curve_id=curve_id(identity, stages, seed),
            label=" · ".join(part for part in (model.name, mechanism, strength, f"seed {seed}") if part),
            setting=setting,
            stages=stages,
            seed=seed,
            measures=measures,
            fields={**fields, "seed": seed},
        )


def _caveat(setting: Setting, stages: tuple[StageConfig, ...]) -> str | None:
    """What the weights make of the numbers, unless a mechanism learns others in their place."""
    weights = setting.model.weights
    for stage in filter(learns, stages):
        mechanism = find_mechanism(stage.name)(**stage.parameters)
        replaced = mechanism.server == "scratch" or weights == "random"
        if replaced and mechanism.learns_all_of(setting.model):
            return None
    return setting.checked.caveat


def _weights_name(setting: Setting) -> str:
    """Name the weights; of a file only its name, since the digest beside it says which file it was."""
    resolved = setting.checked.weights
    return Path(resolved).name if "/" in resolved else resolved
