"""Every example sweep that ships, run in a reduced form on the real images that it names."""

import os
import shutil
import time
from pathlib import Path

import pytest
from independent_support import compare_hits
from ruamel.yaml import YAML
from shifts_support import check_stored_shifts

from hushsweep.dashboards import run_query
from hushsweep.datasets.images import DatasetConfig
from hushsweep.sweeps import plan, run

EXAMPLES = Path(__file__).parent.parent.parent / "sweeps" / "examples"


def reduced(name: str, folder: Path, change) -> Path:
    """Write an example with some values changed."""
    yaml = YAML(typ="safe", pure=True)
    data = yaml.load((EXAMPLES / f"{name}.yaml").read_text())
    change(data)
    path = folder / f"{name}.yaml"
    with path.open("w") as file:
        yaml.dump(data, file)
    return path


def top1(results: Path) -> dict[float, float]:
    rows = run_query(results, "SELECT level, value FROM measurements WHERE statistic = 'top1'").to_pylist()
    return {row["level"]: row["value"] for row in rows}


def test_quickstart(tmp_path: Path) -> None:
    """As it is; it is meant to be quick."""
    started = time.monotonic()
    summary = run(EXAMPLES / "quickstart.yaml", results=tmp_path / "r", local=True, mirror=False)
    assert summary.exit_code == 0, summary.failures
    assert time.monotonic() - started < 120
    rows = run_query(tmp_path / "r", "FROM tradeoff ORDER BY mechanism, level").to_pylist()
    assert len(rows) == 10
    assert all(row["clean_top1"] > 0.93 for row in rows)
    for law in ("gaussian", "laplace"):
        mine = [row for row in rows if row["mechanism"] == law]
        assert [row["top1"] for row in mine] == sorted((row["top1"] for row in mine), reverse=True)
        bounds = [row["std_bound_median"] for row in mine]
        assert bounds == sorted(bounds), "more noise, larger bound"
    assert [path.name for path in summary.figures][:1] == ["tradeoff.png"]
    assert summary.figures[0].stat().st_size > 10_000


def test_mnist_hcr(tmp_path: Path, data_root: Path) -> None:
    def change(data) -> None:
        data["dataset"] |= {"root": str(data_root / "mnist"), "limit": 200}
        data["model"] |= {"epochs": 1, "seed": 0, "batch_size": 256}
        data["measures"] = [
            {"name": "accuracy", "draws": 3},
            {"name": "hcr", "images": 2, "restarts": 2, "rounds": 2, "low_frequency": 8},
        ]

    summary = run(reduced("mnist_hcr", tmp_path, change), results=tmp_path / "r", local=True, mirror=False)
    assert summary.exit_code == 0, summary.failures
    accuracy = top1(tmp_path / "r")
    assert accuracy[0.5] > 0.85
    assert accuracy[3.0] < accuracy[0.5]


def test_cifar10_hcr(tmp_path: Path, data_root: Path) -> None:
    """Training the large net is out of reach here: the same network with random weights."""

    def change(data) -> None:
        data["dataset"] |= {"root": str(data_root / "cifar10"), "limit": 16}
        data["model"] = {"name": "cifar10_cnn", "weights": "random"}
        data["mechanism"]["noise_scale"] = [1, 5]
        data["measures"] = [
            {"name": "accuracy", "draws": 2},
            {
                "name": "hcr",
                "images": 1,
                "restarts": 1,
                "rounds": 1,
                "max_iterations": 20,
                "low_frequency": 8,
            },
        ]

    summary = run(reduced("cifar10_hcr", tmp_path, change), results=tmp_path / "r", local=True, mirror=False)
    assert summary.exit_code == 0, summary.failures
    modes = run_query(tmp_path / "r", "SELECT count(*) AS n FROM modes").to_pylist()
    assert modes == [{"n": 2 * 3072}]


@pytest.fixture(scope="module")
def some_imagenet(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve classes of the sample, greyscale and EXIF-rotated images among them."""
    folder = tmp_path_factory.mktemp("imagenet")
    wanted = {"n02096051", "n02951585", "n01871265", "n04238763"}
    source = data_root / "imagenet-sample" / "val"
    chosen = sorted(wanted) + sorted(p.name for p in source.iterdir() if p.name not in wanted)[:8]
    for name in chosen:
        shutil.copytree(source / name, folder / name)
    return folder


@pytest.mark.parametrize("network", ["torchvision/resnet18", "timm/swin_tiny_patch4_window7_224"])
def test_imagenet_dithering(tmp_path: Path, some_imagenet: Path, network: str) -> None:
    """Hits equal an independent script's; every stored shift reproduces its bound."""

    def change(data) -> None:
        data["dataset"]["root"] = str(some_imagenet)
        data["model"][0]["name"] = network
        data["mechanism"]["noise_scale"] = [0.02, 0.5, 2, 32]
        data["measures"][1] |= {"images": 1, "restarts": 1, "rounds": 1, "max_iterations": 8}

    results = tmp_path / "r"
    summary = run(reduced("imagenet_dithering", tmp_path, change), results=results, local=True, mirror=False)
    assert summary.exit_code == 0, summary.failures
    rows = run_query(
        results, "SELECT DISTINCT statistic, value, caveat FROM measurements WHERE statistic = 'clean_top1'"
    )
    assert rows.to_pylist() == [
        {"statistic": "clean_top1", "value": 1.0, "caveat": "memorised, not validation"}
    ]
    compared, different = compare_hits(results, network, some_imagenet, tmp_path)
    assert (compared, different) == (4 * 12, 0)
    dataset = DatasetConfig(name="imagefolder", root=str(some_imagenet))
    assert (
        check_stored_shifts(results, dataset=dataset, model=network, weights="prototype", input_size=91) == 4
    )


def empty_imagenet(data: Path, per_class: int) -> None:
    """1,000 folders of empty files: a plan needs names, not pixels, and no weights."""
    for label in range(1000):
        folder = data / "imagenet" / "val" / f"n{label:08d}"
        folder.mkdir(parents=True)
        for number in range(per_class):
            os.close(os.open(folder / f"{number}.JPEG", os.O_CREAT | os.O_WRONLY))


@pytest.mark.parametrize(("name", "levels"), [("mnist_bounds", 10), ("cifar10_bounds", 5)])
def test_bounds_plan_exact_jacobians(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, levels: int
) -> None:
    monkeypatch.setenv("HUSHSWEEP_DATA", str(data_root))
    planned = plan(EXAMPLES / f"{name}.yaml", results=tmp_path / "results")
    assert len(planned.points) == levels
    (trial,) = planned.trials
    assert trial.routes
    assert all("exact Jacobian" in route for route in trial.routes)


def test_imagenet_bounds_are_exact_for_one_network_and_estimated_for_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUSHSWEEP_DATA", str(tmp_path))
    empty_imagenet(tmp_path, 5)
    planned = plan(EXAMPLES / "imagenet_bounds.yaml", results=tmp_path / "results")
    routes = {trial.setting.model.name: trial.routes for trial in planned.trials}
    assert "exact Jacobian" in routes["torchvision/resnet18"][0]
    (estimate,) = routes["torchvision/swin_t"]
    assert "cramer_rao is estimated" in estimate
    assert estimate.endswith("not applicable: dfil, jacobian")


def test_imagenet_full_plans_fifty_thousand_images_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUSHSWEEP_DATA", str(tmp_path))
    empty_imagenet(tmp_path, 50)
    started = time.process_time()
    planned = plan(EXAMPLES / "imagenet_full.yaml", results=tmp_path / "results")
    assert time.process_time() - started < 20
    assert [trial.setting.info.size for trial in planned.trials] == [50_000] * 2
    assert (planned.wanted, planned.existing, len(planned.points)) == (2 * 6 * 2, 0, 12)
    assert planned.estimate.image_passes == 100_000
    assert planned.estimate.solves == 2 * 128 * 25 * 10
    assert not (tmp_path / "results").exists(), "planning writes nothing"
