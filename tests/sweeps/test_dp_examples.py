"""Every example sweep of differential privacy, run in a reduced form on the real images that it names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from hushsweep.dashboards import run_query
from hushsweep.sweeps import plan, run

EXAMPLES = Path(__file__).parent.parent.parent / "sweeps" / "examples"
LEVELS = ("noise_multiplier", "target_epsilon")
SHORT = {"epochs": 1, "physical_batch": 8}
ENCODER = {"encoder_epochs": 1, "encoder_batch_size": 16, "encoder_noise_multiplier": 8}


Section = dict[str, Any]


def reduced(name: str, folder: Path, change: Callable[[Section], None]) -> Path:
    """Write an example with one seed, two levels, short trainings and few images."""
    yaml = YAML(typ="safe", pure=True)
    data = yaml.load((EXAMPLES / f"{name}.yaml").read_text())
    data |= {"seed": 0, "execution": {"threads": 1}}
    data["dataset"] |= {"limit": 48, "train_limit": 64}
    for mechanism in data["mechanism"]:
        mechanism |= {"batch_size": 16} | {key: value for key, value in SHORT.items() if key in mechanism}
        mechanism |= ENCODER if "encoder" in mechanism else {}
        for level in LEVELS:
            if isinstance(mechanism.get(level), list):
                mechanism[level] = [mechanism[level][0], mechanism[level][-1]]
    change(data)
    path = folder / f"{name}.yaml"
    with path.open("w") as file:
        yaml.dump(data, file)
    return path


def keep(data: Section) -> None:
    """Change nothing further."""


def run_small(name: str, folder: Path, change: Callable[[Section], None] = keep) -> Path:
    """Run it, and check that every row is there and none failed."""
    spec, results = reduced(name, folder, change), folder / "results"
    summary = run(spec, results=results, local=True, mirror=False)
    assert summary.exit_code == 0, summary.failures
    planned = plan(spec, results=results)
    assert (planned.existing, planned.wanted) == (planned.wanted, planned.wanted), "nothing is missing"
    return results


def values(results: Path, statistic: str) -> list[Section]:
    """Rows of a statistic, with the parameters of their mechanisms."""
    rows = run_query(
        results,
        "SELECT mechanism, level_name, level, mechanism_json, class_counts, value, reason FROM measurements "
        f"WHERE statistic = '{statistic}' ORDER BY mechanism, level_name, level, mechanism_json",
    ).to_pylist()
    return [row | json.loads(row["mechanism_json"])[0]["parameters"] for row in rows]


@pytest.fixture(autouse=True)
def _data(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUSHSWEEP_DATA", str(data_root))


@pytest.mark.parametrize("name", ["neuraldp_mnist", "neuraldp_pneumonia"])
def test_methods_at_equal_epsilon(tmp_path: Path, name: str) -> None:
    results = run_small(name, tmp_path)
    epsilons = values(results, "epsilon_pld")
    asked = [row for row in epsilons if row["level_name"] == "target_epsilon"]
    assert len(asked) == 2 + 2 * 2 * 2, (
        "DP-SGD; released activations, of either encoder, queried in both ways"
    )
    for row in asked:
        assert row["value"] <= row["level"] * (1 + 1e-6), "no more than was asked for"
        assert row["value"] == pytest.approx(row["level"], rel=3e-3)
        released = row["mechanism"] == "private_activations"
        assert ("labels are released in clear" in (row["reason"] or "")) == released
    (plain,) = [row for row in epsilons if row["level_name"] == "noise_multiplier"]
    assert plain["value"] is None
    assert "no noise" in plain["reason"]
    queries = values(results, "epsilon_query")
    private = [row for row in queries if row.get("queries") == "noisy"]
    assert len(private) == 4
    for row in private:
        alone = row.get("encoder") is None
        assert row["value"] == pytest.approx(row["level"], rel=1e-3) if alone else row["value"] < row["level"]
    assert all(row["value"] is None for row in queries if row.get("queries") != "noisy")
    assert len(list((results / "cache" / "encoders").glob("*.safetensors"))) == 1, "levels share an encoder"
    assert len(values(results, "loss_auc")) == len(values(results, "top1")) == len(epsilons)


def test_cifar10(tmp_path: Path) -> None:
    results = run_small("dpsgd_cifar10", tmp_path)
    epsilons = {(row["level_name"], row["level"]): row["value"] for row in values(results, "epsilon_pld")}
    assert epsilons.keys() == {
        *(("noise_multiplier", noise) for noise in (0.0, 1.0, 100.0)),
        *(("target_epsilon", epsilon) for epsilon in (1.0, 8.0)),
    }
    assert epsilons["noise_multiplier", 0.0] is None
    assert epsilons["noise_multiplier", 1.0] > epsilons["noise_multiplier", 100.0] > 0


def test_dp_sgd_on_mnist_shares_its_points_with_released_activations(tmp_path: Path) -> None:
    results = run_small("dpsgd_mnist", tmp_path)
    assert len(values(results, "epsilon_pld")) == 3
    beside = plan(reduced("neuraldp_mnist", tmp_path, keep), results=results)
    assert beside.existing == 3 * 3, "accuracy, epsilon and membership of each"


@pytest.mark.parametrize("name", ["dpsgd_cifar10_vgg19", "dpsgd_cifar10_vgg19_short"])
def test_vgg19(tmp_path: Path, name: str) -> None:
    """Two images at once: a gradient of each has 20 million entries."""

    def change(data: Section) -> None:
        data["dataset"] |= {"limit": 8, "train_limit": 8}
        for mechanism in data["mechanism"]:
            mechanism |= {"batch_size": 4, "physical_batch": 2}
        data["measures"][-1].pop("images", None)

    results = run_small(name, tmp_path, change)
    noises = [row["level"] for row in values(results, "top1")]
    assert noises == [0, 1, 100]
    assert [row["delta"] for row in values(results, "delta")] == [1.33e-5] * 3


def test_imbalance(tmp_path: Path) -> None:
    def change(data: Section) -> None:
        del data["dataset"]["train_limit"]
        data["dataset"]["class_counts"] = [max(2, count // 250) for count in data["dataset"]["class_counts"]]

    results = run_small("imbalance_smote", tmp_path, change)
    counts = {row["class_counts"] for row in values(results, "top1")}
    assert sorted(json.loads(counts.pop())) == [2, 2, 2, 4, 6, 8, 10, 12, 14, 20]
    assert not counts
    examples = {row.get("oversample"): row["value"] for row in values(results, "examples")}
    assert examples == {"none": 80, "random": 200, "smote": 200}
    person = {row["oversample"]: row for row in values(results, "epsilon_person") if row["level"] == 1}
    record = {row["oversample"]: row["value"] for row in values(results, "epsilon_pld") if row["level"] == 1}
    assert person["none"]["value"] == pytest.approx(record["none"], rel=1e-2)
    assert person["random"]["value"] > 1.5 * record["random"], "one person's image is many of them"
    assert person["smote"]["value"] is None
    assert "unknown" in person["smote"]["reason"]
    learned = run_query(results, "SELECT DISTINCT mechanism_digest AS d FROM measurements").column("d")
    assert len(set(learned.to_pylist())) == 9
    assert np.isfinite([row["value"] for row in values(results, "top1")]).all()
