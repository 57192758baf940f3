"""Clean activations: one RMS whatever the batch, shard or cache; blocks computed once; nothing read back wrong."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests_support import digits_model, digits_set, fill_features

from hushsweep.workers import features
from hushsweep.workers.features import Activations, shard_range


@pytest.fixture
def activations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Activations:
    monkeypatch.setattr(features, "BLOCK", 16)
    return Activations(
        model=digits_model(),
        images=digits_set(tmp_path, limit=70),
        logits=False,
        device=torch.device("cpu"),
        batch_size=8,
        folder=tmp_path / "features",
        cache_bytes=1e9,
    )


def all_of(activations: Activations, positions: range) -> np.ndarray:
    return np.concatenate([batch.activations.numpy() for batch in activations.batches(positions)])


def direct(activations: Activations) -> np.ndarray:
    inputs = activations.inputs(range(len(activations.images)))
    return activations.model.features(inputs).numpy()


def test_rms_is_the_plain_one(activations: Activations) -> None:
    expected = np.sqrt(np.mean(direct(activations).astype(np.float64) ** 2))
    for batch_size, first in ((8, range(70)), (3, range(20, 30)), (64, range(0))):
        for folder in (None, activations.folder / str(batch_size)):
            found = replace(activations, batch_size=batch_size, folder=folder).rms(first)
            assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("cache_bytes", [1e9, 0])
@pytest.mark.parametrize("positions", [range(70), range(5, 50), range(0), range(69, 70)])
def test_batches_are_the_activations(activations: Activations, cache_bytes: float, positions: range) -> None:
    cut = replace(activations, cache_bytes=cache_bytes)
    assert [p for batch in cut.batches(positions) for p in batch.positions] == list(positions)
    if positions:
        np.testing.assert_allclose(
            all_of(cut, positions), direct(cut)[positions.start : positions.stop], rtol=1e-5, atol=1e-6
        )


def test_each_image_goes_through_the_network_once(activations: Activations) -> None:
    seen: list[int] = []
    counted = replace(activations, progress=seen.append)
    counted.rms(range(70))
    for _ in range(3):
        all_of(counted, range(70))
    assert sum(seen) == 70


def test_what_does_not_fit_is_computed_again_and_not_kept(activations: Activations) -> None:
    seen: list[int] = []
    tight = replace(activations, cache_bytes=100, progress=seen.append)
    tight.rms(range(70))
    all_of(tight, range(70))
    assert sum(seen) == 140
    assert not list(tight.folder.glob("*.f32"))


def test_a_deleted_cache_is_made_again(activations: Activations) -> None:
    before = all_of(activations, range(70))
    for file in activations.folder.glob("*.f32"):
        file.unlink()
    assert np.array_equal(all_of(activations, range(70)), before)


def test_nodes_share_the_sums_and_keep_activations_to_themselves(
    activations: Activations, tmp_path: Path
) -> None:
    seen: list[int] = []
    one, other = (
        replace(activations, values_folder=tmp_path / node, progress=seen.append) for node in ("one", "other")
    )
    assert one.rms(range(35)) == other.rms(range(35, 70))
    assert sum(seen) == 70, "the second node computes nothing for the RMS"
    np.testing.assert_array_equal(all_of(other, range(50, 70)), all_of(activations, range(50, 70)))
    assert [file.name for file in sorted((tmp_path / "other").iterdir())] == [
        "000000048.f32",
        "000000064.f32",
    ]
    assert sum(seen) == 70 + 16 + 6


def test_activations_that_are_no_numbers_are_named(activations: Activations) -> None:
    class Broken:
        feature_shape = activations.model.feature_shape
        normalise = staticmethod(activations.model.normalise)

        @staticmethod
        def features(x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), *Broken.feature_shape), float("nan"))

    with pytest.raises(ValueError, match=f"image {activations.images.names[0]!r} at the cut are not finite"):
        replace(activations, model=Broken()).rms(range(70))


def test_two_processes_share_the_work_and_the_number(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [
        context.Process(target=fill_features, args=(tmp_path, first, results))
        for first in (range(35), range(35, 70))
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert found[0][0] == found[1][0], "every shard has the same RMS to the last bit"
    assert found[0][1] + found[1][1] == 70, "no block is computed twice"


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 100])
def test_shards_cover_every_image_once(shards: int) -> None:
    parts = [shard_range(70, shard, shards) for shard in range(shards)]
    assert [p for part in parts for p in part] == list(range(70))
