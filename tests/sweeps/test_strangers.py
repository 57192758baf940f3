"""Sweep files from strangers: no code of theirs runs unless it is allowed, whatever they name and hold."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from hushsweep.dashboards import run_query
from hushsweep.sweeps import RunError, SpecError, SweepSpec, plan, run
from hushsweep.sweeps.cli import app
from hushsweep.workers.measures import MEASURES

SWEEP = """
name: stranger
dataset: {name: digits, limit: 20, task: less_than_5, train_limit: 64}
model: {name: conv5, weights: random}
mechanism: {name: gaussian, noise_scale: 1}
measures: {name: accuracy}
"""
TASK = ", task: less_than_5, train_limit: 64"
PLUG_IN = '''
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from hushsweep.datasets.images.digits import open_digits
from hushsweep.workers.mechanisms.gaussian import GaussianDithering
from hushsweep.workers.mechanisms.mask_networks import wconv2

Path(__file__).with_name("imported").touch()


@dataclass(frozen=True, kw_only=True)
class Burst(GaussianDithering):
    """Noise."""


def photos(config):
    return open_digits(replace(config, name="digits"))


class Network(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.first, self.last = nn.Conv2d(in_channels, 4, 3), nn.Linear(144, num_classes)

    def forward_features(self, x):
        return self.first(x)

    def forward_head(self, x):
        return self.last(x.flatten(1))

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


class Mask(nn.Module):
    def __init__(self, shape, activation):
        super().__init__()
        self.inner = wconv2(shape[0], activation)

    def forward(self, x):
        return self.inner(x)
'''
NAMES = {
    "mechanism": ("name: gaussian", "name: 'strange.plug:Burst'", "5: mechanism.name: 'strange.plug:Burst'"),
    "chain": (
        "{name: gaussian, noise_scale: 1}",
        "{chain: [{name: gaussian, noise_scale: 1, at: input}, {name: 'strange.plug:Burst', noise_scale: 1}]}",
        "5: mechanism.chain[1].name: 'strange.plug:Burst'",
    ),
    "data set": ("name: digits", "name: 'strange.plug:photos'", "3: dataset.name: 'strange.plug:photos'"),
    "model": ("name: conv5", "name: [conv5, 'strange.plug:Network']", "4: model.name[1]: 'strange.plug:Network'"),
    "network of a mechanism": (
        "{name: gaussian, noise_scale: 1}",
        "{name: ani, penalty: 1, preset: short, epochs: 1, network: 'strange.plug:Mask'}",
        "5: mechanism.network: 'strange.plug:Mask'",
    ),
}  # fmt: skip


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package on the import path whose import leaves a file behind."""
    package = tmp_path / "strange"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('imported').touch()"
    )
    (package / "plug.py").write_text(PLUG_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in ("strange", "strange.plug"):
        sys.modules.pop(name, None)


def call(folder: Path, text: str, command: str, *options: str) -> Result:
    (folder / "stranger.yaml").write_text(text)
    if command == "run":
        options = (*options, "--local", "--no-mlflow")
    arguments = [command, str(folder / "stranger.yaml"), "--results", str(folder / "results"), *options]
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.mark.parametrize("kind", NAMES)
def test_named_code_runs_only_if_it_is_allowed(stranger: Path, tmp_path: Path, kind: str) -> None:
    own, foreign, said = NAMES[kind]
    text = SWEEP.replace(own, foreign)
    if kind == "data set":
        text = text.replace(TASK, "")
    for options in ((), ("--allow-plugins", "strang"), ("--allow-plugins", "strange.plug.more")):
        for command in ("plan", "run"):
            found = call(tmp_path, text, command, *options)
            assert found.exit_code == 2, found.output
            assert found.stderr.count("\n") == 1
            assert found.stderr.startswith(
                f"error: {tmp_path}/stranger.yaml:{said} is code from outside hushsweep"
            )
            assert "add --allow-plugins strange.plug after reading it" in found.stderr
    assert not (stranger / "imported").exists()
    assert not (tmp_path / "results").exists()
    allowed = ("--allow-plugins", "other", "--allow-plugins", "strange")
    assert call(tmp_path, text, "plan", *allowed).exit_code == 0
    assert (stranger / "imported").exists()
    found = call(tmp_path, text, "run", *allowed)
    assert found.exit_code == 0, found.output
    rows = run_query(tmp_path / "results", "SELECT DISTINCT status FROM measurements")
    assert rows["status"].to_pylist() == ["complete"]


@pytest.mark.parametrize("options", [(), ("--allow-plugins", "strange")])
def test_a_measure_is_never_code_from_outside(
    stranger: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    text = SWEEP.replace("name: accuracy", "name: 'strange.plug:Count'")
    for command in ("plan", "run"):
        found = call(tmp_path, text, command, *options)
        assert found.exit_code == 2
        assert found.stderr == (
            f"error: {tmp_path}/stranger.yaml:6: measures.name: 'strange.plug:Count' is code from outside hushsweep, "
            "and a measure cannot be: the store has no table for its rows per image; name one of "
            f"{', '.join(sorted(MEASURES))}, or add yours to hushsweep (docs/extending.md)\n"
        )
    assert not (stranger / "imported").exists()
    assert not (tmp_path / "results").exists()


def test_python_refuses_the_same(stranger: Path, tmp_path: Path) -> None:
    path = tmp_path / "stranger.yaml"
    path.write_text(SWEEP.replace("name: gaussian", "name: 'strange.plug:Burst'"))
    for refuse in (
        lambda: plan(path, results=tmp_path / "results"),
        lambda: run(path, results=tmp_path / "results", local=True, mirror=False),
        lambda: SweepSpec.load(path),
        lambda: SweepSpec.parse(path.read_text()),
    ):
        with pytest.raises(SpecError, match=r"'strange\.plug:Burst' is code from outside"):
            refuse()
    assert not (stranger / "imported").exists()
    for wrong in ("strange", ["strange.plug:Burst"], [""], ["../strange"]):
        with pytest.raises(RunError, match=r"allow.plugins.*expected a"):
            plan(path, results=tmp_path / "results", allow_plugins=wrong)
    assert not (stranger / "imported").exists()
    assert len(plan(path, results=tmp_path / "results", allow_plugins=["strange.plug"]).points) == 1
    assert SweepSpec.load(path, allow_plugins={"strange"}).name == "stranger"


@pytest.mark.parametrize(
    "written",
    [
        "{name: &x 'strange.plug:Burst', noise_scale: 1}\n  - {name: *x, noise_scale: 2}",
        "{<<: {name: 'strange.plug:Burst'}, noise_scale: 1}",
        "{name: !!str strange.plug:Burst, noise_scale: 1}",
        '{name: "strange\\x2eplug\\x3aBurst", noise_scale: 1}',
        "{name: gaussian, noise_scale: 1, more: {deep: [['strange.plug:Burst']]}}",
    ],
)
def test_no_spelling_of_yaml_hides_a_name(stranger: Path, tmp_path: Path, written: str) -> None:
    found = call(tmp_path, SWEEP.replace("{name: gaussian, noise_scale: 1}", f"\n  - {written}"), "plan")
    assert (found.exit_code, "is code from outside hushsweep" in found.stderr) == (2, True), found.output
    assert not (stranger / "imported").exists()


@pytest.mark.parametrize(
    "name", ["strange/plug:Burst", "strange plug:Burst", ".strange:Burst", "strange.plug:", ":Burst"]
)
@pytest.mark.parametrize("kind", ["mechanism", "measure", "data set", "model"])
def test_what_is_spelled_otherwise_is_never_imported(
    stranger: Path, tmp_path: Path, kind: str, name: str
) -> None:
    own = "name: accuracy" if kind == "measure" else NAMES[kind][0]
    text = SWEEP.replace(own, f"name: '{name}'").replace(TASK, "")
    found = call(tmp_path, text, "plan", "--allow-plugins", "strange")
    assert found.exit_code == 2, found.output
    assert "unknown " in found.stderr
    assert not (stranger / "imported").exists()


def test_texts_that_look_like_names_stay_texts(tmp_path: Path) -> None:
    text = SWEEP + "description: 'strange.plug:Burst'\n"
    assert call(tmp_path, text, "plan").exit_code == 0
    found = call(tmp_path, text.replace("limit: 20", "limit: 20, split: 'a:b'"), "plan")
    assert "unknown split 'a:b'" in found.stderr


class Bomb:
    """Runs code when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("suffix", ["pt", "pth", "safetensors"])
@pytest.mark.parametrize("form", ["torch", "pickle"])
@pytest.mark.parametrize("place", ["model", "mechanism"])
def test_weights_are_never_unpickled(tmp_path: Path, suffix: str, form: str, place: str) -> None:
    mark, file = tmp_path / "it-ran", tmp_path / f"bomb.{suffix}"
    if form == "torch":
        torch.save({"fc.weight": Bomb(mark)}, file)
    else:
        file.write_bytes(pickle.dumps(Bomb(mark)))
    text = SWEEP.replace("weights: random", f"weights: {file.name}")
    if place == "mechanism":
        text = SWEEP.replace("{name: gaussian, noise_scale: 1}", f"{{name: ani, weights: {file.name}}}")
    for command in ("plan", "run"):
        found = call(tmp_path, text, command)
        assert found.exit_code == 2, found.output
        assert found.stderr.count("\n") == 1
        assert f"{file.name}' cannot be read: " in found.stderr
    assert not mark.exists()


def test_a_safetensors_header_that_lies_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "bomb.safetensors"
    save_file({"a": torch.zeros(1)}, file)
    file.write_bytes((2**62).to_bytes(8, "little") + file.read_bytes()[8:])
    found = call(tmp_path, SWEEP.replace("weights: random", f"weights: {file.name}"), "plan")
    assert (found.exit_code, found.stderr.count("\n")) == (2, 1), found.output


REPEATED = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{depth}: &a{depth} [{', '.join([f'*a{depth - 1}'] * 9)}]\n" for depth in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (REPEATED + SWEEP, "more than 100,000 values, each counted as often as aliases repeat it; write less"),
        (SWEEP.replace("measures: {name: accuracy}", "measures: &m [*m]"), "more than 100,000 values"),
        (SWEEP + "cut: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        (SWEEP + "description: !!python/object/apply:os.mkdir [it-ran]", "stranger.yaml:7: not valid YAML 1.2"),
        (SWEEP + 'description: "\\e]0;it-ran\\a"', "stranger.yaml:7: a text with the character U+001B; take it out"),
        (SWEEP + 'description: "half \\ud800"', "stranger.yaml:7: a text with the character U+D800; take it out"),
        (SWEEP + 'cut: "features\\0"', "stranger.yaml:7: a text with the character U+0000; take it out"),
    ],
    ids=["repeated", "endless", "deep", "object", "escape", "half a character", "nul"],
)  # fmt: skip
def test_yaml_that_means_harm_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = call(tmp_path, text, "plan")
    assert (found.exit_code, found.stderr.count("\n")) == (2, 1), found.output
    assert said in found.stderr
    assert sorted(tmp_path.iterdir()) == [tmp_path / "stranger.yaml"]


def test_nothing_is_imported_from_the_folder_of_a_stranger(tmp_path: Path) -> None:
    """Neither here, nor by a Ray worker, nor by the process that writes MLflow's runs, though all start there."""
    trap = "from pathlib import Path\nPath(__file__).with_name('imported').touch()\nraise ImportError('a trap')\n"
    for name in ("torch", "timm", "mlflow", "ray", "safetensors", "lazy_loader", "psutil", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(trap)
    (tmp_path / "stranger.yaml").write_text(SWEEP)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hushsweep.sweeps", "run", "stranger.yaml"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "imported").exists()
    assert "1 computed" in done.stdout
    assert (tmp_path / "results" / "mlflow.db").exists(), "MLflow was written"
