"""Attackers are trained once, by whichever worker, and a kill leaves no trace in what they become."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from attacks_support import DIGITS, attack_subject, noisy
from filelock import FileLock

from hushsweep.workers.attacks import Attack, Trained, trained_attacker
from hushsweep.workers.attacks.networks import Attacker
from hushsweep.workers.attacks.training import labels_of
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning import Learning
from hushsweep.workers.measures import Reconstruction, Secondary, Subject

QUICK = Secondary(epochs=3)

CHILD = """
import json, sys
from pathlib import Path
import torch
from attacks_support import attack_subject, noisy
from hushsweep.workers import measures
folder, name, given = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
torch.set_num_threads(1)
options = getattr(measures, name)(**given)
for table in options.measure(attack_subject(folder), [noisy("cut", 1.0)]).per_image:
    print(table["attacker"][0])
"""


def attack(subject: Subject, options: Secondary = QUICK, noise: float = 1.0, at: str = "input") -> Attack:
    view = options.view(subject, noisy(at, noise))
    return Attack(
        view=view,
        kind=options.network,
        learning=options,
        train=view.clean(subject.part("train"), keep=True),
        train_images=subject.part("train"),
        validation_images=subject.part("validation"),
    )


def train(*arguments: object, **options: object) -> Trained:
    trained = trained_attacker(attack(*arguments, **options))  # type: ignore[arg-type]
    assert trained is not None
    return trained


def start(folder: Path, options: Secondary | Reconstruction, **given: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(folder), type(options).__name__, json.dumps(given)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def epochs_done(folder: Path) -> int:
    for path in (folder / "checkpoints").glob("[!.]*"):
        try:
            return len(torch.load(path, weights_only=True)["losses"])
        except FileNotFoundError:  # the training ended meanwhile
            return -1
    return 0


def same(first: Attacker, second: Attacker) -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize(
    ("measure", "given"),
    [
        (Secondary, {"attacker": "average"}),
        (Reconstruction, {"attack": "decoder", "images": 50, "candidates": 10}),
    ],
    ids=["secondary", "decoder"],
)
def test_a_killed_training_goes_on_and_ends_in_the_same_rows(
    tmp_path: Path, measure: type[Secondary | Reconstruction], given: dict[str, Any]
) -> None:
    epochs, folder = 40, tmp_path / "killed"
    options = measure(epochs=epochs, **given)
    attack_subject(folder)  # the images are decoded
    reached = []
    for least in (2, 8):  # killed twice, the second time after it has gone on from a checkpoint
        child = start(folder, options, epochs=epochs, **given)
        deadline = time.monotonic() + 90
        while epochs_done(folder) < least and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, "the training ended before it could be killed"
        reached.append(epochs_done(folder))
    assert 2 <= reached[0] < reached[1] < epochs
    assert list((folder / "attackers").glob("*.safetensors")) == []
    rows = [
        next(iter(options.measure(attack_subject(where), [noisy("cut", 1.0)]).per_image))
        for where in (folder, tmp_path / "undisturbed")
    ]
    assert rows[0].equals(rows[1])
    assert list((folder / "checkpoints").glob("[!.]*")) == []


def test_an_attacker_is_trained_once_and_read_back_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = attack_subject(tmp_path)
    first = train(subject)
    alone = train(attack_subject(tmp_path, keep=False))
    assert same(first.network, alone.network)
    assert first[1:] == alone[1:]
    monkeypatch.setattr("hushsweep.workers.attacks.training.run_epochs", None)  # nothing is trained any more
    assert same(train(subject).network, first.network)
    with pytest.raises(TypeError):
        train(subject, noise=2.0)


def test_who_need_not_wait_goes_on(tmp_path: Path) -> None:
    subject = attack_subject(tmp_path)
    wanted = attack(subject)
    (tmp_path / "attackers").mkdir()
    with FileLock(tmp_path / "attackers" / f".{wanted.digest}.lock"):
        assert trained_attacker(wanted, wait=False) is None


def test_what_changes_an_attacker_changes_its_name(tmp_path: Path) -> None:
    subject = attack_subject(tmp_path)
    base = attack(subject)
    others = [
        attack(subject, noise=2.0),
        attack(subject, at="cut"),
        attack(subject, replace(QUICK, epochs=4)),
        attack(subject, replace(QUICK, network="mlp")),
        attack(subject, Secondary(epochs=3, attacker="average")),
        attack(subject, Secondary(epochs=3, attacker="average", queries=3)),
        attack(replace(subject, key={"model": "another"})),
        attack(replace(subject, full_epochs=31)),
        attack(attack_subject(tmp_path, dataset=replace(DIGITS, train_limit=50))),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 1 + len(others)
    assert attack(subject, replace(QUICK, draws=7)).digest == base.digest, (
        "a test does not change who is tested"
    )
    reported = replace(
        subject, key={**subject.key, "limit": 3, "split": "validation", "data": "x", "images": "y"}
    )
    assert attack(reported).digest == base.digest, "nor does another reported part"


def test_labels_that_are_missing_and_images_that_are_too_few_are_said(tmp_path: Path) -> None:
    plain = attack_subject(tmp_path, dataset=replace(DIGITS, task=None))
    with pytest.raises(PlugInError, match="'digits' has no secondary labels; give it a task"):
        labels_of(plain.activations.images)
    with pytest.raises(
        PlugInError, match=r"at least 2 images .* validation have 1 and 119; raise train_limit"
    ):
        train(attack_subject(tmp_path, dataset=replace(DIGITS, train_limit=1)))
    few = train(
        attack_subject(tmp_path, dataset=replace(DIGITS, train_limit=5)), replace(QUICK, network="mlp")
    )
    assert 0 <= few.validation_top1 < 0.6


def test_other_ways_to_train(tmp_path: Path) -> None:
    subject = attack_subject(tmp_path)
    for options in (
        Secondary(epochs=3, training_precision="bfloat16"),
        Secondary(epochs=3, gradient_clip=0.5),
        Secondary(preset="short"),
    ):
        assert train(subject, options, noise=0.0).validation_top1 > 0.8
    assert Learning(preset="short").schedule("", subject.full_epochs).epochs == 3


def test_a_temperature_takes_back_too_much_confidence_and_no_decision() -> None:
    torch.manual_seed(0)
    labels = torch.arange(10).repeat(50)
    logits = torch.nn.functional.one_hot(labels, 10) + 0.7 * torch.randn(500, 10)
    attacker = Attacker(torch.nn.Identity(), scale=1.0, masked=False)
    attacker.calibrate(20 * logits, labels)
    assert attacker.temperature > 4
    found = attacker(20 * logits)
    assert torch.equal(found.argmax(1), logits.argmax(1))
    loss = torch.nn.functional.cross_entropy
    assert loss(found, labels) < loss(20 * logits, labels) / 2
