"""LPIPS as torchmetrics computes it, from weights where torchvision keeps them (here random ones: none are at hand)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from torchmetrics.functional.image.lpips import learned_perceptual_image_patch_similarity
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

from hushsweep.dashboards import run_query
from hushsweep.sweeps import SpecError, run
from hushsweep.workers.attacks.reconstruction.perceptual import (
    LEAST,
    perceptual_distance,
    perceptual_network,
    perceptual_weights,
)
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.measures import Reconstruction
from hushsweep.workers.models import files, from_torchvision
from hushsweep.workers.models.architectures import hub_checkpoint

BUILD = {
    "alex": torchvision.models.alexnet,
    "vgg": torchvision.models.vgg16,
    "squeeze": torchvision.models.squeezenet1_1,
}


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of torch.hub's, where a file may have any digest."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        from_torchvision, "hub_checkpoint", lambda *named: replace(hub_checkpoint(*named), sha256="")
    )
    monkeypatch.setattr(files, "HF_HUB_OFFLINE", True)
    perceptual_network.cache_clear()
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.fixture
def at_hand(checkpoints: Path) -> Callable[[str], None]:
    def save(network: str) -> None:
        torch.manual_seed(3)
        torch.save(BUILD[network]().state_dict(), perceptual_weights(network).path)  # type: ignore[arg-type]

    return save


def images(side: int, channels: int = 3, n: int = 5) -> torch.Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(side))


@pytest.mark.parametrize("network", ["alex", "squeeze"])
def test_it_is_that_of_torchmetrics_image_by_image(at_hand: Callable[[str], None], network: str) -> None:
    at_hand(network)
    truth = images(40)
    found = (truth + 0.2 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    own = perceptual_distance(network, found.double(), truth.double())  # type: ignore[arg-type]
    expected = learned_perceptual_image_patch_similarity(
        found, truth, network, reduction="none", normalize=True
    )
    assert own is not None
    assert own.shape == (5,)
    assert own.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert (own > 0).all()
    same = perceptual_distance(network, truth, truth)  # type: ignore[arg-type]
    assert same is not None
    assert same.tolist() == [0.0] * 5


def test_grey_images_are_looked_at_in_three_equal_channels(at_hand: Callable[[str], None]) -> None:
    at_hand("squeeze")
    truth, found = images(32, channels=1), images(33, channels=1)[..., :32, :32]
    grey = perceptual_distance("squeeze", found, truth)
    colour = perceptual_distance("squeeze", found.repeat(1, 3, 1, 1), truth.repeat(1, 3, 1, 1))
    assert grey is not None
    assert colour is not None
    assert torch.equal(grey, colour)


@pytest.mark.parametrize("network", BUILD)
def test_the_smallest_side_is_that_of_the_network(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "torchmetrics.functional.image.lpips._get_tv_model_features"
    build = {build.__name__: build for build in BUILD.values()}
    monkeypatch.setattr(module, lambda name, pretrained: build[name]().features)
    net = LearnedPerceptualImagePatchSimilarity(net_type=network).net
    least = LEAST[network]
    assert net(images(least), images(least)).isfinite().all()
    with pytest.raises(RuntimeError):
        net(images(least - 1), images(least - 1))
    assert perceptual_distance(network, images(least - 1), images(least - 1)) is None  # type: ignore[arg-type]


def test_without_weights_it_says_which_file_goes_where(checkpoints: Path) -> None:
    with pytest.raises(
        PlugInError, match=r"alexnet-owt-\w+\.pth elsewhere and put it at .*, or leave lpips out"
    ):
        perceptual_distance("alex", images(40), images(40))


SWEEP = """
name: perceptual
dataset: {{name: digits, input_size: {side}, limit: 20}}
model: {{name: torchvision/squeezenet1_1, weights: random, network_size: 64}}
mechanism: {{name: none}}
measures:
  - {{name: reconstruction, attack: blind, images: 6, lpips: squeeze}}
  - {{name: reconstruction, attack: blind, images: 6}}
"""


def lpips_of(results: Path) -> list[tuple[float | None, int, str | None]]:
    sql = "SELECT value, n, reason FROM measurements WHERE statistic = 'lpips'"
    return [(row["value"], row["n"], row["reason"]) for row in run_query(results, sql).to_pylist()]


def test_a_sweep_that_asks_for_it_has_it(at_hand: Callable[[str], None], tmp_path: Path) -> None:
    at_hand("squeeze")
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(side=32))
    assert run(tmp_path / "sweep.yaml", results=tmp_path / "results", local=True, mirror=False).exit_code == 0
    ((value, n, reason),) = lpips_of(tmp_path / "results")
    assert (n, reason) == (6, None)
    sql = "SELECT lpips FROM per_image_reconstruction ORDER BY lpips NULLS LAST"
    rows = run_query(tmp_path / "results", sql).column(0).to_pylist()
    assert value == pytest.approx(sum(rows[:6]) / 6)
    assert rows[0] > 0
    assert rows[6:] == [None] * 6
    view = run_query(tmp_path / "results", "SELECT lpips FROM reconstructions ORDER BY lpips NULLS LAST")
    assert view.column(0).to_pylist() == [value, None]


def test_images_that_are_too_small_have_none(at_hand: Callable[[str], None], tmp_path: Path) -> None:
    at_hand("squeeze")
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(side=16))
    assert run(tmp_path / "sweep.yaml", results=tmp_path / "results", local=True, mirror=False).exit_code == 0
    least = "squeeze looks at images of 1 or 3 channels with at least 17 pixels a side"
    assert lpips_of(tmp_path / "results") == [(None, 6, least)]


def test_a_sweep_without_the_weights_does_not_start(checkpoints: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(side=32))
    said = r"sweep\.yaml:7: measures\[0\]: weights .* are not at .*squeezenet1_1.*, or leave lpips out"
    with pytest.raises(SpecError, match=said):
        run(tmp_path / "sweep.yaml", results=tmp_path / "results", local=True, mirror=False)
    assert not (tmp_path / "results" / "measurements").exists()


def test_a_network_that_there_is_not_is_refused() -> None:
    with pytest.raises(
        ValueError, match="lpips: expected alex, vgg, squeeze, or null for none, got 'resnet'"
    ):
        Reconstruction(attack="blind", lpips="resnet")  # type: ignore[arg-type]
