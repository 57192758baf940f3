"""What a sweep file may write in place of a learned mechanism's level, and how it asks for early stopping."""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from hushsweep.sweeps.fields import SpecModel


def _increasing(values: list[float]) -> list[float]:
    if len(values) != 2 or values[0] >= values[1]:
        raise PydanticCustomError(
            "range", "expected [low, high] with low < high, got {values}", {"values": repr(values)}
        )
    return values


def _increasing_positive(values: list[float]) -> list[float]:
    if min(values, default=0) <= 0:
        raise PydanticCustomError(
            "range", "expected [low, high] with 0 < low < high, got {values}", {"values": repr(values)}
        )
    return _increasing(values)


_PAIR = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
Pair = Annotated[list[float], AfterValidator(_increasing), WithJsonSchema(_PAIR)]
PositivePair = Annotated[list[float], AfterValidator(_increasing_positive), WithJsonSchema(_PAIR)]
Samples = Annotated[
    int, Field(ge=1, description="levels to try in all, those that are there already included")
]


class LogUniformLevels(SpecModel):
    """Levels for Optuna to choose, even in their logarithm at first: primary accuracy up, attacker's down."""

    log_uniform: PositivePair = Field(description="lowest and highest level")
    samples: Samples

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest level."""
        return self.log_uniform[0], self.log_uniform[1]


class UniformLevels(SpecModel):
    """Levels for Optuna to choose, even at first: primary accuracy up, the attacker's down."""

    uniform: Pair = Field(description="lowest and highest level")
    samples: Samples

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest level."""
        return self.uniform[0], self.uniform[1]


class TargetLevel(SpecModel):
    """The largest level that costs no more primary accuracy than this, by bisection of the level's logarithm."""

    target_accuracy_loss: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="fraction of primary accuracy that may be lost against the clean network, on validation images"
    )
    low: Annotated[float, Field(gt=0)] = Field(description="lowest level")
    high: Annotated[float, Field(gt=0)] = Field(description="highest level")
    steps: Annotated[int, Field(ge=1, le=16)] = Field(default=6, description="levels to try")

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest level."""
        return self.low, self.high


LevelRange = LogUniformLevels | UniformLevels | TargetLevel
RANGES: tuple[type[LevelRange], ...] = (LogUniformLevels, UniformLevels, TargetLevel)


def _tag(model: type[SpecModel]) -> str:
    """Name a kind by the keys it knows, in the brackets by which messages tell it from a place in the file."""
    return f"<{', '.join(model.model_fields)}>"


def _kind(value: Any) -> str:
    if isinstance(value, RANGES):
        return _tag(type(value))
    if not isinstance(value, dict):
        return "<>"
    if "target_accuracy_loss" in value:
        return _tag(TargetLevel)
    return _tag(UniformLevels if "uniform" in value else LogUniformLevels)


def searchable(listed: Any) -> Any:
    """Return the type of a level that may be listed or searched for."""
    kinds: Any = Annotated[listed, Tag("<>")]
    for model in RANGES:
        kinds = kinds | Annotated[model, Tag(_tag(model))]
    return Annotated[kinds, Discriminator(_kind)]


class EarlyStoppingSpec(SpecModel):
    """Which trainings of learned mechanisms end early."""

    name: Literal["asha"] = Field(
        description="asynchronous successive halving, among trainings that differ in seeds and training settings alone"
    )
    grace_period: Annotated[int, Field(ge=1)] = Field(
        default=1, description="epochs before a training can be stopped"
    )
    reduction_factor: Annotated[float, Field(gt=1)] = Field(
        default=3,
        description="of so many trainings one goes on, after grace_period epochs, then that times it, ...",
    )


def rounded(level: float, bounds: tuple[float, float]) -> float:
    """Cut a level to four significant digits, so that it can be listed by hand, and to its bounds."""
    low, high = bounds
    digits = 3 - math.floor(math.log10(abs(level))) if level else 0
    return min(max(round(level, digits), low), high)
