"""Hits against brute force: whatever is shared or pushed through a linear head, the count is the plain one."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests_support import digits_model, digits_set

from hushsweep.workers.features import Activations
from hushsweep.workers.measures.accuracy import Accuracy, count_hits, hits_of
from hushsweep.workers.measures.base import FittedPoint, FittedStage, Subject
from hushsweep.workers.mechanisms import AdditiveNoise
from hushsweep.workers.noise import unit_noise
from hushsweep.workers.testing import check_measure


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    images = digits_set(tmp_path_factory.mktemp("cache"), limit=30)
    activations = Activations(
        model=digits_model(), images=images, logits=True, device=torch.device("cpu"), batch_size=8
    )
    return Subject(
        activations=activations, positions=range(len(images)), rms=lambda: activations.rms(range(1))
    )


def point(*stages: tuple[str, str, float], seed: int = 0) -> FittedPoint:
    fitted = tuple(
        FittedStage(f"{at}/{place}", at, AdditiveNoise(law, std))
        for place, (at, law, std) in enumerate(stages)
    )
    return FittedPoint(point_id=str((stages, seed)), seed=seed, stages=fitted)


POINTS = [
    point(),
    point(("cut", "gaussian", 0.5)),
    point(("cut", "gaussian", 2.0)),
    point(("cut", "gaussian", 2.0), seed=1),
    point(("cut", "laplace", 2.0)),
    point(("input", "gaussian", 0.5)),
    point(("input", "gaussian", 0.5), ("cut", "laplace", 1.0)),
]


def by_hand(subject: Subject, points: list[FittedPoint], draws: int) -> np.ndarray:
    """One image, one draw, one point at a time, nothing shared."""
    images, model = subject.activations.images, subject.model
    hits = np.zeros((len(points), len(images)), dtype=int)
    for row, p in enumerate(points):
        for i in range(len(images)):
            for draw in range(draws):
                values = model.normalise(torch.from_numpy(np.array(images.images[i : i + 1])))
                for where in ("input", "cut"):
                    for stage in (s for s in p.stages if s.at == where):
                        noise = unit_noise(
                            stage.mechanism.law,
                            values.shape[1:],
                            seed=p.seed,
                            purpose=stage.purpose,
                            image_indices=[int(images.indices[i])],
                            draw=draw,
                        )
                        values = values + stage.mechanism.noise_std * noise
                    values = model.features(values) if where == "input" else model.head(values)
                hits[row, i] += int(values.argmax()) == int(images.labels[i])
    return hits


@pytest.mark.parametrize("logits", [True, False])
def test_hits_are_those_of_a_plain_loop(subject: Subject, logits: bool) -> None:
    assert subject.model.head_is_linear
    subject = replace(subject, activations=replace(subject.activations, logits=logits))
    found = count_hits(subject, POINTS, draws=3)
    assert np.array_equal(found.top1, by_hand(subject, POINTS, 3))
    assert np.array_equal(found.top1[0], 3 * found.clean_top1)
    assert 0 < found.top1[1:].mean() < 3, "the noise decides something"


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batches_and_shards_change_nothing(subject: Subject, batch_size: int) -> None:
    whole = count_hits(subject, POINTS, draws=2)
    cut = replace(subject, activations=replace(subject.activations, batch_size=batch_size))
    parts = [count_hits(replace(cut, positions=part), POINTS, draws=2) for part in (range(11), range(11, 30))]
    assert np.array_equal(np.concatenate([part.top1 for part in parts], axis=1), whole.top1)
    assert np.array_equal(np.concatenate([part.top5 for part in parts], axis=1), whole.top5)


@given(st.integers(0, 2**32 - 1))
def test_rank_is_that_of_a_stable_sort(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.integers(0, 6, size=(2, 4, 9)).astype(np.float32)  # many ties
    labels = rng.integers(0, 9, size=4)
    order = np.argsort(-logits, axis=-1, kind="stable")
    rank = np.argmax(order == labels[None, :, None], axis=-1)
    found = hits_of(torch.from_numpy(logits), torch.from_numpy(labels))
    assert np.array_equal(found, np.stack([rank < 1, rank < 5]).astype(int))


def test_a_logit_that_is_no_number_is_a_miss() -> None:
    logits = torch.tensor([[float("nan"), 0.0], [float("inf"), 0.0]])
    assert hits_of(logits, torch.tensor([0, 0])).sum() == 0


def test_summary_is_the_mean_over_images_with_its_spread() -> None:
    rows = pa.table(
        {
            "image": ["a", "b", "c", "broken"],
            "draws": [4, 4, 4, None],
            "clean_top1": [1, 1, 0, None],
            "clean_top5": [1, 1, 1, None],
            "hits_top1": [4, 1, 0, None],
            "hits_top5": [4, 4, 2, None],
            "status": ["complete"] * 3 + ["failed"],
            "reason": [None] * 3 + ["truncated"],
        }
    )
    found = {statistic.name: statistic for statistic in Accuracy(draws=4).summarise(rows)}
    assert found["top1"].value == pytest.approx(5 / 12)
    assert found["top1"].stderr == pytest.approx(np.std([1, 0.25, 0], ddof=1) / np.sqrt(3))
    assert (found["clean_top1"].value, found["clean_top1"].n) == (pytest.approx(2 / 3), 3)
    assert (found["undecodable"].value, found["undecodable"].n) == (1, 4)
    assert found["undecodable"].reason == "broken: truncated"


def test_no_image_is_an_error_not_a_number() -> None:
    empty = pa.table(
        {
            name: pa.array([], pa.int32())
            for name in ("draws", "clean_top1", "clean_top5", "hits_top1", "hits_top5")
        }
        | {name: pa.array([], pa.string()) for name in ("image", "status", "reason")}
    )
    with pytest.raises(ValueError, match="no decodable image"):
        Accuracy().summarise(empty)


def test_contract() -> None:
    check_measure(Accuracy(draws=3))
