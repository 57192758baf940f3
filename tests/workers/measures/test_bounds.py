"""Rows of the measure bounds against plain numpy on the network's Jacobian, and what shards, levels and seeds share."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.fft import dctn
from tests_support import digits_model, digits_set

from hushsweep.datasets.results.rows import to_table
from hushsweep.workers.features import Activations
from hushsweep.workers.measures.base import FittedPoint, FittedStage, MeasureRows, Subject
from hushsweep.workers.measures.bounds import Bounds
from hushsweep.workers.mechanisms import AdditiveNoise
from hushsweep.workers.testing import check_measure

IMAGES = 5
EVERY = Bounds(
    bounds=("cramer_rao", "barankin", "hcr", "dfil", "van_trees", "two_point", "mmse", "rero"),
    shifts=("jacobian", "dct", "nullspace", "large_step"),
    low_frequency=3,
    directions=64,
    pictures=2,
)


def subject_of(folder: Path, images: int = IMAGES) -> Subject:
    loaded = digits_set(folder, limit=images)
    activations = Activations(
        model=digits_model(), images=loaded, logits=True, device=torch.device("cpu"), batch_size=4
    )
    rms = activations.rms(range(1))
    return Subject(activations=activations, positions=range(images), rms=lambda: rms)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject_of(tmp_path_factory.mktemp("cache"))


def point(law: str, std: float, seed: int = 0, *, step: int = 1) -> FittedPoint:
    stage = FittedStage("cut/0", "cut", AdditiveNoise(law, std))
    return FittedPoint(point_id=f"{law} {std} {seed} {step}", seed=seed, stages=(stage,), step=step)


GAUSSIAN, LOUD, LAPLACE, RESEEDED = (
    point("gaussian", 0.3),
    point("gaussian", 3.0),
    point("laplace", 0.3),
    point("gaussian", 0.3, seed=1),
)


@pytest.fixture(scope="module")
def rows(subject: Subject) -> MeasureRows:
    found = EVERY.measure(subject, [GAUSSIAN, LOUD, LAPLACE, RESEEDED])
    return replace(found, per_image=list(found.per_image))


def select(rows: MeasureRows, of: FittedPoint, bound: str, search: str | None = None) -> list[dict[str, Any]]:
    table = pa.concat_tables(list(rows.per_image))
    return [
        row
        for row in table.to_pylist()
        if (row["point_id"], row["bound"], row["search"]) == (of.point_id, bound, search)
    ]


def column(found: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name] for row in found], dtype=float)


class Plain:
    """One image's Jacobian by torch's own means, in the DCT basis of scipy."""

    def __init__(self, subject: Subject, position: int) -> None:
        self.model = subject.double_model
        self.x = subject.activations.inputs(range(position, position + 1)).double()
        jacobian = torch.autograd.functional.jacobian(lambda x: self.model.features(x).flatten(), self.x)
        self.J = jacobian.reshape(jacobian.shape[0], -1).numpy()
        shape = self.x.shape[1:]
        identity = np.eye(self.J.shape[1]).reshape(-1, *shape)
        self.basis = dctn(identity, axes=(2, 3), norm="ortho").reshape(len(identity), -1)  # column k: mode k

    def unit_variance(self) -> np.ndarray:
        inverse = np.linalg.pinv(self.J.T @ self.J, rcond=1e-11, hermitian=True)
        return np.einsum("ik,ij,jk->k", self.basis, inverse, self.basis)


def test_it_keeps_its_contract() -> None:
    check_measure(Bounds())
    check_measure(EVERY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "images: expected a number >= 1, got 0"),
        ({"step": 0.0}, "step: expected a finite number > 0, got 0.0"),
        ({"memory_gb": float("nan")}, "memory_gb: expected a finite number > 0, got nan"),
        ({"prior_draws": 1}, "prior_draws: expected a number >= 2, got 1"),
        ({"bounds": ("cramer",)}, "bounds: unknown 'cramer'; known: barankin, cramer_rao"),
        ({"shifts": ("papre",)}, "shifts: unknown 'papre'; known: dct"),
        ({"basis": "wavelet"}, "basis: expected dct or pixel, got 'wavelet'"),
        ({"precision": "bfloat16"}, "precision: expected float64 or float32, got 'bfloat16'"),
        ({"bounds": ()}, "bounds: expected at least one"),
        ({"shifts": ()}, "shifts: barankin and hcr need at least one search"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Bounds(**options)


def test_a_bound_needs_one_noise_of_known_density_at_the_cut() -> None:
    chain = replace(GAUSSIAN, stages=GAUSSIAN.stages * 2)
    assert "not a single additive noise at the cut" in str(EVERY.inapplicable(chain))
    assert "without noise" in str(EVERY.inapplicable(point("gaussian", 0.0)))
    assert EVERY.inapplicable(LAPLACE) is None


def test_cramer_rao_is_the_pseudo_inverse_of_the_jacobian(subject: Subject, rows: MeasureRows) -> None:
    for of, std in ((GAUSSIAN, 0.3), (LOUD, 3.0), (LAPLACE, 0.3 / np.sqrt(2))):
        found = select(rows, of, "cramer_rao")
        assert [row["status"] for row in found] == ["complete"] * IMAGES
        for position, row in enumerate(found):
            plain = Plain(subject, position)
            variance = std**2 * plain.unit_variance()
            assert row["std_bound_mean"] == pytest.approx(np.sqrt(variance).mean(), rel=1e-4)
            assert row["mse_bound"] == pytest.approx(variance.mean(), rel=1e-4)
            low = np.sqrt(variance).reshape(8, 8)[:3, :3]
            assert row["std_bound_low_mean"] == pytest.approx(low.mean(), rel=1e-4)
            assert row["active_features"] == (np.abs(plain.J).max(1) > 0).sum()
            grey = 255 * float(subject.model.std)
            assert row["mse_bound_grey"] == pytest.approx(row["mse_bound"] * grey**2, rel=1e-6)
            row_space = 1 - row["non_identifiable"] - row["unresolved"]
            assert row_space == pytest.approx(row["rank"] / 64, abs=1e-9)


def test_dfil_and_the_linear_gaussian_error_are_their_formulas(subject: Subject, rows: MeasureRows) -> None:
    dfil, mmse = select(rows, GAUSSIAN, "dfil"), select(rows, GAUSSIAN, "mmse")
    pixels = subject.activations.inputs(subject.positions).flatten(1).double().numpy()
    C = np.cov(pixels.T, bias=True)
    for position in range(IMAGES):
        J = Plain(subject, position).J
        assert dfil[position]["mse_bound"] == pytest.approx(64 * 0.3**2 / (J**2).sum(), rel=1e-9)
        gain = C @ J.T @ np.linalg.inv(J @ C @ J.T + 0.3**2 * np.eye(len(J)))
        expected = np.trace(C - gain @ J @ C) / 64
        assert mmse[position]["mse_estimate"] == pytest.approx(expected, rel=1e-6)
        assert mmse[position]["mse_bound"] is None, "an oracle's level is no bound"


@pytest.mark.parametrize("search", ["jacobian", "dct", "large_step"])
def test_barankin_is_never_below_a_single_shift(rows: MeasureRows, search: str) -> None:
    for of in (GAUSSIAN, LOUD):
        joint, single = (select(rows, of, bound, search) for bound in ("barankin", "hcr"))
        assert (column(joint, "std_bound_mean") >= column(single, "std_bound_mean") * (1 - 1e-12)).all()
        assert (column(joint, "mse_bound") > 0).all()


def test_directions_of_the_jacobian_attain_cramer_rao(rows: MeasureRows) -> None:
    """With all singular directions as small shifts, Barankin's bound is Cramer-Rao's."""
    for of in (GAUSSIAN, LOUD):
        joint, exact = select(rows, of, "barankin", "jacobian"), select(rows, of, "cramer_rao")
        assert (column(exact, "rank") <= EVERY.directions).all()
        linear = column(joint, "linear_shifts") == column(joint, "shifts")
        assert linear.any()
        assert not linear.all(), "some shift leaves its region of the network, and the row says so"
        ratio = column(joint, "mse_bound") / column(exact, "mse_bound")
        assert ratio[linear] == pytest.approx(1, rel=1e-3)


def test_what_is_proved_for_gaussian_noise_only_is_not_claimed_for_laplace(rows: MeasureRows) -> None:
    for bound, search in (("barankin", "jacobian"), ("mmse", None), ("rero", None)):
        found = select(rows, LAPLACE, bound, search)
        assert {row["status"] for row in found} == {"not_applicable"}
        assert "Gaussian" in found[0]["reason"]
        assert found[0]["mse_bound"] is None
    # Fisher information is 2 / std^2 and a small shift's chi-square is |z|^2 times that
    laplace, gaussian = (select(rows, of, "hcr", "jacobian") for of in (LAPLACE, GAUSSIAN))
    ratio = column(laplace, "std_bound_mean") / column(gaussian, "std_bound_mean")
    assert ratio == pytest.approx(1 / np.sqrt(2), rel=2e-2)


def test_two_points_that_the_noise_hides(subject: Subject, rows: MeasureRows) -> None:
    found = select(rows, GAUSSIAN, "two_point", "two_point")
    assert {row["status"] for row in found} == {"complete"}
    assert (column(found, "distance") <= EVERY.distance * (1 + 1e-5)).all()
    assert (column(found, "radius") > 0).all()
    # within one standard deviation of the noise at least a fifth of |e|^2 is lost on average: g(1) = 0.2
    assert (64 * column(found, "mse_bound") >= 0.19 * column(found, "radius") ** 2).all()
    louder = select(rows, LOUD, "two_point", "two_point")
    assert (column(louder, "radius") >= column(found, "radius")).all()
    for row, exact in zip(
        select(rows, GAUSSIAN, "two_point", "nullspace"), select(rows, GAUSSIAN, "cramer_rao"), strict=True
    ):
        assert exact["non_identifiable"] < 1e-12
        assert row["status"] == "not_applicable", "a network of full rank hides no move"
        assert "no move" in row["reason"]


def test_noise_only_raises_bounds(rows: MeasureRows) -> None:
    table = pa.concat_tables(list(rows.per_image))
    for bound, search in {(row["bound"], row["search"]) for row in table.to_pylist()}:
        if bound == "rero" or search == "nullspace":
            continue  # a chance, and what a network of full rank has none of
        name = "mse_estimate" if bound == "mmse" else "mse_bound"
        quiet, loud = (column(select(rows, of, bound, search), name) for of in (GAUSSIAN, LOUD))
        assert (loud >= quiet * (1 - 1e-9)).all(), (bound, search)


def test_a_jacobian_that_is_too_large_is_estimated_and_never_passed_off_as_a_bound(subject: Subject) -> None:
    options = Bounds(bounds=("cramer_rao", "barankin", "hcr"), memory_gb=1e-6, restarts=300)
    found = options.measure(subject, [GAUSSIAN])
    found = replace(found, per_image=list(found.per_image))
    refused = select(found, GAUSSIAN, "cramer_rao")
    assert {row["status"] for row in refused} == {"not_applicable"}
    assert "more than memory_gb: 1e-06" in refused[0]["reason"]
    assert {row["status"] for row in select(found, GAUSSIAN, "barankin", "jacobian")} == {"not_applicable"}
    estimates = select(found, GAUSSIAN, "cramer_rao_estimate", "pseudo_inverse")
    for position, row in enumerate(estimates):
        exact = 0.3**2 * Plain(subject, position).unit_variance()
        assert row["mse_estimate"] == pytest.approx(exact.mean(), abs=5 * row["mse_estimate_stderr"])
        assert row["std_bound_mean"] is None
        assert row["mse_bound"] is None
        assert row["lsqr_residual"] is not None
    companion, single = (select(found, GAUSSIAN, name, "pseudo_inverse") for name in ("barankin", "hcr"))
    assert (column(companion, "mse_bound") >= column(single, "mse_bound")).all()
    assert found.modes is not None
    modes = found.modes.to_pylist()
    assert all(row["std_bound"] is None for row in modes if row["bound"] == "cramer_rao_estimate")
    assert all(row["std_estimate"] is None for row in modes if row["bound"] != "cramer_rao_estimate")
    per_image = pa.concat_tables(found.per_image)
    statistics = {statistic.name: statistic for statistic in options.summarise(per_image)}
    assert statistics["cramer_rao"].value is None
    assert "memory" in str(statistics["cramer_rao"].reason)
    assert statistics["cramer_rao_estimate_pseudo_inverse_mse"].holds_for.startswith("no bound")


def test_shards_and_seeds_change_nothing_that_they_must_not(subject: Subject, rows: MeasureRows) -> None:
    parts = []
    for positions in (range(2), range(2, IMAGES)):
        parts += EVERY.measure(replace(subject, positions=positions), [GAUSSIAN, LOUD]).per_image
    apart = replace(rows, per_image=parts)
    keys = {(row["bound"], row["search"]) for row in pa.concat_tables(parts).to_pylist()}
    for of in (GAUSSIAN, LOUD):
        for bound, search in keys:
            for name in ("mse_bound", "std_bound_mean", "mse_estimate", "radius", "distance"):
                whole, cut = (column(select(found, of, bound, search), name) for found in (rows, apart))
                rel = (
                    1e-2 if search in ("two_point", "large_step") else 1e-5
                )  # line searches stop at 1e-3 or so
                assert cut == pytest.approx(whole, rel=rel, nan_ok=True), (bound, search, name)
    for bound, search in (("cramer_rao", None), ("barankin", "jacobian"), ("hcr", "dct")):
        same, other = (column(select(rows, of, bound, search), "mse_bound") for of in (GAUSSIAN, RESEEDED))
        assert same == pytest.approx(other, rel=1e-12)


def test_a_level_added_later_needs_no_new_jacobian(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Bounds()
    kept = replace(subject, cache=tmp_path)
    fresh = options.measure(kept, [GAUSSIAN, LOUD])
    fresh = replace(fresh, per_image=list(fresh.per_image))
    monkeypatch.setattr(
        "hushsweep.workers.measures.decomposed.jacobian",
        lambda *args, **kwargs: pytest.fail("the Jacobian was computed again"),
    )
    again = options.measure(kept, [LOUD])
    again = replace(again, per_image=list(again.per_image))
    for bound, search in (
        ("cramer_rao", None),
        ("barankin", "jacobian"),
        ("hcr", "jacobian"),
        ("dfil", None),
    ):
        first, second = (column(select(found, LOUD, bound, search), "mse_bound") for found in (fresh, again))
        assert second == pytest.approx(first, rel=1e-12)


@pytest.mark.parametrize("step", [1, 2])
def test_images_are_taken_evenly_whatever_the_shards(tmp_path: Path, step: int) -> None:
    subject = subject_of(tmp_path, images=40)
    options = Bounds(bounds=("dfil",), images=7)
    of = point("gaussian", 0.3, step=step)

    def indices(positions: range) -> list[int]:
        found = options.measure(replace(subject, positions=positions), [of])
        return [row["image_index"] for row in pa.concat_tables(list(found.per_image)).to_pylist()]

    whole = indices(range(40))
    assert len(whole) == 7
    assert whole == indices(range(13)) + indices(range(13, 40))
    gaps = np.diff([list(subject.activations.images.indices).index(index) for index in whole])
    assert gaps.min() >= 40 // 7 - 2
    assert gaps.max() <= 40 // 7 + 2


def test_rows_modes_and_pictures_fit_the_tables(subject: Subject, rows: MeasureRows) -> None:
    ids = {"measure_id": "m", "computed_by": "c"}

    def with_ids(table: pa.Table) -> pa.Table:
        for name, value in ids.items():
            table = table.append_column(name, pa.repeat(value, len(table)))
        return table

    to_table("per_image/bounds", with_ids(pa.concat_tables(list(rows.per_image))))
    assert rows.modes is not None
    modes = to_table("modes", with_ids(rows.modes))
    exact = [
        r for r in modes.to_pylist() if r["bound"] == "cramer_rao" and r["point_id"] == GAUSSIAN.point_id
    ]
    expected = np.mean([0.3 * np.sqrt(Plain(subject, i).unit_variance()) for i in range(IMAGES)], axis=0)
    assert [r["std_bound"] for r in exact] == pytest.approx(expected, rel=1e-4, abs=1e-9)
    assert rows.pictures is not None
    pictures = to_table("pictures", with_ids(rows.pictures)).to_pylist()
    assert {row["kind"] for row in pictures} == {"original", "bound", "moved"}
    original = next(r for r in pictures if r["kind"] == "original")
    position = list(subject.activations.images.indices).index(original["image_index"])
    assert original["pixels"] == bytes(subject.activations.images.images[position].tobytes())
    assert len({row["image_index"] for row in pictures if row["point_id"] == GAUSSIAN.point_id}) == 2


def test_summaries_are_means_over_images_and_say_for_whom_they_hold(rows: MeasureRows) -> None:
    table = pa.concat_tables(list(rows.per_image))
    own = pa.Table.from_pylist(
        [row for row in table.to_pylist() if row["point_id"] == GAUSSIAN.point_id], schema=table.schema
    )
    found = {statistic.name: statistic for statistic in EVERY.summarise(own)}
    exact = column(select(rows, GAUSSIAN, "cramer_rao"), "std_bound_mean")
    assert found["cramer_rao_std_mean"].value == pytest.approx(exact.mean())
    assert found["cramer_rao_std_median"].value == pytest.approx(np.median(exact))
    assert found["cramer_rao_std_mean"].stderr == pytest.approx(exact.std(ddof=1) / np.sqrt(IMAGES))
    assert found["cramer_rao_std_mean"].holds_for == "unbiased estimators"
    assert found["two_point_mse"].holds_for.startswith("every estimator")
    assert 1 / IMAGES < found["rero_success"].value <= 1
    names = [statistic.name for statistic in EVERY.summarise(own)]
    assert len(names) == len(set(names))


def test_the_same_set_in_another_order_is_the_same_measure() -> None:
    one = Bounds(bounds=("hcr", "cramer_rao"), shifts=("dct", "jacobian"))
    assert one == Bounds(bounds=("cramer_rao", "hcr"), shifts=("jacobian", "dct"))
    assert one.bounds == ("cramer_rao", "hcr")


def test_an_estimate_from_solves_cut_short_says_so(subject: Subject) -> None:
    options = Bounds(bounds=("cramer_rao",), memory_gb=1e-6, restarts=3, max_iterations=2)
    found = options.measure(subject, [GAUSSIAN])
    found = replace(found, per_image=list(found.per_image))
    for row in select(found, GAUSSIAN, "cramer_rao_estimate", "pseudo_inverse"):
        assert row["status"] == "complete"
        assert row["reason"] == "3 of 3 solves ended at max_iterations: the estimate is too small"
    summary = {one.name: one for one in options.summarise(pa.concat_tables(found.per_image))}
    assert "too small" in str(summary["cramer_rao_estimate_pseudo_inverse_std_mean"].reason)


def test_features_that_tell_nothing_give_reasons_and_no_number(tmp_path: Path) -> None:
    """Rank 0: nothing for unbiased readers, the prior's own error for all others, a blind guess for the last."""
    subject = subject_of(tmp_path)
    first = next(p for p in subject.model._cut.parameters() if p.dim() == 2)
    first.data.zero_()
    blind = replace(subject, rms=lambda: 1.0)
    found = EVERY.measure(blind, [GAUSSIAN])
    found = replace(found, per_image=list(found.per_image))
    for bound, search in (("cramer_rao", None), ("dfil", None), ("hcr", "jacobian"), ("barankin", "dct")):
        for row in select(found, GAUSSIAN, bound, search):
            assert row["status"] == "not_applicable"
            assert row["reason"]
            assert row["mse_bound"] is None
    assert column(select(found, GAUSSIAN, "van_trees"), "mse_bound") == pytest.approx(EVERY.prior_std**2)
    moved = select(found, GAUSSIAN, "two_point", "two_point")
    assert 64 * column(moved, "mse_bound") == pytest.approx(column(moved, "radius") ** 2 / 4, rel=1e-6)
    summary = {one.name: one.value for one in EVERY.summarise(pa.concat_tables(found.per_image))}
    assert summary["rero_success"] == pytest.approx(1 / IMAGES)
