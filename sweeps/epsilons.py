"""What the command epsilon prints: the accountants side by side for one setting of DP-SGD, without running anything."""

import json
import math
from dataclasses import dataclass
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from hushsweep.workers.accounting import (
    ACCOUNTANTS,
    ORDERS,
    Epsilons,
    Phase,
    Spending,
    check_budget,
    noise_for_epsilon,
    require_dp,
    training_epsilons,
)
from hushsweep.workers.accounting.epsilons import Accountant, boundary_warning
from hushsweep.workers.accounting.renyi import wider_orders
from hushsweep.workers.accounting.spending import RELATIONS, Relation
from hushsweep.workers.errors import PlugInError

_NAMES: dict[Accountant, tuple[str, str]] = {
    "rdp_classic": ("rdp_classic", "RDP, classic conversion"),
    "rdp": ("rdp_improved", "RDP, improved conversion"),
    "pld": ("pld", "privacy loss distribution"),
}
"""Key in JSON, and what a reader is shown."""
_SAMPLINGS = ("poisson", "shuffled")
_OPTIMISTIC = (
    "shuffled batches accounted as Poisson samples: the true epsilon may be several times as large "
    "(Chua et al., 2024, arXiv:2403.17673)"
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the command was asked for, as it was spelled; see its help."""

    noise_multiplier: float | None
    target_epsilon: float | None
    batch: int
    examples: int
    epochs: float | None
    steps: int | None
    delta: float
    relation: str
    accountant: str
    sampling: str
    assume_poisson: bool
    max_order: int


def print_epsilons(setting: Setting, *, as_json: bool, console: Console) -> None:
    """Account for a setting and print it.

    Raises:
        PlugInError: the setting is impossible, or the extra dp is not installed.
    """
    require_dp("hushsweep epsilon")
    steps = _steps(setting)
    orders = wider_orders(setting.max_order)
    noise = _noise(setting, steps, orders)
    spending = Spending(phases=(_phase(setting, steps, noise),), delta=setting.delta)
    found = training_epsilons(spending, orders)
    warnings = _warnings(setting, found, orders)
    if as_json:
        console.file.write(json.dumps(_document(setting, steps, noise, found, warnings), indent=2) + "\n")
    else:
        _print(setting, steps, noise, found, warnings, console)


def _steps(setting: Setting) -> int:
    """Number of releases, once all else has been checked."""
    for option, value in (("--batch", setting.batch), ("--examples", setting.examples)):
        if value < 1:
            raise PlugInError(f"{option}: expected >= 1, got {value}")
    if setting.batch > setting.examples:
        raise PlugInError(f"--batch: expected at most the {setting.examples} --examples, got {setting.batch}")
    for option, text, known in (
        ("--relation", setting.relation, RELATIONS),
        ("--accountant", setting.accountant, ACCOUNTANTS),
        ("--sampling", setting.sampling, _SAMPLINGS),
    ):
        if text not in known:
            raise PlugInError(f"{option}: expected one of {', '.join(known)}, got {text!r}")
    if setting.sampling == "shuffled" and not setting.assume_poisson:
        raise PlugInError(
            "--sampling shuffled: these accountants hold for Poisson samples only and are too small for shuffled "
            "batches; train with Poisson samples, or add --assume-poisson to see the number all the same"
        )
    if setting.max_order < ORDERS[-1]:
        raise PlugInError(f"--max-order: expected >= {ORDERS[-1]:g}, got {setting.max_order}")
    check_budget(setting.delta, setting.examples)
    if (setting.epochs is None) == (setting.steps is None):
        raise PlugInError("expected exactly one of --epochs and --steps")
    steps = setting.steps
    if setting.epochs is not None:
        if not 0 < setting.epochs < math.inf:
            raise PlugInError(f"--epochs: expected a finite number > 0, got {setting.epochs:g}")
        # a hair more, so that 0.1 epochs of 10 batches are one step
        steps = math.floor(setting.epochs * setting.examples / setting.batch * (1 + 1e-12))
    assert steps is not None
    if steps < 1:
        raise PlugInError(f"expected at least one step, got {steps}; give more --epochs, or --steps")
    return steps


def _noise(setting: Setting, steps: int, orders: tuple[float, ...]) -> float:
    noise = setting.noise_multiplier
    if (noise is None) == (setting.target_epsilon is None):
        raise PlugInError("expected exactly one of --noise-multiplier and --target-epsilon")
    if noise is None:
        assert setting.target_epsilon is not None
        return noise_for_epsilon(
            setting.target_epsilon,
            setting.delta,
            steps=steps,
            sampling_rate=setting.batch / setting.examples,
            relation=cast(Relation, setting.relation),
            accountant=cast(Accountant, setting.accountant),
            orders=orders,
        )
    if not 0 < noise < math.inf:
        raise PlugInError(
            f"--noise-multiplier: expected a finite number > 0, got {noise:g}; without noise epsilon is infinite"
        )
    return noise


def _phase(setting: Setting, steps: int, noise: float) -> Phase:
    return Phase(
        noise_multiplier=noise,
        steps=steps,
        sampling_rate=setting.batch / setting.examples,
        relation=cast(Relation, setting.relation),
        examples=setting.examples,
    )


def _warnings(setting: Setting, found: Epsilons, orders: tuple[float, ...]) -> list[str]:
    best: dict[Accountant, float | None] = {"rdp_classic": found.rdp_classic_order, "rdp": found.rdp_order}
    warnings = [
        f"{_NAMES[name][1]}: {boundary_warning(order, orders)}"
        for name, order in best.items()
        if name in found.at_boundary and order is not None
    ]
    return [*warnings, _OPTIMISTIC] if setting.sampling == "shuffled" else warnings


def _document(
    setting: Setting, steps: int, noise: float, found: Epsilons, warnings: list[str]
) -> dict[str, Any]:
    return {
        **{key: getattr(found, name) for name, (key, _) in _NAMES.items()},
        "orders": {"rdp_classic": found.rdp_classic_order, "rdp_improved": found.rdp_order},
        "noise_multiplier": noise,
        "target_epsilon": setting.target_epsilon,
        "accountant": setting.accountant if setting.target_epsilon is not None else None,
        "delta": setting.delta,
        "steps": steps,
        "sampling_rate": setting.batch / setting.examples,
        "sampling": setting.sampling,
        "relation": setting.relation,
        "warnings": warnings,
    }


def _print(
    setting: Setting, steps: int, noise: float, found: Epsilons, warnings: list[str], console: Console
) -> None:
    drawn = (
        "Poisson samples" if setting.sampling == "poisson" else "shuffled batches taken for Poisson samples"
    )
    table = Table("accountant", "epsilon", "order", box=None)
    for name, (_, shown) in _NAMES.items():
        order = getattr(found, f"{name}_order", None)
        table.add_row(shown, f"{getattr(found, name):.4f}", "" if order is None else f"{order:g}")
    console.print(
        f"noise multiplier {noise:.6g}, {steps:,} {drawn} at rate {setting.batch / setting.examples:.6g}, "
        f"delta {setting.delta:.4g}, neighbours {setting.relation}",
        soft_wrap=True,
    )
    console.print(table)
    for warning in warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
