"""Mistakes about mechanisms that learn: one sentence with file and line each, and exit code 2 before anything runs."""

import re
from pathlib import Path

import pytest
from learning_support import learned
from safetensors.torch import save_file
from typer.testing import CliRunner

from hushsweep.sweeps.cli import app
from hushsweep.workers.mechanisms import MECHANISMS

SWEEP = """
name: small
dataset: {name: digits, limit: 20, task: less_than_5}
model: {name: conv5, weights: random}
mechanism: {name: ani, penalty: 1, epochs: 1}
measures: {name: accuracy}
"""
TASK = ", task: less_than_5"


def call(folder: Path, text: str, command: str = "run"):
    (folder / "small.yaml").write_text(text)
    options = ["--local", "--no-mlflow"] if command == "run" else []
    options += ["--allow-plugins", "learning_support"]
    arguments = [command, str(folder / "small.yaml"), "--results", str(folder / "r"), *options]
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def mechanism(written: str, text: str = SWEEP) -> str:
    return re.sub(r"mechanism: .*", f"mechanism: {written}", text)


CASES = {
    "dpfe without secondary labels": (
        mechanism("{name: dpfe, noise_scale: 1}").replace(TASK, ""),
        "small.yaml:5: mechanism: dpfe needs secondary labels, which data set 'digits' does not have as it stands; "
        "give dataset.task or dataset.secondary_column",
    ),
    "the measure secondary without secondary labels": (
        mechanism("{name: gaussian, noise_scale: 1}").replace(TASK, "").replace("accuracy", "secondary"),
        "small.yaml:6: measures: secondary needs secondary labels, which data set 'digits' does not have as it stands",
    ),
    "no penalty": (
        mechanism("{name: ani}"),
        "small.yaml:5: mechanism: expected exactly one of penalty, got none",
    ),
    "penalty 0": (
        SWEEP.replace("penalty: 1", "penalty: 0"),
        "small.yaml:5: mechanism.penalty: expected a number > 0, got 0",
    ),
    "penalty negative in a list": (
        SWEEP.replace("penalty: 1", "penalty: [1, -2]"),
        "small.yaml:5: mechanism.penalty[1]: expected a number > 0, got -2",
    ),
    "penalty not a number": (
        SWEEP.replace("penalty: 1", "penalty: much"),
        "small.yaml:5: mechanism.penalty: expected a number, got 'much'",
    ),
    "a target for what learns": (
        mechanism("{name: ani, target_accuracy_loss: 0.1}"),
        "small.yaml:5: mechanism.target_accuracy_loss: unknown key",
    ),
    "unknown preset": (
        SWEEP.replace("epochs: 1", "preset: tiny"),
        "small.yaml:5: mechanism.preset: expected 'full' or 'short', got 'tiny'",
    ),
    "unknown mask network": (
        SWEEP.replace("epochs: 1", "network: wconv3"),
        "small.yaml:5: mechanism: unknown network 'wconv3'; did you mean 'wconv",
    ),
    "a mask network that does not fit": (
        SWEEP.replace("epochs: 1", "network: 'learning_support:TooSmall'"),
        "small.yaml:5: mechanism: network: the output of 'learning_support:TooSmall' has shape (1, 6, 6), which does "
        "not fit values of shape (1, 8, 8)",
    ),
    "a mask network that cannot be built": (
        SWEEP.replace("epochs: 1", "network: 'learning_support:Broken'"),
        "small.yaml:5: mechanism: network: 'learning_support:Broken' fails on values of shape (1, 8, 8): "
        "'no such layer'; choose another",
    ),
    "ani at a cut that is no image": (
        SWEEP.replace("epochs: 1", "at: cut"),
        "small.yaml:5: mechanism: network: 'wconv2_embedding' works on (channels, height, width), but the values it "
        "would act on have shape (64,)",
    ),
    "a place that does not exist": (
        mechanism("{name: shredder, penalty: 1, at: input}"),
        "small.yaml:5: mechanism.at: expected 'cut', got 'input'",
    ),
    "in a chain": (
        mechanism("{chain: [{name: ani, penalty: 1}, {name: gaussian, noise_scale: 1}]}"),
        "small.yaml:5: mechanism: a mechanism that learns stands alone",
    ),
    "a wide bottleneck": (
        mechanism("{name: bottleneck, noise_scale: 1, width: 65}"),
        "small.yaml:5: mechanism: width: expected at most 64, the features at this cut, got 65",
    ),
    "gaussian trained with a frozen server": (
        mechanism("{name: trained_gaussian, noise_scale: 1, server: frozen}"),
        "small.yaml:5: mechanism: server: nothing of trained_gaussian learns with a frozen server",
    ),
    "a client's file that is not there": (
        mechanism("{name: ani, weights: nothing.safetensors}"),
        "small.yaml:5: mechanism.weights: weights '",
    ),
    "a client's file that does not fit": (
        mechanism("{name: ani, network: wconv2, weights: wrong.safetensors}"),
        "encoder.0.weight has shape (1, 1, 3, 3), expected (8, 1, 3, 3)",
    ),
    "a client's file of a mechanism that cannot use one": (
        mechanism("{name: dpfe, noise_scale: 1, weights: wrong.safetensors}"),
        "small.yaml:5: mechanism.weights: dpfe cannot use a client from outside; leave it out",
    ),
    "no level for noise with a client from outside": (
        mechanism("{name: bottleneck, weights: wrong.safetensors}"),
        "small.yaml:5: mechanism: expected exactly one of noise_scale, got 0",
    ),
    "a plug-in that is no mechanism": (
        mechanism("{name: 'learning_support:NeitherFitsNorLearns'}"),
        "small.yaml:5: mechanism.name: 'learning_support:NeitherFitsNorLearns' is no mechanism: it lacks fit",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_sentence_with_its_line(tmp_path: Path, case: str) -> None:
    text, said = CASES[case]
    client = MECHANISMS["ani"](penalty=1.0, network="wconv2").client((1, 8, 8)).state_dict()
    save_file({key: value[:1].clone() for key, value in client.items()}, tmp_path / "wrong.safetensors")
    found = call(tmp_path, text)
    assert found.exit_code == 2, found.output
    output = " ".join(found.output.split())
    assert said in output
    assert output.count("small.yaml:") == 1, "said once"
    assert "Traceback" not in output
    assert not (tmp_path / "r").exists(), "nothing was begun"


def test_all_mistakes_of_a_file_are_reported_together(tmp_path: Path) -> None:
    written = "\n  - {name: ani, penalty: 0}\n  - {name: cloak, penalty: 1, preset: tiny}"
    found = call(tmp_path, mechanism(written))
    assert found.exit_code == 2
    assert "small.yaml:6: mechanism[0].penalty" in found.output
    assert "small.yaml:7: mechanism[1].preset" in found.output


def test_a_training_that_diverges_is_a_failed_row_and_others_go_on(tmp_path: Path) -> None:
    from hushsweep.dashboards import run_query

    written = (
        "{name: ani, penalty: 1, epochs: 1, batch_size: 32, learning_rate: [0.1, 1000000]}\n"
        "  - {name: gaussian, noise_scale: 1}"
    )
    found = call(tmp_path, mechanism(f"\n  - {written}"))
    assert found.exit_code == 1, found.output
    rows = run_query(
        tmp_path / "r", "SELECT mechanism_json, status, reason FROM measurements WHERE statistic = 'top1'"
    ).to_pylist()
    failed = run_query(
        tmp_path / "r", "SELECT mechanism_json, reason FROM measurements WHERE status = 'failed'"
    ).to_pylist()
    assert [row["status"] for row in rows] == ["complete"] * 2
    (row,) = failed
    assert '"learning_rate": 1000000' in row["mechanism_json"]
    assert re.search(
        r"training diverged in epoch 1 of 1 \(loss (nan|inf)\) with learning_rate 1e\+06", row["reason"]
    )
    assert "Traceback" not in found.output


def test_a_client_from_outside_runs_and_keeps_its_id_wherever_it_lies(tmp_path: Path) -> None:
    from hushsweep.dashboards import run_query

    found = learned("ani", MECHANISMS["ani"](penalty=1.0, epochs=1), tmp_path)
    source = tmp_path / "models" / f"{found.digest}.safetensors"
    points = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "client.safetensors").write_bytes(source.read_bytes())
        text = mechanism("{name: ani, weights: client.safetensors}").replace(
            "weights: random}", "weights: client.safetensors}"
        )
        outcome = call(folder, text)
        assert outcome.exit_code == 0, outcome.output
        rows = run_query(
            folder / "r",
            "SELECT point_id, value, penalty, validation_top1, mechanism_digest FROM measurements "
            "WHERE statistic = 'top1'",
        ).to_pylist()
        assert not list((folder / "r" / "models").glob("*.safetensors")), "nothing is trained"
        points += rows
    assert points[0] == points[1]
    assert points[0]["penalty"] is None


def test_a_learned_client_and_its_server_give_the_rows_of_their_training(tmp_path: Path) -> None:
    """A provider's file, checked by its client: the same accuracy as where it was learned."""
    from hushsweep.dashboards import run_query

    query = "SELECT value FROM measurements WHERE statistic = 'top1'"
    assert call(tmp_path, SWEEP).exit_code == 0
    (path,) = (tmp_path / "r" / "models").glob("*.safetensors")
    folder = tmp_path / "client"
    folder.mkdir()
    text = mechanism(f"{{name: ani, weights: {path}}}").replace("weights: random", f"weights: {path}")
    assert call(folder, text).exit_code == 0
    assert run_query(folder / "r", query).to_pylist() == run_query(tmp_path / "r", query).to_pylist()
