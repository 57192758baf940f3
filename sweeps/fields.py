"""Field types of a sweep file: a scalar that may be a list, and messages that say what is allowed."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from hushsweep.sweeps.errors import Problem

T = TypeVar("T")


class _ScalarOrList:
    """Publish a list field as what a user may write: one value, or a list of different ones."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        array = handler(core)
        return {"anyOf": [array["items"], {**array, "minItems": 1, "uniqueItems": True}]}


def as_tuple(value: Any) -> Any:
    """Turn what a file has as a list into the tuple that a strict field wants."""
    return tuple(value) if isinstance(value, list) else value


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _distinct(values: list[Any]) -> list[Any]:
    if not values:
        raise PydanticCustomError("empty_list", "expected one value or a list of values, got an empty list")
    for position, value in enumerate(values):
        if value in values[:position]:
            raise PydanticCustomError("duplicate", "the value {value} stands twice", {"value": repr(value)})
    return values


class _SetOrSets:
    """Publish a field whose value is a set of names: one name, a list of them, or a list of such lists.

    Or a list of a fixed length, such as a range: that list, or a list of such lists.
    """

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        one = handler(core)["items"]
        if "prefixItems" in one:
            return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}]}
        several = {"type": "array", "items": one["items"], "minItems": 1, "uniqueItems": True}
        many = {"type": "array", "items": several, "minItems": 1, "uniqueItems": True}
        return {"anyOf": [one["items"], several, many]}


def _read_sets(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    several = isinstance(value, list) and value and isinstance(value[0], list)
    sets = _distinct(value) if several else [_as_list(value)]
    try:
        return read([tuple(_distinct(one)) if isinstance(one, list) else one for one in sets])
    except ValidationError as error:
        if several:
            raise
        details = [
            InitErrorDetails(type=e["type"], loc=e["loc"][1:], input=e["input"], ctx=e.get("ctx", {}))
            for e in error.errors()  # the index of the one set stands nowhere in the file
        ]
        raise ValidationError.from_exception_data(error.title, details) from None


Listable = Annotated[list[T], BeforeValidator(_as_list), AfterValidator(_distinct), _ScalarOrList()]
"""One value or a non-empty list of different values; read as a list. Lists multiply."""
Sets = Annotated[list[T], WrapValidator(_read_sets), _SetOrSets()]
"""Of a field whose value is itself a list of names: such a list is one value, and lists of lists multiply."""


class SpecModel(BaseModel):
    """Base of everything in a sweep file: unknown keys, wrong types, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


def model_of_dataclass(
    cls: type[Any], name: str, *, widen: Mapping[str, Callable[[Any], Any]] | None = None, **extra: Any
) -> type[SpecModel]:
    """Derive the sweep-file model of a plug-in from its dataclass: every field may be a list, a tuple one of lists.

    Limits come from the dataclass field's metadata: ``ge``, ``gt``, ``le``, ``lt``.

    Args:
        cls: the dataclass.
        name: for descriptions.
        widen: makes of a field's type, by name, one that allows more.
        extra: fields that the dataclass does not have.
    """
    hints = typing.get_type_hints(cls)
    fields: dict[str, Any] = {"name": (str, Field(description=f"{name}"))}
    for field in dataclasses.fields(cls):
        limits = {key: value for key, value in field.metadata.items() if key in ("ge", "gt", "le", "lt")}
        inner = _without_none(hints[field.name])
        scalar: Any = Annotated[inner, Field(**limits)] if limits else inner
        many: Any = Sets[scalar] if typing.get_origin(inner) is tuple else Listable[scalar]
        many = (widen or {}).get(field.name, _unchanged)(many)
        required = field.default is dataclasses.MISSING
        fields[field.name] = (many, ...) if required else (many | None, None)
    return create_model(f"{cls.__name__}Spec", __base__=SpecModel, __doc__=cls.__doc__, **{**fields, **extra})


def _number_or_auto(value: object) -> str:
    return "<auto>" if isinstance(value, str) else "<number>"


OR_AUTO = Discriminator(_number_or_auto)
"""Chooses, by the kind of value, between ``Annotated[..., NUMBER]`` and `AUTO`, so that a mistake is said once."""
NUMBER = Tag("<number>")
AUTO = Annotated[Literal["auto"], Tag("<auto>")]


def problems_of(
    error: ValidationError, prefix: tuple[str | int, ...], model: type[BaseModel] | None
) -> list[Problem]:
    """Turn pydantic's findings into the project's sentences.

    A step in pointed brackets is no place in the file: it names one of several kinds by the keys that it knows.
    """
    problems = []
    for found in error.errors():
        place = [step for step in found["loc"] if not _is_kind(step)]
        kinds = [str(step) for step in found["loc"] if _is_kind(step)]
        known = () if model is None else tuple(model.model_fields)
        if kinds:
            known = tuple(kinds[-1].strip("<>").split(", "))
        elif len(place) > 1:
            known = ()
        problems.append(Problem((*prefix, *place), _sentence(found, known)))
    return problems


def _is_kind(step: str | int) -> bool:
    return isinstance(step, str) and step.startswith("<")


def _unchanged(annotation: Any) -> Any:
    return annotation


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Say that a key is not known and which one may have been meant."""
    known = sorted(known)
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown key{hint} Known: {', '.join(known)}"


_EXPECTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "a text",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
}
_LIMITS = {
    "greater_than_equal": (">=", "ge"),
    "greater_than": (">", "gt"),
    "less_than_equal": ("<=", "le"),
    "less_than": ("<", "lt"),
}


def _sentence(found: Mapping[str, Any], known: tuple[str, ...]) -> str:  # noqa: PLR0911 (one return per kind)
    kind, value, context = found["type"], found.get("input"), found.get("ctx", {})
    if kind == "missing" and isinstance(found["loc"][-1], int):
        return f"value {found['loc'][-1] + 1} of this list is missing"
    if kind == "too_long":
        return f"expected at most {context['max_length']} values, got {context['actual_length']}"
    if kind == "missing":
        return "is missing; it has to be given"
    if kind == "extra_forbidden":
        return unknown_key(str(found["loc"][-1]), known)
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, got {value!r}"
    if kind in _LIMITS:
        sign, key = _LIMITS[kind]
        return f"expected a number {sign} {context[key]:g}, got {value!r}"
    if kind == "too_short":
        return "expected one or a list of them, got an empty list"
    if kind == "literal_error":
        return f"expected {context['expected']}, got {value!r}"
    if kind == "string_pattern_mismatch":
        return (
            "expected a plain name (letters, digits, '.', '_' and '-', "
            f"starting with a letter or digit, at most 100 characters), got {value!r}"
        )
    return str(found["msg"])


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        return parts[0] if len(parts) == 1 else typing.Union[tuple(parts)]  # noqa: UP007
    return hint
