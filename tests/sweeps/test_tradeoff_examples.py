"""Every example sweep of learned noise, run in a reduced form on the real images that it names."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hushsweep.dashboards import run_query, secondary_drop
from hushsweep.sweeps import Summary, plan, run

EXAMPLES = Path(__file__).parent.parent.parent / "sweeps" / "examples"
LEVELS = ("penalty", "noise_scale")
METHODS = {
    "none",
    "ani",
    "cloak, retrained",
    "cloak, frozen server",
    "trained_gaussian",
    "gaussian",
    "bottleneck",
}

ATTACKERS = {"mnist": ["single", "mask"], "fashion_mnist": ["single", "average"]}

Section = dict[str, Any]


def reduced(name: str, folder: Path, change: Callable[[Section], None], *, epochs: int = 1) -> Path:
    """Write an example with two levels, one seed, short trainings and few images."""
    yaml = YAML(typ="safe", pure=True)
    data = yaml.load((EXAMPLES / f"{name}.yaml").read_text())
    data |= {"seed": 0, "execution": {"threads": 1}}
    for mechanism in data["mechanism"]:
        for level in LEVELS:
            if isinstance(mechanism.get(level), list):
                mechanism[level] = [mechanism[level][0], mechanism[level][-1]]
        shorten(mechanism, epochs)
    for measure in data["measures"]:
        shorten(measure, epochs)
        measure |= {"accuracy": {"draws": 2}, "secondary": {"draws": 1}}.get(measure["name"], {})
        measure |= {"bounds": {"images": 1}, "masks": {"images": 1}}.get(measure["name"], {})
        if measure["name"] == "information":
            measure |= {"images": 16}
    change(data)
    path = folder / f"{name}.yaml"
    with path.open("w") as file:
        yaml.dump(data, file)
    return path


def shorten(section: Section, epochs: int) -> None:
    """Give what is trained so many epochs in place of its own."""
    if "preset" in section or "epochs" in section:
        section.pop("preset", None)
        section |= {"epochs": epochs, "batch_size": 16}


def attack_with(data: Section, attackers: list[str]) -> None:
    """Leave one measure of the secondary task, with so many attackers."""
    others = [measure for measure in data["measures"] if measure["name"] != "secondary"]
    secondary = next(measure for measure in data["measures"] if measure["name"] == "secondary")
    data["measures"] = [*others, secondary | {"attacker": attackers}]


def without_bounds(data: Section) -> None:
    """Leave the bounds out, which the tests of the measure run on images of this size."""
    data["measures"] = [measure for measure in data["measures"] if measure["name"] != "bounds"]


def few_levels(data: Section, *, both: str) -> None:
    """Leave one level of every mechanism but one."""
    for mechanism in data["mechanism"]:
        for level in LEVELS:
            if isinstance(mechanism.get(level), list) and mechanism["name"] != both:
                mechanism[level] = mechanism[level][0]


def run_small(spec: Path, results: Path) -> Summary:
    """Run it, and check that every row is there, that none failed, and that floors stand beside attackers."""
    summary = run(spec, results=results, local=True, mirror=False)
    assert summary.exit_code == 0, summary.failures
    planned = plan(spec, results=results)
    assert (planned.existing, planned.wanted) == (planned.wanted, planned.wanted), "nothing is missing"
    statuses = run_query(results, "SELECT DISTINCT status FROM measurements").column(0).to_pylist()
    assert set(statuses) <= {"complete", "not_applicable"}
    floors = run_query(
        results,
        "SELECT count(*) AS points, count(DISTINCT value) AS floors, min(value) > 0 AS positive FROM measurements "
        "WHERE measure = 'secondary' AND statistic = 'floor'",
    ).to_pylist()
    assert floors[0]["points"] >= len(planned.points)
    assert floors[0]["positive"]
    settings = len({(p.fields["model"], p.fields["task"]) for p in planned.points})
    assert floors[0]["floors"] <= settings, "a floor belongs to the images, not to a mechanism"
    assert secondary_drop(results, summary.sweep).num_rows > 0
    return summary


def methods(results: Path) -> set[str]:
    """Names of the methods that got as far as the trade-off."""
    return set(run_query(results, "SELECT DISTINCT method FROM frontier").column("method").to_pylist())


def check_pictures(results: Path) -> None:
    """What acts on images has pictures; what weighs pixels also its weights."""
    rows = run_query(
        results,
        "SELECT method, list(DISTINCT kind ORDER BY kind) AS kinds FROM pictures JOIN privacy USING (point_id) "
        "WHERE kind IN ('original', 'mask', 'transformed') GROUP BY ALL",
    ).to_pylist()
    kinds = {row["method"]: row["kinds"] for row in rows}
    assert kinds["ani"] == ["mask", "original", "transformed"]
    assert kinds.get("trained_gaussian", ["original", "transformed"]) == ["original", "transformed"]


def test_quickstart_tradeoff(tmp_path: Path) -> None:
    """As it is; it is meant to be quick."""
    started = time.process_time()
    summary = run_small(EXAMPLES / "quickstart_tradeoff.yaml", tmp_path / "r")
    assert time.process_time() - started < 100
    assert {path.name for path in summary.figures} >= {"frontier.png", "masks.png"}
    rows = run_query(tmp_path / "r", "FROM frontier ORDER BY method, level").to_pylist()
    for method in ("ani", "trained_gaussian"):
        own = [row for row in rows if row["method"] == method]
        assert len(own) == 2
        assert own[0]["primary_top1"] > own[-1]["primary_top1"]
        assert own[0]["mi_upper"] > own[1]["mi_upper"], "more noise, less information"
        assert all(row["mi_lower"] <= row["mi_upper"] for row in own)
        assert all(row["floor"] < row["secondary_strongest"] for row in own)
    check_pictures(tmp_path / "r")
    bounds = run_query(tmp_path / "r", "SELECT DISTINCT bound FROM bounds").column("bound").to_pylist()
    assert set(bounds) == {"cramer_rao", "hcr", "dfil"}


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_small_images(tmp_path: Path, data_root: Path, name: str) -> None:
    folder = {"mnist": "mnist", "fashion_mnist": "fashion-mnist"}[name]

    def change(data: Section) -> None:
        data["dataset"] |= {"root": str(data_root / folder), "limit": 32, "train_limit": 48}
        data["model"]["epochs"] = 1
        attack_with(data, ATTACKERS[name])
        few_levels(data, both="ani")
        if name == "fashion_mnist":
            without_bounds(data)

    results = tmp_path / "r"
    run_small(reduced(f"ani_{name}", tmp_path, change), results)
    assert methods(results) == METHODS
    check_pictures(results)
    attackers = "SELECT DISTINCT options ->> 'attacker' AS a FROM measurements WHERE measure = 'secondary'"
    assert set(run_query(results, attackers).column("a").to_pylist()) == set(ATTACKERS[name])
    rows = run_query(results, 'SELECT label, "primary" AS p FROM per_image_secondary').to_pylist()
    assert {(row["label"] < 5) == (row["p"] == 1) for row in rows} == {True}


def test_cifar100(tmp_path: Path, data_root: Path) -> None:
    def change(data: Section) -> None:
        data["dataset"] |= {"root": str(data_root / "cifar100"), "limit": 16, "train_limit": 32}
        data["model"] |= {"epochs": 1}
        without_bounds(data)
        attack_with(data, ["single"])
        few_levels(data, both="ani")

    results = tmp_path / "r"
    run_small(reduced("ani_cifar100", tmp_path, change), results)
    assert methods(results) == METHODS
    check_pictures(results)
    share = run_query(
        results, "SELECT max(client_share) AS share FROM privacy WHERE method = 'ani'"
    ).to_pylist()
    assert share[0]["share"] < 0.005, "the paper: below 0.5 % of the server"


@pytest.mark.parametrize(
    ("network", "task"), [("torchvision/resnet18", "smiling_young"), ("torchvision/swin_t", "smiling_male")]
)
def test_celeba(tmp_path: Path, data_root: Path, network: str, task: str) -> None:
    """At 64 pixels: 224 take a GPU. Swin-T, 110 MB of weights for every training, without some of the methods."""
    kept = METHODS if "resnet" in network else {"none", "ani", "cloak, retrained"}
    whole = kept == METHODS

    def change(data: Section) -> None:
        data["dataset"] |= {
            "root": str(data_root / "celeba"),
            "limit": 12,
            "train_limit": 16,
            "input_size": 64,
        }
        data["dataset"]["task"] = task
        data["model"] = [model for model in data["model"] if model["name"] == network]
        data["model"][0] |= {"epochs": 1, "network_size": 64}
        attack_with(data, ["single"])
        few_levels(data, both="none")
        data["mechanism"] = data["mechanism"] if whole else data["mechanism"][:3]
        data["measures"] = [
            m | ({"knn": False} if m["name"] == "information" else {}) for m in data["measures"]
        ]

    results = tmp_path / "r"
    run_small(reduced("ani_celeba", tmp_path, change), results)
    assert methods(results) == kept
    check_pictures(results)


def test_imagenet(tmp_path: Path, data_root: Path, resnet18_file: Path) -> None:
    """Forty of the sample's classes at 64 pixels, and weights in the place of the published ones."""
    folder = tmp_path / "imagenet"
    folder.mkdir()
    source = data_root / "imagenet-sample" / "val"
    for name in sorted(path.name for path in source.iterdir())[::25]:
        (folder / name).symlink_to(source / name)

    def change(data: Section) -> None:
        data["dataset"] |= {"root": str(folder), "input_size": 64}
        data["model"] |= {"weights": str(resnet18_file), "network_size": 64}
        attack_with(data, ["single"])
        few_levels(data, both="ani")

    results = tmp_path / "r"
    run_small(reduced("ani_imagenet", tmp_path, change), results)
    found = {
        "ani, tuned server",
        "cloak, tuned server",
        "trained_gaussian, tuned server",
        "bottleneck, tuned server",
    }
    assert methods(results) == found
    reference = run_query(results, "SELECT DISTINCT reference FROM frontier").column("reference").to_pylist()
    assert all(one.startswith("best primary") for one in reference), (
        "without none, the best level is the reference"
    )


@pytest.fixture(scope="module")
def resnet18_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as torchvision's weights are: 1,000 classes, here of random numbers."""
    import torch
    import torchvision

    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet18().state_dict(), path)
    return path
