"""Every example sweep of attacks, run in a reduced form on the real images that it names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hushsweep.dashboards import reconstructions, run_query, sandwich
from hushsweep.sweeps import run

EXAMPLES = Path(__file__).parent.parent.parent / "sweeps" / "examples"
LEVELS = ("penalty", "noise_scale")
SHORT: dict[str, dict[str, Any]] = {
    "accuracy": {"draws": 1},
    "bounds": {"images": 2},
    "sandwich": {"images": 2, "draws": 2},
    "secondary": {"draws": 1},
}
"""What replaces the options of measures."""

Section = dict[str, Any]


def reduced(name: str, folder: Path, data_root: Path, change: Callable[[Section], None]) -> Path:
    """Write an example with one level of every mechanism, few images, and an epoch or a few steps of everything."""
    yaml = YAML(typ="safe", pure=True)
    data = yaml.load((EXAMPLES / f"{name}.yaml").read_text())
    data["dataset"] |= {"root": str(data_root / data["dataset"]["root"])}
    models = data["model"] if isinstance(data["model"], list) else [data["model"]]
    for section in (*models, *data["mechanism"], *data["measures"]):
        if "preset" in section or "epochs" in section:
            section.pop("preset", None)
            section |= {"epochs": 1}
    for mechanism in data["mechanism"]:
        mechanism |= {
            level: mechanism[level][0] for level in LEVELS if isinstance(mechanism.get(level), list)
        }
    for measure in data["measures"]:
        measure |= SHORT.get(measure["name"], {})
        if measure["name"] == "reconstruction":
            measure |= {"images": 4, "candidates": 4}
        if measure.get("attack") == "map":
            measure |= {"steps": 5}
    change(data)
    path = folder / f"{name}.yaml"
    with path.open("w") as file:
        yaml.dump(data, file)
    return path


def attacked(spec: Path, results: Path) -> list[dict[str, Any]]:
    """Run it; every row has to be there, and none failed."""
    summary = run(spec, results=results, local=True, mirror=False)
    assert summary.exit_code == 0, summary.failures
    assert not summary.failures
    rows = reconstructions(results, summary.sweep).to_pylist()
    assert all(row["mse"] > 0 for row in rows if row["status"] == "complete")
    return rows


def kinds(results: Path) -> set[str]:
    return set(run_query(results, "SELECT DISTINCT kind FROM pictures").column("kind").to_pylist())


def test_attack_mnist(tmp_path: Path, data_root: Path) -> None:
    def change(data: Section) -> None:
        data["dataset"] |= {"train_limit": 400, "limit": 20}

    rows = attacked(reduced("attack_mnist", tmp_path, data_root, change), tmp_path / "r")
    complete = {(row["mechanism"], row["attack"]) for row in rows if row["status"] == "complete"}
    everything = {
        *("blind", "class mean", "ridge", "ridge, 10 queries", "decoder", "decoder, all levels"),
        *("map, gaussian prior", "map, total variation prior", "bayes"),
    }
    for mechanism in ("gaussian", "laplace"):
        assert {attack for of, attack in complete if of == mechanism} == everything
    assert {attack for of, attack in complete if of == "none"} == everything - {
        *("ridge, 10 queries", "decoder, all levels", "bayes")
    }
    beside = sandwich(tmp_path / "r", "attack-mnist").to_pylist()
    assert {row["bound"] for row in beside} == {"cramer_rao", "dfil", "van_trees", "two_point"}
    assert not any("violated" in (row["flag"] or "") for row in beside)
    assert kinds(tmp_path / "r") >= {"original", "reconstruction"}


def test_attack_cifar10(tmp_path: Path, data_root: Path) -> None:
    """At two of the cuts."""

    def change(data: Section) -> None:
        data["dataset"] |= {"train_limit": 100, "limit": 8}
        data["cut"] = ["layers.0", "layers.13"]

    rows = attacked(reduced("attack_cifar10", tmp_path, data_root, change), tmp_path / "r")
    errors = {(row["cut"], row["mechanism"], row["attack"]): row["mse"] for row in rows}
    assert len(errors) == 2 * 2 * 4
    assert None not in errors.values()
    for mechanism in ("none", "gaussian"):
        shallow, deep = (errors[cut, mechanism, "ridge"] for cut in ("layers.0", "layers.13"))
        assert shallow < deep, "what is deeper in the network is harder to invert"


def test_attack_ani(tmp_path: Path, data_root: Path) -> None:
    def change(data: Section) -> None:
        data["dataset"] |= {"train_limit": 300, "limit": 20}

    rows = attacked(reduced("attack_ani", tmp_path, data_root, change), tmp_path / "r")
    found = {(row["method"], row["attack"]): row for row in rows}
    for method in ("ani", "cloak, retrained", "gaussian"):
        assert found[method, "decoder"]["secondary"] is not None
        assert found[method, "decoder, 10 queries"]["status"] == "complete"
        assert found[method, "map, gaussian prior"]["status"] == "complete"
    assert found["ani", "decoder, mask"]["status"] == "complete"
    assert found["gaussian", "decoder, mask"]["status"] == "not_applicable"
    assert kinds(tmp_path / "r") >= {"original", "reconstruction"}


@pytest.mark.parametrize("network", ["torchvision/resnet18", "torchvision/swin_t"])
def test_attack_imagenet_sample(network: str, tmp_path: Path, data_root: Path) -> None:
    def change(data: Section) -> None:
        data["dataset"] |= {"limit": 2}
        data["model"]["name"] = network
        data["measures"][-1] |= {"images": 2, "candidates": 2, "steps": 2}

    rows = attacked(reduced("attack_imagenet_sample", tmp_path, data_root, change), tmp_path / "r")
    assert {(row["attack"], row["status"]) for row in rows} == {("map, total variation prior", "complete")}
    assert {row["mechanism"] for row in rows} == {"none", "gaussian"}


def test_attack_celeba(tmp_path: Path, data_root: Path) -> None:
    """Without the sandwich, whose Jacobians of networks of this size take minutes."""

    def change(data: Section) -> None:
        data["dataset"] |= {"train_limit": 24, "limit": 6}
        data["measures"] = [measure for measure in data["measures"] if measure["name"] != "sandwich"]

    rows = attacked(reduced("attack_celeba", tmp_path, data_root, change), tmp_path / "r")
    complete = {(row["model"], row["method"], row["attack"]) for row in rows if row["status"] == "complete"}
    attacks = ("blind", "ridge", "decoder", "map, total variation prior")
    models = ("torchvision/resnet18", "torchvision/swin_t")
    assert complete == {(m, of, a) for m in models for of in ("none", "gaussian", "ani") for a in attacks}
    assert not kinds(tmp_path / "r"), "no picture of a face is kept"
