"""Rows of the HCR measure against the stored shifts, and what shards, levels and seeds share."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from scipy.fft import dctn
from tests_support import digits_model, digits_set

from hushsweep.workers.features import Activations
from hushsweep.workers.measures.base import FittedPoint, FittedStage, MeasureRows, Subject
from hushsweep.workers.measures.hcr import Hcr
from hushsweep.workers.mechanisms import AdditiveNoise
from hushsweep.workers.testing import check_measure

IMAGES = 9
OPTIONS = Hcr(restarts=3, rounds=2, low_frequency=3)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    images = digits_set(tmp_path_factory.mktemp("cache"), limit=IMAGES)
    activations = Activations(
        model=digits_model(), images=images, logits=True, device=torch.device("cpu"), batch_size=4
    )
    rms = activations.rms(range(1))
    return Subject(activations=activations, positions=range(IMAGES), rms=lambda: rms)


def point(law: str, std: float, seed: int = 0, *, at: str = "cut", step: int = 1) -> FittedPoint:
    stage = FittedStage(f"{at}/0", at, AdditiveNoise(law, std))
    return FittedPoint(point_id=f"{law} {std} {seed} {step}", seed=seed, stages=(stage,), step=step)


POINTS = [
    point("gaussian", 0.2),
    point("gaussian", 3.0),
    point("laplace", 0.2),
    point("gaussian", 0.2, seed=1),
]


@pytest.fixture(scope="module")
def rows(subject: Subject) -> MeasureRows:
    return OPTIONS.measure(subject, POINTS)


def per_image(rows: MeasureRows, of: FittedPoint | None = None) -> list[dict[str, Any]]:
    found = pa.concat_tables(rows.per_image).to_pylist()
    return [row for row in found if of is None or row["point_id"] == of.point_id]


def shifts_of(rows: MeasureRows, image_index: int, seed: int = 0) -> list[dict[str, Any]]:
    assert rows.shifts is not None
    found = [r for r in rows.shifts.to_pylist() if (r["image_index"], r["seed"]) == (image_index, seed)]
    return sorted(found, key=lambda r: r["restart"])


def test_it_keeps_its_contract() -> None:
    check_measure(OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "images: expected a number >= 1, got 0"),
        ({"restarts": 0}, "restarts: expected a number >= 1, got 0"),
        ({"rounds": -1}, "rounds: expected a number >= 1, got -1"),
        ({"step": 0.0}, "step: expected a finite number > 0, got 0.0"),
        ({"step": float("nan")}, "step: expected a finite number > 0, got nan"),
        ({"lsqr_tolerance": float("inf")}, "lsqr_tolerance: expected a finite number > 0, got inf"),
        ({"max_iterations": 0}, "max_iterations: expected a number >= 1, got 0"),
        ({"low_frequency": 0}, "low_frequency: expected a number >= 1, got 0"),
        ({"precision": "bfloat16"}, "precision: expected float64 or float32, got 'bfloat16'"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Hcr(**options)


def test_the_defaults_are_the_papers() -> None:
    assert (Hcr().restarts, Hcr().rounds, Hcr().step, Hcr().lsqr_tolerance) == (25, 10, 1 / 200, 0.02)


def test_a_bound_needs_one_noise_of_known_density_at_the_cut() -> None:
    chain = replace(POINTS[0], stages=POINTS[0].stages * 2)
    for inapplicable in (replace(POINTS[0], stages=()), chain, point("gaussian", 1.0, at="input")):
        assert "not a single additive noise at the cut" in str(OPTIONS.inapplicable(inapplicable))
    assert "without noise" in str(OPTIONS.inapplicable(point("gaussian", 0.0)))
    assert [OPTIONS.inapplicable(p) for p in POINTS] == [None] * 4


def test_every_row_follows_from_the_stored_shifts_alone(subject: Subject, rows: MeasureRows) -> None:
    images, model = subject.activations.images, subject.model
    exact = model.double()
    found = per_image(rows)
    assert len(found) == len(POINTS) * IMAGES
    for row in found:
        p = next(p for p in POINTS if p.point_id == row["point_id"])
        sigma = p.cut_noise.noise_std  # type: ignore[union-attr]
        position = int(np.flatnonzero(images.indices == row["image_index"])[0])
        assert (row["image"], row["label"]) == (images.names[position], images.labels[position])
        x = model.normalise(torch.from_numpy(np.array(images.images[position]))[None]).double()
        bounds = []
        for restart, stored in enumerate(shifts_of(rows, row["image_index"], p.seed)):
            e = np.array(stored["input_shift"], np.float32).astype(np.float64).reshape(x.shape)
            e *= sigma / stored["reference_noise_std"]
            z = (exact.features(x + torch.from_numpy(e)) - exact.features(x)).flatten().numpy()
            if p.cut_noise.law == "gaussian":  # type: ignore[union-attr]
                chi_square = np.expm1(z @ z / sigma**2)
            else:
                d = np.abs(z) * np.sqrt(2) / sigma
                chi_square = np.prod(2 / 3 * np.exp(d) + 1 / 3 * np.exp(-2 * d)) - 1
            assert row["chi_square"][restart] == pytest.approx(chi_square, rel=1e-6)
            assert row["shift_norm"][restart] == pytest.approx(np.linalg.norm(e), rel=1e-9)
            assert row["feature_shift_norm"][restart] == pytest.approx(np.linalg.norm(z), rel=1e-9)
            bounds.append(np.abs(dctn(e[0], axes=(1, 2), norm="ortho")) / np.sqrt(row["chi_square"][restart]))
        modes = np.max(bounds, axis=0)
        assert len(bounds) == OPTIONS.restarts
        for name, expected in {
            "std_bound_mean": modes.mean(),
            "std_bound_median": np.median(modes),
            "std_bound_max": modes.max(),
            "std_bound_low_mean": modes[:, :3, :3].mean(),
            "mse_bound": (modes**2).mean(),
        }.items():
            assert row[name] == pytest.approx(expected, rel=1e-9), name


def test_the_noise_levels_share_a_search_and_seeds_do_not(rows: MeasureRows) -> None:
    assert rows.shifts is not None
    assert rows.shifts.num_rows == 2 * IMAGES * OPTIONS.restarts
    first, second = (np.array([r["input_shift"] for r in shifts_of(rows, 0, seed)]) for seed in (0, 1))
    assert not np.allclose(first, second, rtol=0.1)
    low, high = (np.mean([r["std_bound_mean"] for r in per_image(rows, p)]) for p in POINTS[:2])
    assert high > low


def test_modes_are_means_over_images(rows: MeasureRows) -> None:
    assert rows.modes is not None
    for p in POINTS:
        of_point = [r for r in rows.modes.to_pylist() if r["point_id"] == p.point_id]
        assert {(r["channel"], r["row"], r["column"]) for r in of_point} == {
            (0, i, j) for i in range(8) for j in range(8)
        }
        assert {(r["bound"], r["basis"], r["n"]) for r in of_point} == {("hcr", "dct", IMAGES)}
        images = per_image(rows, p)
        mean, low = (
            np.mean([r["std_bound"] for r in of_point]),
            [r["std_bound"] for r in of_point if max(r["row"], r["column"]) < 3],
        )
        assert mean == pytest.approx(np.mean([r["std_bound_mean"] for r in images]), rel=1e-9)
        assert np.mean(low) == pytest.approx(np.mean([r["std_bound_low_mean"] for r in images]), rel=1e-9)


def test_shards_and_points_measured_apart_give_the_same_rows(subject: Subject, rows: MeasureRows) -> None:
    whole = {(r["point_id"], r["image_index"]): r for r in per_image(rows)}
    for shard in (range(4), range(4, IMAGES)):
        alone = replace(subject, positions=shard)
        for p in POINTS[1:3]:
            for row in per_image(OPTIONS.measure(alone, [p])):
                expected = whole[row["point_id"], row["image_index"]]
                for name, value in row.items():
                    numbers = isinstance(value, float | list)
                    assert value == (
                        pytest.approx(expected[name], rel=1e-6) if numbers else expected[name]
                    ), name


def test_float32_solves_give_the_same_bounds_up_to_their_rounding(
    subject: Subject, rows: MeasureRows
) -> None:
    single = replace(OPTIONS, precision="float32").measure(subject, POINTS[:1])
    for row, expected in zip(per_image(single), per_image(rows, POINTS[0]), strict=True):
        assert row["std_bound_mean"] == pytest.approx(expected["std_bound_mean"], rel=2e-3)


@pytest.mark.parametrize(
    ("images", "step", "shard", "expected"),
    [
        (None, 1, range(IMAGES), range(IMAGES)),
        (4, 1, range(IMAGES), range(4)),
        (4, 1, range(3, IMAGES), range(3, 4)),
        (4, 1, range(5, IMAGES), range(0)),
        (None, 2, range(IMAGES), range(1, IMAGES, 2)),
        (2, 2, range(IMAGES), range(1, 4, 2)),
    ],
)
def test_only_the_first_reported_images_are_bounded(
    subject: Subject, images: int | None, step: int, shard: range, expected: Sequence[int]
) -> None:
    options = Hcr(images=images, restarts=1, rounds=1)
    found = options.measure(replace(subject, positions=shard), [point("gaussian", 1.0, step=step)])
    indices = subject.activations.images.indices
    assert [row["image_index"] for row in per_image(found)] == [indices[position] for position in expected]


def test_summaries_are_over_the_images(rows: MeasureRows) -> None:
    table = pa.concat_tables(rows.per_image)
    table = table.filter(pc.equal(table["point_id"], POINTS[0].point_id))
    found = {s.name: s for s in OPTIONS.summarise(table)}
    columns = {name: np.array(table[name]) for name in table.column_names}
    assert found["std_bound_mean"].value == pytest.approx(columns["std_bound_mean"].mean())
    assert found["std_bound_mean"].stderr == pytest.approx(
        columns["std_bound_mean"].std(ddof=1) / IMAGES**0.5
    )
    assert found["std_bound_median"].value == pytest.approx(np.median(columns["std_bound_mean"]))
    assert found["std_bound_low_mean"].value == pytest.approx(columns["std_bound_low_mean"].mean())
    assert found["std_bound_low_median"].value == pytest.approx(np.median(columns["std_bound_low_mean"]))
    assert found["std_bound_max"].value == columns["std_bound_max"].max()
    assert found["mse_bound"].value == pytest.approx(columns["mse_bound"].mean())
    assert {s.unit for s in found.values()} == {"normalised pixel", "normalised pixel^2"}
    assert found["mse_bound"].unit == "normalised pixel^2"
    assert {s.n for s in found.values()} == {IMAGES}


def test_a_shift_below_rounding_is_no_bound_and_says_so(subject: Subject) -> None:
    rows = OPTIONS.measure(subject, [point("gaussian", 1e-30)])
    assert rows.modes is None
    for row in per_image(rows):
        assert row["status"] == "not_applicable"
        assert row["std_bound_mean"] is None
        assert "the features do not change" in row["reason"]
    with pytest.raises(ValueError, match=r"no image has a finite bound; the first: .* do not change"):
        OPTIONS.summarise(pa.concat_tables(rows.per_image))
