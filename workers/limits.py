"""Hold the options of plug-ins to the limits that their fields declare."""

import math
from dataclasses import fields
from typing import Any


def check_limits(options: Any) -> None:
    """Hold a dataclass to the limits in its fields' metadata; null may stand where it is default.

    Raises:
        ValueError: naming the field, the limit and what was found.
    """
    for declared in fields(options):
        value, limits = getattr(options, declared.name), declared.metadata
        if not limits or (value is None and declared.default is None):
            continue
        if "ge" in limits and not value >= limits["ge"]:
            raise ValueError(f"{declared.name}: expected a number >= {limits['ge']}, got {value}")
        if "gt" in limits and not (math.isfinite(value) and value > limits["gt"]):
            raise ValueError(f"{declared.name}: expected a finite number > {limits['gt']}, got {value}")
        if "lt" in limits and not value < limits["lt"]:
            raise ValueError(f"{declared.name}: expected a number < {limits['lt']}, got {value}")
