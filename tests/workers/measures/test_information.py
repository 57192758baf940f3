"""Rows of the measure information: the same from any shards, and a mechanism with a mask of its own."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests_support import digits_model, digits_set
from torch import Tensor

from hushsweep.datasets.results.rows import to_table
from hushsweep.workers.features import Activations
from hushsweep.workers.information import ite_knn, upper_diagonal, upper_full
from hushsweep.workers.measures.base import FittedPoint, FittedStage, Subject
from hushsweep.workers.measures.information import BIASED, Information, evenly
from hushsweep.workers.mechanisms import AdditiveNoise, Unchanged
from hushsweep.workers.noise import stream_generator, unit_noise
from hushsweep.workers.testing import check_measure

IMAGES = 60


@dataclass(frozen=True)
class Masked:
    """x' = w(x) x + (1 - w(x)) v with w between ``low`` and ``low + 0.3``; one column carries no noise at all."""

    low: float = 0.3
    open_border: bool = False

    def w(self, x: Tensor) -> Tensor:
        return self.low + 0.3 * torch.sigmoid(x)

    def apply(self, activations: Tensor, noise: Callable[[str], Tensor]) -> Tensor:
        w = self.w(activations)
        return w * activations + (1 - w) * noise("gaussian").to(activations.dtype)

    def moments(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        w = self.w(activations)
        mean, std = w * activations, 1 - w
        std[..., 3 if self.open_border else 0] = 0
        if not self.open_border:
            mean[..., 0] = 7.0
        return mean.flatten(1), std.flatten(1)


@dataclass(frozen=True)
class Encoder:
    """Learned without noise."""

    def apply(self, activations: Tensor, noise: Callable[[str], Tensor]) -> Tensor:
        return activations.tanh()


def subject_of(folder: Path, *, logits: bool = True, batch_size: int = 16) -> Subject:
    loaded = digits_set(folder, limit=IMAGES)
    activations = Activations(
        model=digits_model(),
        images=loaded,
        logits=logits,
        device=torch.device("cpu"),
        batch_size=batch_size,
    )
    return Subject(activations=activations, positions=range(IMAGES), rms=lambda: activations.rms(range(1)))


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject_of(tmp_path_factory.mktemp("cache"))


def point(at: str, mechanism: Any, *, seed: int = 0, step: int = 1) -> FittedPoint:
    stage = FittedStage(f"{at}/0", at, mechanism)
    name = f"{at} {mechanism} {seed} {step}"
    return FittedPoint(point_id=name, seed=seed, stages=(stage,), leaves=at, step=step)


LOUD, QUIET = point("input", AdditiveNoise("gaussian", 3.0)), point("cut", AdditiveNoise("gaussian", 0.2))
LAPLACE, MASKED = point("cut", AdditiveNoise("laplace", 0.5)), point("input", Masked())
ALTERNATE = point("input", AdditiveNoise("gaussian", 3.0), step=2)
POINTS = [LOUD, QUIET, LAPLACE, MASKED, ALTERNATE]


def measured(measure: Information, subject: Subject, points: list[FittedPoint]) -> pa.Table:
    return pa.concat_tables(list(measure.measure(subject, points).per_image))


def statistics(measure: Information, rows: pa.Table, of: FittedPoint) -> dict[str, Any]:
    own = rows.filter(pa.compute.equal(rows["point_id"], of.point_id))
    return {found.name: found for found in measure.summarise(own)}


@pytest.fixture(scope="module")
def rows(subject: Subject) -> pa.Table:
    return measured(Information(), subject, POINTS)


def test_it_keeps_its_contract() -> None:
    check_measure(Information())
    check_measure(Information(images=20, knn=False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 7}, "images: expected a number >= 8, got 7"),
        ({"knn_images": 1}, "knn_images: expected a number >= 8, got 1"),
        ({"memory_gb": 0.0}, "memory_gb: expected a finite number > 0, got 0.0"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Information(**options)


def test_only_noise_has_something_to_measure() -> None:
    measure = Information()
    for nothing in (point("cut", Unchanged()), point("cut", AdditiveNoise("gaussian", 0.0))):
        assert "nothing hides the image" in str(measure.inapplicable(nothing))
    assert "nothing hides the image" in str(measure.inapplicable(replace(LOUD, stages=())))
    assert measure.inapplicable(LAPLACE) is None, "its samples still have the published estimate"
    assert "not known to be Gaussian" in str(Information(knn=False).inapplicable(LAPLACE))
    chain = replace(QUIET, stages=LOUD.stages + QUIET.stages)
    assert "before the last" in str(Information(knn=False).inapplicable(chain))
    idle = FittedStage("input/0", "input", AdditiveNoise("laplace", 0.0))
    assert Information(knn=False).inapplicable(replace(QUIET, stages=(idle, *QUIET.stages))) is None


def test_the_bounds_are_those_of_the_channel_from_where_the_mechanism_acts(
    subject: Subject, rows: pa.Table
) -> None:
    pixels = subject.activations.inputs(range(IMAGES))
    features = subject.model.features(pixels).double().flatten(1).detach()
    for of, mean, std in (
        (LOUD, pixels.double().flatten(1), 3.0),
        (QUIET, features, 0.2),
    ):
        found = statistics(Information(), rows, of)
        deviation = torch.full_like(mean, std)
        for name, bound in (("mi_upper_diagonal", upper_diagonal), ("mi_upper_full", upper_full)):
            assert found[name].value == pytest.approx(bound(mean, deviation) / math.log(2), rel=1e-9)
            assert found[name].unit == "bits"
        assert found["mi_upper_full"].value <= found["mi_upper_diagonal"].value
        assert "the covariance is not known well enough" in found["mi_upper_full"].reason
        assert found["mi_lower_cap"].value == pytest.approx(math.log2(IMAGES))
        assert 0 < found["mi_lower_infonce"].value <= math.log2(IMAGES)
        assert found["mi_lower_infonce"].value < found["mi_upper_held_out"].value
        assert found["mi_lower_infonce"].value < found["mi_upper_leave_one_out"].value
        assert all(found[name].holds_for for name in found if name.startswith("mi_upper"))
        assert found["mi_knn"].holds_for is None
    assert "at its cap" in statistics(Information(), rows, QUIET)["mi_lower_infonce"].reason
    assert statistics(Information(), rows, LOUD)["mi_lower_infonce"].reason is None


def test_a_mask_of_its_own_and_entries_that_say_nothing(subject: Subject, rows: pa.Table) -> None:
    x = subject.activations.inputs(range(IMAGES)).double()[..., 1:]  # the first column left
    w = 0.3 + 0.3 * torch.sigmoid(x)
    expected = upper_diagonal((w * x).flatten(1), (1 - w).flatten(1)) / math.log(2)
    found = statistics(Information(), rows, MASKED)
    assert found["mi_upper_diagonal"].value == pytest.approx(expected, rel=1e-9)
    assert found["mi_lower_infonce"].value > 0
    infinite = point("input", Masked(open_border=True))
    found = statistics(Information(), measured(Information(), subject, [infinite]), infinite)
    for name in ("mi_upper_diagonal", "mi_upper_full", "mi_upper_held_out", "mi_lower_infonce"):
        assert (found[name].value, found[name].holds_for) == (None, None)
        assert "infinite: " in found[name].reason
    assert found["mi_knn"].value is not None


def test_the_published_numbers_are_tagged_and_stand_beside_their_control(rows: pa.Table) -> None:
    for of in POINTS:
        found = statistics(Information(), rows, of)
        ratio = found["mi_knn"].value / found["entropy_published"].value
        assert found["mi_published"].value == pytest.approx(ratio, rel=1e-12)
        assert found["mi_published"].unit == "fraction"
        for name in ("mi_knn", "mi_published", "entropy_published"):
            assert found[name].reason.startswith(BIASED)
        assert "0 is right" in found["mi_knn_shuffled"].reason
    laplace = statistics(Information(), rows, LAPLACE)
    assert laplace["mi_upper_full"].value is None
    assert "not known to be Gaussian" in laplace["mi_upper_full"].reason


def test_the_published_estimate_is_of_what_really_leaves(subject: Subject) -> None:
    """A chain, and the same by hand: pixels, noise, network, noise; against the clean features."""
    stages = (LOUD.stages[0], FittedStage("cut/1", "cut", AdditiveNoise("gaussian", 0.4)))
    chain = FittedPoint(point_id="chain", seed=3, stages=stages)
    found = statistics(Information(), measured(Information(), subject, [chain]), chain)
    indices = subject.image_indices(range(IMAGES))
    pixels = subject.activations.inputs(range(IMAGES))

    def noise(values: Tensor, purpose: str) -> Tensor:
        shape = values.shape[1:]
        return unit_noise("gaussian", shape, seed=3, purpose=purpose, image_indices=indices, draw=0)

    with torch.inference_mode():
        clean = subject.model.features(pixels)
        features = subject.model.features(pixels + 3 * noise(pixels, "input/0"))
        left = features + 0.4 * noise(features, "cut/1")
    rng = stream_generator(seed=3, purpose="information/halves")
    order = stream_generator(seed=3, purpose="information/order").permutation(IMAGES)
    pairs = (values.flatten(1).numpy()[order] for values in (clean, left))
    expected = ite_knn(*pairs, rng) / math.log(2)
    assert found["mi_knn"].value == pytest.approx(expected, rel=1e-6)
    assert "before the last" in found["mi_upper_full"].reason


def test_an_encoder_without_noise_has_no_estimate(subject: Subject) -> None:
    silent = point("cut", Encoder())
    found = statistics(Information(), measured(Information(), subject, [silent]), silent)
    assert found["mi_knn"].value is None
    assert "no noise is drawn" in found["mi_knn"].reason


@pytest.mark.parametrize("shards", [2, 7])
def test_any_shards_and_batches_give_the_same_numbers(
    tmp_path: Path, subject: Subject, rows: pa.Table, shards: int
) -> None:
    other = subject_of(tmp_path, batch_size=shards + 2)
    cuts = [IMAGES * shard // shards for shard in range(shards + 1)]
    parts = [
        measured(Information(), replace(other, positions=range(a, b)), POINTS) for a, b in pairwise(cuts)
    ]
    together = pa.concat_tables(parts)
    assert together.num_rows == rows.num_rows
    for of in POINTS:
        whole, cut = statistics(Information(), rows, of), statistics(Information(), together, of)
        assert whole.keys() == cut.keys()
        for name, expected in whole.items():
            if expected.value is None:
                assert cut[name] == expected
            else:
                assert cut[name].value == pytest.approx(expected.value, rel=1e-5), name
                assert cut[name].n == expected.n


def test_rows_fit_the_store_and_name_their_images(subject: Subject, rows: pa.Table) -> None:
    ids = {"measure_id": "m", "computed_by": "t"}
    for name, value in ids.items():
        rows = rows.append_column(name, pa.repeat(value, len(rows)))
    to_table("per_image/information", rows)
    terms = [row for row in rows.to_pylist() if row["image_index"] is not None]
    images = subject.activations.images
    assert {row["image_index"] for row in terms} == set(images.indices.tolist())
    assert {row["estimate"] for row in terms} == {
        "mi_lower_infonce",
        "mi_upper_held_out",
        "mi_upper_leave_one_out",
    }
    alternate = [row["image_index"] for row in terms if row["point_id"] == ALTERNATE.point_id]
    assert set(alternate) == set(images.indices[1::2].tolist()), "only reported images"


def test_fewer_images_are_evenly_spaced(subject: Subject) -> None:
    few = Information(images=12, knn=False)
    found = statistics(few, measured(few, subject, [LOUD]), LOUD)
    assert {statistic.n for statistic in found.values()} == {12}
    assert found["mi_lower_cap"].value == pytest.approx(math.log2(12))
    assert "mi_knn" not in found
    assert evenly(range(10), 4) == [0, 3, 5, 8]
    assert evenly(range(3), 8) == [0, 1, 2]


def test_the_seed_moves_the_noise_and_nothing_else(subject: Subject, rows: pa.Table) -> None:
    other = replace(LOUD, seed=1)
    found = statistics(Information(), measured(Information(), subject, [other]), other)
    before = statistics(Information(), rows, LOUD)
    for name in ("mi_upper_diagonal", "mi_upper_full", "mi_upper_held_out"):
        assert found[name].value == before[name].value
    for name in ("mi_lower_infonce", "mi_knn", "mi_knn_shuffled"):
        assert found[name].value != before[name].value


def test_nothing_left_is_no_information(subject: Subject) -> None:
    class Suppressed(Masked):
        def moments(self, activations: Tensor) -> tuple[Tensor, Tensor]:
            return activations.flatten(1)[:, :0], activations.flatten(1)[:, :0]

    nothing = point("input", Suppressed())
    found = statistics(Information(), measured(Information(), subject, [nothing]), nothing)
    for name in ("mi_upper_diagonal", "mi_upper_full", "mi_upper_held_out", "mi_lower_infonce"):
        assert found[name].value == pytest.approx(0, abs=1e-12), name


def test_what_does_not_fit_is_said(subject: Subject) -> None:
    small = Information(memory_gb=1e-6)
    found = statistics(small, measured(small, subject, [LOUD]), LOUD)
    assert found["mi_knn"].value is None
    assert "60 images of 64 entries take 0.0 GiB, above memory_gb 1e-06" in found["mi_upper_full"].reason


def test_too_few_images_are_a_reason_not_a_number(tmp_path: Path, subject: Subject) -> None:
    few = replace(subject.activations, images=digits_set(tmp_path, limit=5))
    small = replace(subject, activations=few, positions=range(5))
    found = statistics(Information(), measured(Information(), small, [LOUD]), LOUD)
    assert found["mi_upper_diagonal"].value is None
    assert "it needs 8 images, there are 5" in found["mi_upper_diagonal"].reason
    assert "no neighbour number 3" in found["mi_knn"].reason


def test_gaussian_noise_alone_has_moments() -> None:
    assert not hasattr(AdditiveNoise("laplace", 1.0), "moments")
    a = torch.arange(12.0).reshape(2, 2, 3)
    mean, std = AdditiveNoise("gaussian", 0.7).moments(a)
    assert torch.equal(mean, a.flatten(1))
    assert np.allclose(std, 0.7)
