"""The sweep file: what a user writes, checked as a whole, all mistakes reported at once."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError

from hushsweep.sweeps.allowed import check_allowed, refused_plug_ins
from hushsweep.sweeps.errors import Problem, SpecError
from hushsweep.sweeps.field_docs import field_docs
from hushsweep.sweeps.fields import (
    AUTO,
    NUMBER,
    OR_AUTO,
    Listable,
    SpecModel,
    as_tuple,
    model_of_dataclass,
    problems_of,
    unknown_key,
)
from hushsweep.sweeps.search.fields import EarlyStoppingSpec, searchable
from hushsweep.sweeps.source import Source, parse_source, read_source
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.measures import MEASURES, find_measure
from hushsweep.workers.mechanisms import MECHANISMS, find_mechanism
from hushsweep.workers.mechanisms.learned import LearnedMechanism

PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Counts = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(as_tuple)]
"""One list of numbers, of which several may be equal; a value as a whole, so it does not multiply."""


class DatasetSpec(SpecModel):
    """Images and labels."""

    name: Listable[str] = Field(
        description="digits, mnist, fashion_mnist, cifar10, cifar100, celeba, pneumonia, imagefolder, parquet"
    )
    root: str | None = Field(
        default=None, description="folder with the data; default: the environment's HUSHSWEEP_DATA"
    )
    split: Listable[str] | None = Field(default=None, description="part to report on; default: the test part")
    limit: Listable[Count] | None = Field(
        default=None, description="number of images, evenly spaced; default: all"
    )
    label_column: str | None = Field(default=None, description="Parquet only; default: label")
    image_column: str | None = Field(default=None, description="Parquet only; default: image")
    task: Listable[str] | None = Field(
        default=None,
        description="less_than_5, superclass, smiling_male, smiling_young, animal; default: the labels as they are",
    )
    secondary_column: Listable[str] | None = Field(
        default=None,
        description="parquet, cifar100, celeba: secondary labels, which make a task of any two columns",
    )
    train_limit: Listable[Count] | None = Field(
        default=None, description="images to learn from, evenly spaced in the train part; default: all"
    )
    class_counts: Counts | None = Field(
        default=None, description="images of each class to learn from, one number per class; default: all"
    )
    class_seed: Listable[Seed] | None = Field(
        default=None, description="shuffles class_counts over the classes; default: 0"
    )
    input_size: Listable[Count] | None = Field(
        default=None,
        description="side in pixels of the images whose confidentiality is measured; up-sampled inside the model",
    )


class ModelSpec(SpecModel):
    """A network and where its weights come from."""

    name: Listable[str] = Field(description="digits_mlp, mnist_mlp, cifar10_cnn, torchvision/NAME, timm/NAME")
    weights: Listable[str] = Field(
        default=["train"],
        description="train, random, prototype, pretrained, a torchvision enum name, or a file",
    )
    seed: Listable[Seed] | None = Field(
        default=None, description="of weights that are trained or random; default: 0"
    )
    num_classes: Count | None = Field(
        default=None, description="classes it tells apart; default: the data set's"
    )
    in_channels: Literal[1, 3] | None = Field(
        default=None, description="1 grey, 3 colour; default: as the images"
    )
    network_size: Listable[Count] | None = Field(
        default=None, description="side in pixels to which the model up-samples"
    )
    epochs: Listable[Count] | None = Field(default=None, description="weights: train")
    batch_size: Listable[Count] | None = Field(default=None, description="weights: train; images per step")
    learning_rate: Listable[Annotated[float, Field(gt=0)]] | None = Field(
        default=None, description="weights: train"
    )
    training_threads: Count | None = Field(
        default=None, description="weights: train; CPU threads, part of the identity"
    )


class ExecutionSpec(SpecModel):
    """How to run. Nothing here changes a number or an id."""

    batch_size: Count = Field(default=64, description="images per forward pass")
    shards: Annotated[Annotated[Count, NUMBER] | AUTO, OR_AUTO] = Field(
        default=1,
        description="parts into which a trial's images are cut; auto: enough to keep all workers busy",
    )
    cpus_per_trial: Annotated[Annotated[float, Field(gt=0), NUMBER] | AUTO, OR_AUTO] = Field(
        default="auto", description="cores that Ray reserves; auto: shared evenly"
    )
    gpus_per_trial: Annotated[Annotated[float, Field(ge=0), NUMBER] | AUTO, OR_AUTO] = Field(
        default="auto",
        description="GPUs, or a fraction of one, that Ray reserves; auto: as many trials as fit on one",
    )
    max_concurrent_trials: Count | None = Field(
        default=None, description="trials at once; default: as many as fit"
    )
    max_failures: Annotated[int, Field(ge=0)] = Field(
        default=2, description="times a trial whose worker died is repeated"
    )
    threads: Count | None = Field(
        default=None, description="CPU threads of an evaluation; default: cpus_per_trial"
    )
    feature_cache_gb: Annotated[float, Field(ge=0)] = Field(
        default=20, description="largest feature cache of one trial, GB"
    )
    timeout_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="seconds without progress after which a trial is ended; default: none"
    )


class SweepSpec(SpecModel):
    """A grid of points; any scalar may be a list, and lists multiply."""

    name: PlainName = Field(description="of the sweep and of its folder in the results")
    description: str | None = Field(default=None, description="for people; changes no id")
    seed: Listable[Seed] = Field(default=[0], description="seed of the noise")
    dataset: list[DatasetSpec] = Field(min_length=1, description="images and labels; several multiply")
    model: list[ModelSpec] = Field(min_length=1, description="networks and their weights; several multiply")
    cut: Listable[str] = Field(default=["features"], description="features, or the path of a module")
    mechanism: list[list[Any]] = Field(
        description="what is done to the data before they leave: one, a chain, or a list"
    )
    measures: list[Any] = Field(description="what is computed of every point")
    precision: Listable[Literal["float32", "bfloat16"]] = Field(
        default=["float32"], description="number format of the network's passes; bounds are float64"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="type of device; decides the noise stream"
    )
    early_stopping: EarlyStoppingSpec | None = Field(
        default=None, description="default: every training of a learned mechanism runs to its end"
    )
    execution: ExecutionSpec = Field(
        default=ExecutionSpec(), description="how to run; nothing here changes a number or an id"
    )

    @classmethod
    def load(cls, path: Path | str, *, allow_plugins: Collection[str] = ()) -> Self:
        """Read and check a sweep file, see `from_source`.

        Raises:
            SpecError: one line per mistake, with file, line and field.
        """
        return cls.from_source(read_source(path), allow_plugins=allow_plugins)

    @classmethod
    def parse(cls, text: str, *, folder: Path | None = None, allow_plugins: Collection[str] = ()) -> Self:
        """Read and check the text of a sweep file; relative paths start at ``folder``.

        Raises:
            SpecError: one line per mistake, with line and field.
        """
        return cls.from_source(parse_source(text, folder=folder), allow_plugins=allow_plugins)

    @classmethod
    def from_source(cls, source: Source, *, allow_plugins: Collection[str] = ()) -> Self:
        """Check a sweep that was read.

        Args:
            source: the sweep.
            allow_plugins: packages or modules whose code it may name; naming other code is a mistake, found before
                anything is imported.

        Raises:
            SpecError: one line per mistake, with line and field.
            RunError: ``allow_plugins`` is no list of packages or modules.
        """
        check_allowed(allow_plugins)
        if not isinstance(source.data, dict):
            raise source.report([Problem((), "expected keys and values (name, dataset, model, ...)")])
        refused = refused_plug_ins(source.data, allow_plugins)
        if refused:  # checking the rest would import them
            raise source.report(refused)
        data, problems = dict(source.data), list[Problem]()
        for key in ("dataset", "model", "measures"):
            if key in data:
                data[key] = data[key] if isinstance(data[key], list) else [data[key]]
                problems += _repeated(key, data[key])
        if "mechanism" in data:
            data["mechanism"] = _check_mechanisms(data["mechanism"], problems)
        if "measures" in data:
            data["measures"] = _check_measures(data["measures"], problems)
        try:
            spec = cls.model_validate(data)
        except ValidationError as error:
            problems += [_with_section_keys(problem) for problem in problems_of(error, (), cls)]
        if problems:
            raise source.report(problems)
        return spec


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a sweep file, for editors."""
    schema = SweepSpec.model_json_schema()
    definitions = schema["$defs"]
    for section in ("dataset", "model"):
        item = schema["properties"][section]["items"]
        _one_or_more(schema["properties"][section], item)
    stages = [_publish(stage_model(name), name, cls, definitions) for name, cls in MECHANISMS.items()]
    chain = {
        "type": "object",
        "properties": {"chain": {"type": "array", "items": {"anyOf": stages}, "minItems": 1}},
        "required": ["chain"],
        "additionalProperties": False,
    }
    _one_or_more(schema["properties"]["mechanism"], {"anyOf": [*stages, chain]})
    measures = [_publish(measure_model(name), name, cls, definitions) for name, cls in MEASURES.items()]
    _one_or_more(schema["properties"]["measures"], {"anyOf": measures})
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def stage_model(name: str) -> type[SpecModel]:
    """Return the model of one mechanism's keys: its own fields, where it acts, and a target in place of its level."""
    cls = find_mechanism(name)
    places = getattr(cls, "PLACES", ("cut", "input"))
    place: Any = Literal.__getitem__(places)  # a Literal of values that only the mechanism knows
    where = "where it acts: cut, on the activations there; input, on the normalised image"
    extra: dict[str, Any] = {"at": (Listable[place], Field([places[0]], description=where))}
    if cls.LEVELS and not issubclass(cls, LearnedMechanism):
        extra["target_accuracy_loss"] = (
            Listable[Annotated[float, Field(gt=0, lt=1)]] | None,
            Field(
                None,
                description="in place of a level: the largest that loses no more than this share of top-1",
            ),
        )
        extra["calibration"] = (
            str | None,
            Field(None, description="half (default), or the name of another split"),
        )
    widen = dict.fromkeys(cls.LEVELS, searchable) if issubclass(cls, LearnedMechanism) else {}
    return model_of_dataclass(cls, f"mechanism {name}", widen=widen, **extra)


def measure_model(name: str) -> type[SpecModel]:
    """Return the model of one measure's keys."""
    return model_of_dataclass(find_measure(name), f"measure {name}")


def _check_mechanisms(value: Any, problems: list[Problem]) -> list[list[SpecModel]]:
    many = isinstance(value, list)
    items = value if many else [value]
    if many and not items:
        problems.append(Problem(("mechanism",), "expected a mechanism or a list of them, got an empty list"))
    problems += _repeated("mechanism", items)
    chains = []
    for index, item in enumerate(items):
        place: tuple[str | int, ...] = ("mechanism", index)
        stages = [item]
        places = [place]
        if isinstance(item, dict) and "chain" in item:
            stages = item["chain"] if isinstance(item["chain"], list) else [item["chain"]]
            places = [(*place, "chain", position) for position in range(len(stages))]
            problems += [
                Problem((*place, key), "unknown key. Known: chain") for key in item if key != "chain"
            ]
            if not stages:
                problems.append(
                    Problem((*place, "chain"), "expected a list of mechanisms, got an empty list")
                )
        checked = [
            _check_named(stage, where, stage_model, problems)
            for stage, where in zip(stages, places, strict=True)
        ]
        chains.append([stage for stage in checked if stage is not None])
    return chains


def _check_measures(items: list[Any], problems: list[Problem]) -> list[SpecModel]:
    if not items:
        problems.append(Problem(("measures",), "expected a measure or a list of them, got an empty list"))
    checked = [
        _check_named(item, ("measures", index), measure_model, problems) for index, item in enumerate(items)
    ]
    return [item for item in checked if item is not None]


def _check_named(
    value: Any, place: tuple[str | int, ...], model_of: Any, problems: list[Problem]
) -> SpecModel | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        problems.append(Problem(place, f"expected keys and values with a name, got {value!r}"))
        return None
    try:
        model = model_of(value["name"])
    except PlugInError as error:
        problems.append(Problem((*place, "name"), str(error)))
        return None
    try:
        checked: SpecModel = model.model_validate(value)
    except ValidationError as error:
        problems += problems_of(error, place, model)
        return None
    return checked


def _repeated(section: str, items: list[Any]) -> list[Problem]:
    return [
        Problem((section, index), f"the same {section} stands twice")
        for index, item in enumerate(items)
        if item in items[:index]
    ]


def _with_section_keys(problem: Problem) -> Problem:
    """Name the keys that a section allows where pydantic only says that one is unknown."""
    if not problem.message.startswith("unknown key") or len(problem.location) == 1:
        return problem
    sections: dict[str, type[SpecModel]] = {
        "dataset": DatasetSpec,
        "model": ModelSpec,
        "early_stopping": EarlyStoppingSpec,
        "execution": ExecutionSpec,
    }
    model = sections[str(problem.location[0])]
    return Problem(problem.location, unknown_key(str(problem.location[-1]), model.model_fields))


def _one_or_more(key: dict[str, Any], item: dict[str, Any]) -> None:
    """Let a key hold one item or a list of them, whatever it allowed before."""
    for word in ("type", "items", "minItems"):
        key.pop(word, None)
    key["anyOf"] = [item, {"type": "array", "items": item, "minItems": 1}]


def _publish(
    model: type[SpecModel], name: str, cls: type[Any], definitions: dict[str, Any]
) -> dict[str, str]:
    schema = model.model_json_schema(ref_template="#/$defs/{model}")
    definitions.update(schema.pop("$defs", {}))
    schema["properties"]["name"] = {"const": name}
    texts = field_docs(cls)
    for field in dataclasses.fields(cls):
        key = schema["properties"][field.name]
        if field.name in texts:
            key["description"] = texts[field.name]
        if field.default is not dataclasses.MISSING:
            key["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
    definitions[model.__name__] = schema
    return {"$ref": f"#/$defs/{model.__name__}"}


__all__ = ["DatasetSpec", "ExecutionSpec", "ModelSpec", "SpecError", "SweepSpec", "json_schema"]
