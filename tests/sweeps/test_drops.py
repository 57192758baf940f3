"""What a run of learned noise prints at its end."""

import io
from pathlib import Path

from rich.console import Console
from tests_support import ended_run

from hushsweep.datasets.results import Store
from hushsweep.sweeps.drops import print_drops
from tests.dashboards.conftest import fill_folder
from tests.dashboards.privacy_rows import fill_learned, learned_points


def printed(store: Store, sweep: str) -> tuple[bool, str]:
    summary = ended_run(store.root, sweep)
    text = io.StringIO()
    return print_drops(summary, Console(file=text, width=80)), text.getvalue()


def test_the_drop_of_every_method_is_a_line(tmp_path: Path) -> None:
    has_attackers, text = printed(fill_learned(tmp_path), "learned")
    assert has_attackers
    lines = [line.split("│") for line in text.splitlines() if line.startswith("│")]
    assert [line[1].strip() for line in lines] == [
        "gaussian",
        "ani",
        "cloak, retrained",
        "cloak, frozen server",
    ]
    assert [cell.strip() for cell in lines[1][2:-1]] == [
        "0.3",
        "99.2",
        "0.0",
        "89.6",
        "95.0",
        "4.0",
    ]
    assert "in %, floor 21.6" in text


def test_data_sets_places_and_missing_seeds_are_told(tmp_path: Path) -> None:
    entries = learned_points(["gaussian"], (0, 1), attackers=["d1" * 8])
    entries += learned_points(["gaussian"], (0, 1), attackers=["d1" * 8], place="cut")[1:]
    entries += learned_points(["ani"], (0,), dataset="fashion_mnist")
    _, text = printed(fill_learned(tmp_path, entries=entries), "learned")
    for words in ("gaussian, cut", "gaussian, input", "fashion_mnist: ", "(1 of 2 seeds)"):
        assert words in text


def test_a_sweep_without_attackers_prints_nothing(tmp_path: Path) -> None:
    assert printed(fill_folder(tmp_path), "both") == (False, "")
