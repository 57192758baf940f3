"""What a run prints of reconstruction attacks: the best one of every level, in 80 columns."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from tests_support import ended_run

from hushsweep.sweeps.attacked import print_attacks
from tests.dashboards.attack_rows import BLIND, bound, error, fill_attacks
from tests.dashboards.conftest import LEVELS, fill_folder


def printed(root: Path, sweep: str, names: dict[str, str]) -> tuple[bool, str]:
    summary = ended_run(root, sweep)
    stream = io.StringIO()
    return print_attacks(summary, names, Console(file=stream, width=80)), stream.getvalue()


@pytest.mark.parametrize("violated", [(), ("d1" * 8,)], ids=["sound", "violated"])
def test_the_best_attack_of_every_level_stands_beside_its_gap(
    tmp_path: Path, violated: tuple[str, ...]
) -> None:
    fill_attacks(tmp_path, violated=violated, mechanisms=["gaussian"])
    has_attacks, text = printed(
        tmp_path, "attacked", {"curve-resnet18-gaussian": "[bold]resnet18 · gaussian"}
    )
    assert has_attacks
    assert max(map(len, text.splitlines()[: len(LEVELS) + 6])) <= 80
    assert "[bold]" in text
    # the oracle errs less, and is none
    for level in LEVELS:
        (row,) = [line for line in text.splitlines() if f"│ {level:g} " in line]
        least = error(0.3, level)
        assert "ridge, 10" in row
        assert f"│ {least:.2g} │" in row.replace("  ", " ").replace("  ", " ")
        assert f"{least / BLIND:.0%}" in row
        gap = 0.5 if violated else error(0.65, level) / bound("van_trees", level)
        assert f"{gap:.2g} │" in row
    assert (f"{len(LEVELS)} bounds are violated: one of two programs is wrong" in text) == bool(violated)


def test_a_sweep_without_attacks_prints_nothing(tmp_path: Path) -> None:
    fill_folder(tmp_path)
    assert printed(tmp_path, "both", {}) == (False, "")
