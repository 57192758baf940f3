"""The command epsilon: the guide's numbers, calibration, warnings, and one sentence per mistake."""

import json
import subprocess
import sys

import pytest
from click.testing import Result
from typer.testing import CliRunner

from hushsweep.sweeps.cli import app

GUIDE = "--batch 128 --examples 50000 --epochs 100 --delta 1.33e-5"
SMALL = "--batch 100 --examples 10000 --steps 50 --delta 1e-5"
runner = CliRunner()


def call(arguments: str) -> Result:
    return runner.invoke(app, ["epsilon", *arguments.split()], catch_exceptions=False)


def document(arguments: str) -> dict[str, object]:
    found = call(f"{arguments} --json")
    assert found.exit_code == 0, found.output
    return json.loads(found.output)


def test_the_accountants_stand_side_by_side() -> None:
    found = document(f"--noise-multiplier 1 {GUIDE}")
    assert found["rdp_classic"] == pytest.approx(3.4407, rel=1e-3)
    assert found["rdp_improved"] == pytest.approx(2.987, rel=1e-3)
    assert found["pld"] == pytest.approx(2.741, rel=1e-3)
    assert found["orders"] == {"rdp_classic": pytest.approx(7.8), "rdp_improved": pytest.approx(7.2)}
    assert (found["steps"], found["sampling_rate"], found["warnings"]) == (39_062, 128 / 50_000, [])


def test_a_terminal_shows_the_same() -> None:
    found = call(f"--noise-multiplier 10 {GUIDE}")
    assert found.exit_code == 0
    words = " ".join(found.output.split())
    assert "39,062 Poisson samples at rate 0.00256" in words
    assert "RDP, classic conversion 0.2623 63" in words
    assert "privacy loss distribution 0.158" in words
    assert found.output.count("warning: ") == 2
    assert "the best RDP order 63 is the largest that there is" in words
    assert "warning" not in call(f"--noise-multiplier 10 --max-order 512 {GUIDE}").output


def test_steps_take_the_place_of_epochs() -> None:
    by_steps = GUIDE.replace("--epochs 100", "--steps 39062")
    assert document(f"--noise-multiplier 5 {by_steps}") == document(f"--noise-multiplier 5 {GUIDE}")
    assert (
        document("--noise-multiplier 5 --batch 100 --examples 1000 --epochs 0.1 --delta 1e-5")["steps"] == 1
    )


@pytest.mark.parametrize(
    ("accountant", "key"), [("pld", "pld"), ("rdp", "rdp_improved"), ("rdp_classic",) * 2]
)
def test_noise_for_an_epsilon(accountant: str, key: str) -> None:
    found = document(f"--target-epsilon 2 --accountant {accountant} {SMALL}")
    assert 2 * (1 - 2e-3) <= found[key] <= 2
    back = document(f"--noise-multiplier {found['noise_multiplier']!r} {SMALL}")
    assert back[key] == found[key]


def test_replacing_costs_more_than_adding_at_the_same_noise() -> None:
    """Relative to a sensitivity twice as large, the same noise is half the multiplier."""
    added = document(f"--noise-multiplier 2 {SMALL}")
    replaced = document(f"--noise-multiplier 1 --relation replace_one {SMALL}")
    for key in ("pld", "rdp_improved", "rdp_classic"):
        assert added[key] < replaced[key]


def test_shuffled_batches_have_to_be_asked_for_by_name() -> None:
    found = call(f"--noise-multiplier 1 --sampling shuffled {SMALL}")
    assert found.exit_code == 2
    assert "--assume-poisson" in found.output
    assumed = document(f"--noise-multiplier 1 --sampling shuffled --assume-poisson {SMALL}")
    assert assumed["pld"] == document(f"--noise-multiplier 1 {SMALL}")["pld"]
    assert "the true epsilon may be several times as large" in assumed["warnings"][-1]
    shown = call(f"--noise-multiplier 1 --sampling shuffled --assume-poisson {SMALL}").output
    assert "shuffled batches taken for Poisson samples" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (SMALL, "expected exactly one of --noise-multiplier and --target-epsilon"),
        (
            f"--noise-multiplier 1 --target-epsilon 1 {SMALL}",
            "expected exactly one of --noise-multiplier and",
        ),
        (f"--noise-multiplier 0 {SMALL}", "--noise-multiplier: expected a finite number > 0, got 0"),
        (f"--noise-multiplier nan {SMALL}", "--noise-multiplier: expected a finite number > 0, got nan"),
        (f"--noise-multiplier 1 --epochs 3 {SMALL}", "expected exactly one of --epochs and --steps"),
        ("--noise-multiplier 1 --batch 9 --examples 90 --delta 1e-5", "exactly one of --epochs and --steps"),
        (f"--noise-multiplier 1 {SMALL.replace('50', '0')}", "expected at least one step, got 0"),
        (
            "--noise-multiplier 1 --batch 9 --examples 90 --epochs 0.01 --delta 1e-5",
            "expected at least one step, got 0; give more --epochs",
        ),
        (f"--noise-multiplier 1 {SMALL.replace('100 ', '20000 ')}", "--batch: expected at most the 10000"),
        (f"--noise-multiplier 1 {SMALL.replace('100 ', '0 ')}", "--batch: expected >= 1, got 0"),
        (
            f"--noise-multiplier 1 {SMALL.replace('1e-5', '1e-4')}",
            "delta: expected less than 1 / 10000 examples",
        ),
        (
            f"--noise-multiplier 1 --relation swap {SMALL}",
            "--relation: expected one of add_or_remove, replace_one",
        ),
        (
            f"--target-epsilon 1 --accountant gdp {SMALL}",
            "--accountant: expected one of pld, rdp, rdp_classic",
        ),
        (f"--noise-multiplier 1 --sampling cyclic {SMALL}", "--sampling: expected one of poisson, shuffled"),
        (f"--noise-multiplier 1 --max-order 10 {SMALL}", "--max-order: expected >= 63, got 10"),
        (f"--target-epsilon 0.01 --accountant rdp_classic {SMALL}", "target_epsilon 0.01: unreachable"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments: str, said: str) -> None:
    found = call(arguments)
    assert found.exit_code == 2, found.output
    assert said in found.output
    assert found.output.count("error: ") == 1


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hushsweep.workers.accounting.extra.find_spec", lambda name: None)
    found = call(f"--noise-multiplier 1 {SMALL}")
    assert found.exit_code == 2
    assert "hushsweep epsilon needs the extra dp; run: pip install 'hushsweep[dp]'" in found.output


def test_it_starts_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from hushsweep.sweeps.cli import app\n"
        f"app({['epsilon', '--noise-multiplier', '1', *SMALL.split()]!r}, standalone_mode=False)\n"
        "print([name for name in ('ray', 'mlflow', 'torch', 'opacus') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
