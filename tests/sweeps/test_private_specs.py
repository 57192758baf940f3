"""Mistakes about DP-SGD: one sentence with file and line, before anything runs."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hushsweep.sweeps import plan
from hushsweep.sweeps.cli import app
from hushsweep.workers.accounting import extra

SWEEP = """
name: small
dataset: {name: digits, limit: 20, train_limit: 200}
model: {name: conv5_gn, weights: random}
mechanism: {name: dp_sgd, noise_multiplier: 1, delta: 1e-3, batch_size: 50, epochs: 1}
measures: {name: accuracy}
"""


def call(folder: Path, text: str, command: str = "plan"):
    (folder / "small.yaml").write_text(text)
    arguments = [command, str(folder / "small.yaml"), "--results", str(folder / "r")]
    arguments += ["--allow-plugins", "learning_support"]
    arguments += ["--local", "--no-mlflow"] if command == "run" else []
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def mechanism(written: str, text: str = SWEEP) -> str:
    return re.sub(r"mechanism: .*", f"mechanism: {{name: dp_sgd, {written}}}", text)


CASES = {
    "batch normalisation": (
        SWEEP.replace("conv5_gn", "conv5"),
        "small.yaml:5: mechanism: model 'conv5': dp_sgd needs gradients of single images, and batch normalisation "
        "mixes them (layers.1, layers.5, layers.9 and 2 more); use conv5_gn",
    ),
    "batch normalisation of others": (
        SWEEP.replace("conv5_gn", "'learning_support:MixesImages'") + "cut: layers\n",
        "batch normalisation mixes them (layers.1); use a network with group or layer normalisation",
    ),
    "a delta that allows giving an image away": (
        mechanism("noise_multiplier: 1, delta: 0.005, batch_size: 50"),
        "small.yaml:5: mechanism: delta: expected less than 1 / 200 examples = 0.005, got 0.005",
    ),
    "an epsilon that no noise comes to": (
        mechanism("target_epsilon: 1e-3, accountant: rdp_classic, delta: 1e-3, batch_size: 50, epochs: 1"),
        "small.yaml:5: mechanism: target_epsilon 0.001: unreachable for rdp_classic",
    ),
    "an epsilon that protects nothing": (
        mechanism("target_epsilon: 1e9, delta: 1e-3, batch_size: 50, epochs: 1"),
        "small.yaml:5: mechanism: target_epsilon 1e+09: reached with a noise multiplier below 0.05",
    ),
    "clip norm 0": (
        mechanism("noise_multiplier: 1, clip_norm: 0"),
        "small.yaml:5: mechanism.clip_norm: expected a number > 0, got 0",
    ),
    "a batch larger than the data": (
        mechanism("noise_multiplier: 1, delta: 1e-3, batch_size: [50, 201]"),
        "small.yaml:5: mechanism: batch_size: expected at most 200, the images to learn from, got 201",
    ),
    "no level": (
        mechanism("delta: 1e-3"),
        "small.yaml:5: mechanism: expected exactly one of noise_multiplier, target_epsilon, got none",
    ),
    "a frozen server": (
        mechanism("noise_multiplier: 1, server: frozen"),
        "small.yaml:5: mechanism: server: nothing of dp_sgd learns with a frozen server; expected scratch or tuned",
    ),
    "weights of the same images without noise": (
        mechanism("noise_multiplier: 1, delta: 1e-3, batch_size: 50, server: tuned").replace(
            "random", "train"
        ),
        "small.yaml:5: mechanism: server: tuned would start from weights (train) made of this data set's images",
    ),
    "crops larger than the images": (
        mechanism("noise_multiplier: 1, delta: 1e-3, batch_size: 50, augmentations: 2, crop_padding: 8"),
        "small.yaml:5: mechanism: crop_padding: expected less than 8, the side of the images, got 8",
    ),
    "mirrored copies without copies": (
        mechanism("noise_multiplier: 1, flip: true"),
        "small.yaml:5: mechanism: flip: has no effect with augmentations 1",
    ),
    "at the cut": (
        mechanism("noise_multiplier: 1, at: cut"),
        "small.yaml:5: mechanism.at: expected 'input', got 'cut'",
    ),
    "a network for other images": (
        SWEEP.replace("conv5_gn", "tanh_cnn"),
        "model 'tanh_cnn': expected images of 28x28 or 32x32, got 8x8; give input_size",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_sentence_with_its_line(tmp_path: Path, case: str) -> None:
    text, said = CASES[case]
    found = call(tmp_path, text)
    output = " ".join(found.output.split())
    assert found.exit_code == 2, output
    assert said in output
    assert output.count("small.yaml:") == 1, "said once"
    assert "Traceback" not in output
    assert not (tmp_path / "r").exists(), "nothing was begun"


def test_without_the_extra_it_names_the_line_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda package: None)
    found = call(tmp_path, SWEEP)
    assert found.exit_code == 2
    assert (
        "small.yaml:5: mechanism: mechanism 'dp_sgd' needs the extra dp; run: pip install 'hushsweep[dp]'"
        in (" ".join(found.output.split()))
    )


def test_what_is_no_mistake_runs(tmp_path: Path) -> None:
    """Levels of both kinds, plain SGD, over-sampling, and batch normalisation in front of a head that alone learns."""
    from hushsweep.dashboards import run_query

    shared = "delta: 1e-3, batch_size: 50, epochs: 1"
    written = f"""
  - {{name: dp_sgd, noise_multiplier: [0, 2], {shared}}}
  - {{name: dp_sgd, target_epsilon: 2, oversample: random, {shared}}}
  - {{name: dp_sgd, noise_multiplier: 2, trained: head, server: tuned, {shared}}}"""
    text = re.sub(r"mechanism: .*", f"mechanism:{written}", SWEEP)
    found = call(tmp_path, text, "run")
    assert found.exit_code == 0, found.output
    rows = run_query(
        tmp_path / "r",
        "SELECT level_name, level, value, status FROM measurements WHERE statistic = 'top1' ORDER BY level_name, level",
    ).to_pylist()
    assert [row["status"] for row in rows] == ["complete"] * 4
    assert [row["level_name"] for row in rows] == ["noise_multiplier"] * 3 + ["target_epsilon"]
    head = SWEEP.replace("conv5_gn", "conv5").replace("epochs: 1", "epochs: 1, trained: head, server: tuned")
    found = call(tmp_path, head, "run")
    assert found.exit_code == 0, found.output


@pytest.mark.parametrize(
    ("model", "mechanisms", "caveats"),
    [
        ("conv5_gn", "{name: dp_sgd, noise_multiplier: 1, delta: 1e-3, batch_size: 50}", [None]),
        (
            "conv5_gn",
            "{name: dp_sgd, noise_multiplier: 1, delta: 1e-3, batch_size: 50, trained: head}",
            ["random weights"],
        ),
        (
            "scattering",
            "{name: dp_sgd, noise_multiplier: 1, delta: 1e-3, batch_size: 50, trained: head}",
            [None],
        ),
        ("conv5_gn", "{name: private_activations, noise_multiplier: 1, delta: 1e-3}", ["random weights"]),
        (
            "conv5_gn",
            "{name: private_activations, noise_multiplier: 1, delta: 1e-3, encoder: dp_sgd, "
            "encoder_noise_multiplier: 1, encoder_batch_size: 50}",
            [None],
        ),
        ("conv5", "[{name: none}, {name: ani, penalty: 1, batch_size: 50}]", ["random weights", None]),
        ("conv5", "{name: cloak, penalty: 1, server: [frozen, tuned]}", ["random weights", None]),
    ],
)
def test_random_weights_are_noted_where_some_are_left(tmp_path, model, mechanisms, caveats):
    text = SWEEP.replace("conv5_gn", model)
    (tmp_path / "small.yaml").write_text(re.sub("mechanism: .*", f"mechanism: {mechanisms}", text))
    points = plan(tmp_path / "small.yaml", results=tmp_path / "r").points
    assert [point.fields["caveat"] for point in points] == caveats
