"""Bounds under noise that depends on the image: plain numpy, Monte Carlo, and the path for noise of one size."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.fft import dctn
from tests_support import digits_model, digits_set
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from hushsweep.datasets.results.rows import to_table
from hushsweep.workers.bounds import Moments, chi_square_channel, chi_square_monte_carlo, dct, hcr_std_bound
from hushsweep.workers.features import Activations
from hushsweep.workers.measures.base import FittedPoint, FittedStage, MeasureRows, Subject
from hushsweep.workers.measures.bounds import Bounds
from hushsweep.workers.measures.channel_geometry import ChannelGeometry, ChannelMap, find_channel
from hushsweep.workers.measures.channel_shifts import channel_shifts
from hushsweep.workers.mechanisms import AdditiveNoise, UnitNoise
from hushsweep.workers.mechanisms.ani import Ani, FittedAni
from hushsweep.workers.mechanisms.cloak import CloakConstants, FittedCloak

IMAGES, PIXELS = 3, 64
OPTIONS = Bounds(shifts=("jacobian", "dct", "pixel"), directions=PIXELS, pictures=1)
NAMES = ("cramer_rao", "dfil", "van_trees")


@dataclass(frozen=True)
class Fake:
    """A mechanism by its moments."""

    of: Callable[[Tensor], tuple[Tensor, Tensor]]

    def apply(self, activations: Tensor, noise: UnitNoise) -> Tensor:
        raise AssertionError("bounds need no noise")

    def moments(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        return self.of(activations)


@dataclass(frozen=True, eq=False)
class Masked:
    """Noise in the places that a small convolutional network chooses."""

    client: nn.Module

    def apply(self, activations: Tensor, noise: UnitNoise) -> Tensor:
        raise AssertionError("bounds need no noise")

    def moments(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        w = torch.sigmoid(self.client(activations))
        return (w * activations).flatten(1), (1 - w).flatten(1)

    def double(self) -> "Masked":
        return Masked(copy.deepcopy(self.client).double())


def mask_network() -> Masked:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        client = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 1, 3, padding=1))
    return Masked(client.eval().requires_grad_(False))


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    loaded = digits_set(tmp_path_factory.mktemp("cache"), limit=IMAGES)
    activations = Activations(
        model=digits_model(), images=loaded, logits=True, device=torch.device("cpu"), batch_size=4
    )
    rms = activations.rms(range(1))
    return Subject(activations=activations, positions=range(IMAGES), rms=lambda: rms)


def point(mechanism: Any, at: str = "input") -> FittedPoint:
    return FittedPoint(point_id="p", seed=0, stages=(FittedStage(f"{at}/0", at, mechanism),))


def measured(subject: Subject, of: FittedPoint, options: Bounds = OPTIONS) -> MeasureRows:
    assert options.inapplicable(of) is None
    found = options.measure(subject, [of])
    return replace(found, per_image=list(found.per_image))


def select(rows: MeasureRows, bound: str, search: str | None = None) -> list[dict[str, Any]]:
    table = pa.concat_tables(list(rows.per_image)).to_pylist()
    return [row for row in table if (row["bound"], row["search"]) == (bound, search)]


def column(found: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name] for row in found], dtype=float)


def plain_fisher(subject: Subject, of: FittedPoint, position: int) -> np.ndarray:
    """The Fisher information of one image by torch's own derivatives and its textbook formula."""
    channel = ChannelMap(of.stages[0], subject)
    x = subject.activations.inputs([position]).double()
    mean, std = (
        part.reshape(-1, PIXELS).numpy()
        for part in torch.autograd.functional.jacobian(lambda x: tuple(channel.moments(x)), x)
    )
    scale = channel.moments(x).std[0].numpy()[:, None]
    information: np.ndarray = (mean / scale).T @ (mean / scale) + 2 * (std / scale).T @ (std / scale)
    return information


def in_modes(matrix: np.ndarray) -> np.ndarray:
    basis = dctn(np.eye(PIXELS).reshape(-1, 8, 8), axes=(1, 2), norm="ortho").reshape(PIXELS, -1)
    diagonal: np.ndarray = np.einsum("ik,ij,jk->k", basis, matrix, basis)
    return diagonal


def geometry_of(subject: Subject, of: FittedPoint, options: Bounds = OPTIONS) -> ChannelGeometry:
    return find_channel(options, subject, of, ChannelMap(of.stages[0], subject), range(IMAGES))


@pytest.mark.parametrize("at", ["input", "cut"])
def test_cramer_rao_is_the_inverse_of_the_fisher_information(subject: Subject, at: str) -> None:
    of = point(mask_network())
    if at == "cut":
        of = point(Fake(lambda a: (a, 0.2 + torch.sigmoid(a.roll(1, -1)))), "cut")
    rows = measured(subject, of)
    exact, dfil = select(rows, "cramer_rao"), select(rows, "dfil")
    for position in range(IMAGES):
        information = plain_fisher(subject, of, position)
        variance = in_modes(np.linalg.pinv(information, hermitian=True, rcond=1e-12))
        assert exact[position]["status"] == "complete"
        assert exact[position]["rank"] == np.linalg.matrix_rank(information, hermitian=True)
        assert exact[position]["mse_bound"] == pytest.approx(variance.mean(), rel=1e-5)
        assert exact[position]["std_bound_mean"] == pytest.approx(np.sqrt(variance).mean(), rel=1e-5)
        assert dfil[position]["mse_bound"] == pytest.approx(PIXELS / np.trace(information), rel=1e-9)
        assert dfil[position]["mse_bound"] <= exact[position]["mse_bound"] * (1 + 1e-9)
    assert column(select(rows, "van_trees"), "mse_bound").max() < OPTIONS.prior_std**2


def test_noise_of_one_size_gives_what_its_own_path_gives(subject: Subject) -> None:
    std = 0.3
    own = measured(subject, point(AdditiveNoise("gaussian", std), "cut"))
    same = measured(subject, point(Fake(lambda a: (a, torch.full_like(a, std))), "cut"))
    for name in NAMES:
        expected, found = select(own, name), select(same, name)
        for number in ("mse_bound", "mse_bound_grey", "non_identifiable", "rank", "active_features"):
            if expected[0][number] is not None:
                assert column(found, number) == pytest.approx(column(expected, number), rel=1e-7), number
    for search in OPTIONS.shifts:
        expected, found = select(own, "hcr", search), select(same, "hcr", search)
        assert (column(found, "mse_bound") >= column(expected, "mse_bound") * (1 - 1e-5)).all()
    assert same.modes is not None
    assert same.modes.num_rows == (len(NAMES) - 2 + len(OPTIONS.shifts)) * PIXELS


def test_plain_gaussian_noise_on_the_image_has_closed_forms(subject: Subject) -> None:
    rows = measured(subject, point(AdditiveNoise("gaussian", 0.4)))
    for name, expected in (
        ("cramer_rao", 0.16),
        ("dfil", 0.16),
        ("van_trees", 1 / (1 / 0.16 + 1 / OPTIONS.prior_std**2)),
    ):
        assert column(select(rows, name), "mse_bound") == pytest.approx(expected, rel=1e-9)
    for search in ("dct", "jacobian"):
        found = select(rows, "hcr", search)
        assert column(found, "shifts") == pytest.approx(PIXELS)
        assert (column(found, "mse_bound") <= 0.16 * (1 + 1e-9)).all()
    # every cosine mode on its own, as short as it can be
    assert column(select(rows, "hcr", "dct"), "mse_bound") == pytest.approx(0.16, rel=1e-5)


def test_a_linear_mean_has_its_closed_form(subject: Subject) -> None:
    matrix = torch.randn(90, PIXELS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    of = point(Fake(lambda a: (a.flatten(1) @ matrix.T, torch.full((len(a), 90), 0.5).to(a))))
    rows = measured(subject, of, replace(OPTIONS, basis="pixel"))
    inverse = 0.25 * np.diag(np.linalg.inv((matrix.T @ matrix).numpy()))
    assert rows.modes is not None
    modes = rows.modes.to_pylist()
    exact = [row["std_bound"] for row in modes if row["bound"] == "cramer_rao"]
    assert exact == pytest.approx(np.sqrt(inverse), rel=1e-6)
    for search in OPTIONS.shifts:
        found = np.array([row["std_bound"] for row in modes if (row["search"]) == search])
        assert (found <= np.sqrt(inverse) * (1 + 1e-9)).all()
    pixel = [row["std_bound"] for row in modes if row["search"] == "pixel"]
    assert pixel == pytest.approx(0.5 / matrix.norm(dim=0).numpy(), rel=1e-5)


def test_divergences_agree_with_monte_carlo(subject: Subject) -> None:
    geometry = geometry_of(subject, point(mask_network()))
    x = geometry.probe.x[0]
    shift = torch.randn(4, *x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 8
    clean = Moments(*(value[0] for value in geometry.clean))
    shifted = geometry.channel.moments(x + shift)
    assert float((shifted.std / clean.std - 1).abs().max()) > 0.01, "the size of the noise really changes"
    exact = chi_square_channel(clean, shifted)
    assert bool(((exact > 0.1) & (exact < 10)).all())
    law = Independent(Normal(*(value.expand_as(shifted.mean) for value in clean)), 1)
    found = chi_square_monte_carlo(law, Independent(Normal(*shifted), 1), draws=100_000, seed=1)
    assert bool(((found.value - exact).abs() < 4.5 * found.stderr).all())


@pytest.mark.parametrize("search", OPTIONS.shifts)
def test_short_shifts_never_exceed_cramer_rao(subject: Subject, search: str) -> None:
    of = point(mask_network())
    geometry = geometry_of(subject, of)
    found = channel_shifts(geometry, search)
    direction = found.input_shift / found.input_shift.flatten(2).norm(dim=2)[..., None, None, None]
    for position in range(IMAGES):
        variance = in_modes(np.linalg.inv(plain_fisher(subject, of, position)))
        shift = 1e-5 * direction[position]
        clean = Moments(*(value[position] for value in geometry.clean))
        chi_square = chi_square_channel(clean, geometry.channel.moments(geometry.probe.x[position] + shift))
        bound = hcr_std_bound(dct(shift).flatten(1), chi_square).square().numpy()
        assert (bound <= variance * (1 + 1e-3)).all()


@pytest.mark.parametrize("search", OPTIONS.shifts)
def test_the_length_taken_is_the_best_of_many(subject: Subject, search: str) -> None:
    geometry = geometry_of(subject, point(mask_network()))
    found = channel_shifts(geometry, search)
    assert bool(found.chi_square.isfinite().all())
    x, size = geometry.probe.x[:, None], found.input_shift.flatten(2).norm(dim=2)
    best = size / found.chi_square.sqrt()
    clean = Moments(*(value[:, None] for value in geometry.clean))
    for factor in (1e-2, 0.1, 0.9, 1.1, 3.0, -1.0):
        shifted = geometry.channel.moments((x + factor * found.input_shift).flatten(0, 1))
        other = chi_square_channel(clean, Moments(*(value.unflatten(0, size.shape) for value in shifted)))
        # a finer grid gains next to nothing
        assert bool((abs(factor) * size / other.sqrt() <= best * 1.02).all()), factor
    exact = geometry.channel.moments((x + found.input_shift).flatten(0, 1))
    again = chi_square_channel(clean, Moments(*(value.unflatten(0, size.shape) for value in exact)))
    assert torch.allclose(again, found.chi_square, rtol=1e-6)


def shown(a: Tensor) -> tuple[Tensor, Tensor]:
    """Three pixels leave as they are, two are suppressed, the rest have noise that depends on the image."""
    mean, std = a.flatten(1).clone(), 0.5 + 0.2 * torch.tanh(a.flatten(1).roll(1, 1))
    place = torch.arange(PIXELS, device=a.device)
    plain, suppressed = (
        torch.isin(place, torch.tensor([10, 11, 40])),
        torch.isin(place, torch.tensor([50, 51])),
    )
    return torch.where(suppressed, 2.0, mean), torch.where(plain | suppressed, 0.0, std)


def test_what_leaves_without_noise_is_known_to_the_reader(subject: Subject) -> None:
    rows = measured(subject, point(Fake(shown)), replace(OPTIONS, basis="pixel"))
    exact, dfil = select(rows, "cramer_rao"), select(rows, "dfil")
    assert exact[0]["status"] == "complete"
    assert "3 of 64 inputs" in exact[0]["reason"]
    # the two suppressed pixels still show in the noise of their neighbours, but for 50, whose neighbour has none
    assert exact[0]["non_identifiable"] == pytest.approx(1 / PIXELS, abs=1e-9)
    assert rows.modes is not None
    std = {
        row["row"] * 8 + row["column"]: row for row in rows.modes.to_pylist() if row["bound"] == "cramer_rao"
    }
    assert [std[place]["std_bound"] for place in (10, 11, 40)] == [0.0] * 3
    assert [std[place]["non_identifiable"] for place in (10, 11, 40, 50)] == pytest.approx([0, 0, 0, 1])
    assert all(std[place]["std_bound"] > 0 for place in range(PIXELS) if place not in (10, 11, 40, 50))
    moments = ChannelMap(point(Fake(shown)).stages[0], subject).moments
    unknown = [place for place in range(PIXELS) if place not in (10, 11, 40)]
    for position in range(IMAGES):
        x = subject.activations.inputs([position]).double()
        mean, size = torch.autograd.functional.jacobian(lambda x: tuple(moments(x)), x)
        noisy = moments(x).std[0] > 0
        scale = moments(x).std[0][noisy, None]
        trace = sum(
            weight * (part.reshape(PIXELS, PIXELS)[noisy] / scale)[:, unknown].square().sum()
            for weight, part in ((1, mean), (2, size))
        )
        assert dfil[position]["mse_bound"] == pytest.approx(61**2 / (PIXELS * float(trace)), rel=1e-9)
    assert {row["status"] for row in select(rows, "van_trees")} == {"not_applicable"}
    pixel, modes = select(rows, "hcr", "pixel"), select(rows, "hcr", "dct")
    for row in pixel:
        assert (row["shifts"], row["still_shifts"], row["infinite_shifts"]) == (60, 1, 3)
    assert {row["status"] for row in modes} == {"not_applicable"}
    assert "64 have an infinite chi-square" in modes[0]["reason"]
    assert modes[0]["mse_bound"] is None


def test_known_pixels_are_identified_in_every_basis(subject: Subject) -> None:
    found = select(measured(subject, point(Fake(shown))), "cramer_rao")
    assert column(found, "non_identifiable") == pytest.approx(1 / PIXELS, abs=1e-9)


def test_suppressed_entries_may_be_left_out_or_be_constants(subject: Subject) -> None:
    def constant(a: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = mask_network().double().moments(a)
        keep = torch.arange(PIXELS, device=a.device) % 3 > 0
        return torch.where(keep, mean, 0.7), torch.where(keep, std, 0.0)

    def left_out(a: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = mask_network().double().moments(a)
        keep = torch.arange(PIXELS, device=a.device) % 3 > 0
        return mean[:, keep], std[:, keep]

    one, other = (measured(subject, point(Fake(of))) for of in (constant, left_out))
    for bound, search in (("cramer_rao", None), ("dfil", None), ("hcr", "dct"), ("hcr", "pixel")):
        found, expected = select(one, bound, search), select(other, bound, search)
        assert {row["status"] for row in found} == {"complete"}
        assert found[0]["reason"] is None
        assert column(found, "mse_bound") == pytest.approx(column(expected, "mse_bound"), rel=1e-6)


def test_all_or_nothing_gives_reasons_and_no_number(subject: Subject) -> None:
    every = replace(OPTIONS, bounds=("cramer_rao", "hcr", "dfil", "van_trees"))
    for mechanism, reason in (
        (Fake(lambda a: (a.flatten(1)[:, :0], a.flatten(1)[:, :0])), "suppresses every entry"),
        (Fake(lambda a: (a, torch.zeros_like(a))), "without noise"),
        (Fake(lambda a: (torch.ones_like(a), torch.ones_like(a))), "does not depend on this image"),
    ):
        rows = measured(subject, point(mechanism), every)
        for bound in ("cramer_rao", "dfil"):
            for row in select(rows, bound):
                assert row["status"] == "not_applicable"
                assert reason in row["reason"]
                assert row["mse_bound"] is None
        assert {
            row["status"] for row in pa.concat_tables(rows.per_image).to_pylist() if row["bound"] == "hcr"
        } == {"not_applicable"}
        summary = {one.name: one.value for one in every.summarise(pa.concat_tables(rows.per_image))}
        assert summary["cramer_rao"] is None


def test_a_jacobian_that_is_too_large_leaves_shifts_that_need_none(subject: Subject) -> None:
    rows = measured(subject, point(mask_network()), replace(OPTIONS, memory_gb=1e-6))
    for bound, search in (("cramer_rao", None), ("dfil", None), ("hcr", "jacobian")):
        for row in select(rows, bound, search):
            assert row["status"] == "not_applicable"
            assert "more than memory_gb: 1e-06" in row["reason"]
    for bound, search in (("hcr", "dct"), ("hcr", "pixel"), ("van_trees", None)):
        assert {row["status"] for row in select(rows, bound, search)} == {"complete"}


def test_bounds_of_noise_of_one_size_are_not_claimed(subject: Subject) -> None:
    options = replace(
        OPTIONS, bounds=("barankin", "two_point", "mmse", "rero", "hcr"), shifts=("lsqr", "nullspace", "dct")
    )
    rows = measured(subject, point(mask_network()), options)
    refused = [("barankin", None), ("two_point", None), ("mmse", None), ("rero", None), ("hcr", "lsqr")]
    for bound, search in refused:
        for row in select(rows, bound, search):
            assert row["status"] == "not_applicable"
            assert "depend" in row["reason"] or "one size" in row["reason"]
    assert {row["status"] for row in select(rows, "hcr", "dct")} == {"complete"}
    assert len(pa.concat_tables(rows.per_image)) == IMAGES * 6


def test_it_is_told_which_points_have_bounds() -> None:
    assert "Gaussian with independent entries" in str(
        OPTIONS.inapplicable(point(AdditiveNoise("laplace", 1.0)))
    )
    assert "without noise" in str(OPTIONS.inapplicable(point(AdditiveNoise("gaussian", 0.0))))
    chain = replace(point(mask_network()), stages=point(mask_network()).stages * 2)
    assert OPTIONS.inapplicable(chain) is not None
    assert point(AdditiveNoise("gaussian", 1.0), "cut").channel is None, "it has a path of its own"


def test_moments_that_diverged_are_named(subject: Subject) -> None:
    with pytest.raises(ValueError, match=r"moments of Fake: .*look whether its training diverged"):
        measured(subject, point(Fake(lambda a: (a * torch.nan, torch.ones_like(a)))))
    with pytest.raises(ValueError, match=r"as many standard deviations as means, got \(1, 2\) and \(1, 64\)"):
        measured(subject, point(Fake(lambda a: (a, a.flatten(1)[:, :2]))))


def test_rows_modes_and_pictures_fit_the_tables_and_shards_change_nothing(subject: Subject) -> None:
    of = point(mask_network())
    rows = measured(subject, of)

    def with_ids(table: pa.Table) -> pa.Table:
        for name in ("measure_id", "computed_by"):
            table = table.append_column(name, pa.repeat(name, len(table)))
        return table

    whole = pa.concat_tables(list(rows.per_image))
    to_table("per_image/bounds", with_ids(whole))
    assert rows.modes is not None
    to_table("modes", with_ids(rows.modes))
    assert rows.pictures is not None
    to_table("pictures", with_ids(rows.pictures))
    parts = [
        measured(replace(subject, positions=positions), of, replace(OPTIONS, pictures=0)).per_image[0]  # type: ignore[index]
        for positions in (range(1), range(1, IMAGES))
    ]
    apart = replace(rows, per_image=parts)
    for bound, search in {(row["bound"], row["search"]) for row in whole.to_pylist()}:
        one, other = (column(select(found, bound, search), "mse_bound") for found in (rows, apart))
        assert other == pytest.approx(one, rel=1e-6, nan_ok=True)


def test_points_of_both_kinds_are_measured_together(subject: Subject) -> None:
    additive = replace(point(AdditiveNoise("gaussian", 0.3), "cut"), point_id="additive")
    together = OPTIONS.measure(subject, [point(mask_network()), additive])
    rows = pa.concat_tables(list(together.per_image)).to_pylist()
    assert {row["point_id"] for row in rows} == {"p", "additive"}
    alone = select(measured(subject, point(mask_network())), "cramer_rao")
    mixed = [row for row in rows if row["point_id"] == "p" and row["bound"] == "cramer_rao"]
    assert column(mixed, "mse_bound") == pytest.approx(column(alone, "mse_bound"), rel=1e-12)


def test_where_derivatives_jump_those_of_one_region_are_taken(subject: Subject) -> None:
    """Of max(a, b) and max(-a, -b) one is a's and one is b's; at a tie automatic derivatives give both to a."""

    def pooled(a: Tensor) -> tuple[Tensor, Tensor]:
        pairs = a.flatten(1).unflatten(1, (-1, 2))
        mean = nn.functional.max_pool1d(torch.cat([pairs, -pairs], dim=1), 2).flatten(1)
        return mean, torch.full_like(mean, 0.2)

    pairs = subject.activations.inputs(range(IMAGES)).flatten(1).unflatten(1, (-1, 2))
    assert bool((pairs[..., 0] == pairs[..., 1]).any(1).all())
    found = select(measured(subject, point(Fake(pooled))), "cramer_rao")
    assert column(found, "rank") == pytest.approx(PIXELS)
    assert column(found, "mse_bound") == pytest.approx(0.04, rel=1e-6)


@pytest.mark.parametrize("bias", [-2.0, -0.6, 1.0])
def test_adaptive_noise_of_a_convolutional_mask(subject: Subject, bias: float) -> None:
    """The mechanism itself, at three strengths: exact divergences, by Monte Carlo too, and their order."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        client = Ani(penalty=1.0).client(subject.model.input_shape)
    list(client.parameters())[-1].data.fill_(bias)
    of = point(FittedAni("digest", client.eval().requires_grad_(False), "exp_tanh"))
    options = replace(OPTIONS, directions=16)
    rows = measured(subject, of, options)
    for bound, search in (("cramer_rao", None), ("dfil", None), ("van_trees", None), ("hcr", "dct")):
        assert {row["status"] for row in select(rows, bound, search)} == {"complete"}
    exact, trace = (column(select(rows, name), "mse_bound") for name in ("cramer_rao", "dfil"))
    assert (trace <= exact * (1 + 1e-9)).all()
    geometry = geometry_of(subject, of, options)
    found = channel_shifts(geometry, "dct")
    longer = (
        geometry.probe.x[0] + found.input_shift[0] * (0.5 / found.chi_square[0].sqrt())[:, None, None, None]
    )
    clean, shifted = Moments(*(value[0] for value in geometry.clean)), geometry.channel.moments(longer)
    chi_square = chi_square_channel(clean, shifted)
    law = Independent(Normal(*(value.expand_as(shifted.mean) for value in clean)), 1)
    estimate = chi_square_monte_carlo(law, Independent(Normal(*shifted), 1), draws=40_000, seed=2)
    near = chi_square < 2
    assert int(near.sum()) > 8
    assert bool(((estimate.value - chi_square).abs() < 5 * estimate.stderr)[near].all())


def test_cloak_has_the_bounds_of_its_constants(subject: Subject) -> None:
    shape = subject.model.input_shape
    std = torch.linspace(0.5, 1.5, PIXELS, dtype=torch.float64).reshape(shape)
    kept = (torch.arange(PIXELS).reshape(shape) % 4 > 0).double()
    of = point(FittedCloak("digest", CloakConstants(std, kept, torch.ones(shape))))
    rows = measured(subject, of, replace(OPTIONS, basis="pixel"))
    assert column(select(rows, "cramer_rao"), "non_identifiable") == pytest.approx(0.25)
    sent = std.flatten()[kept.flatten() > 0].square()
    assert column(select(rows, "cramer_rao"), "mse_bound") == pytest.approx(
        float(sent.sum()) / PIXELS, rel=1e-9
    )
    assert column(select(rows, "dfil"), "mse_bound") == pytest.approx(
        PIXELS / float((1 / sent).sum()), rel=1e-9
    )
    pixel = select(rows, "hcr", "pixel")
    assert column(pixel, "mse_bound") == pytest.approx(float(sent.sum()) / PIXELS, rel=1e-5)
    assert (pixel[0]["shifts"], pixel[0]["still_shifts"]) == (48, 16)
