"""What an attacker sees: the client's answers, averaged as they really are, with a mask where there is one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from attacks_support import attack_subject, noisy
from torch import Tensor

from hushsweep.workers.attacks.view import View, batch_noise, is_noiseless, rounded, why_no_mask
from hushsweep.workers.measures.base import FittedPoint, FittedStage, Subject
from hushsweep.workers.noise import UNIT_LAWS, unit_noise


@dataclass(frozen=True)
class Weighted:
    """Adaptive noise with a mask that is a known function of the image."""

    def apply(self, activations: Tensor, noise: Callable[[str], Tensor]) -> Tensor:
        w = self.mask(activations)
        return w * activations + (1 - w) * noise("gaussian")

    def mask(self, activations: Tensor) -> Tensor:
        return activations.sigmoid()


@dataclass(frozen=True)
class Chosen:
    """One of two tensors per query: not affine in what it draws."""

    def apply(self, activations: Tensor, noise: Callable[[str], Tensor]) -> Tensor:
        return activations + noise("gaussian").sign()


def acting(*mechanisms: tuple[str, object]) -> FittedPoint:
    stages = tuple(FittedStage(f"{at}/{n}", at, mechanism) for n, (at, mechanism) in enumerate(mechanisms))
    return FittedPoint(point_id="p", seed=3, stages=stages, leaves=stages[-1].at)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return attack_subject(tmp_path_factory.mktemp("cache"))


def clean(view: View, rows: list[int]) -> Tensor:
    return view.clean(view.subject.activations.images, keep=True).rows(np.array(rows))


def test_what_is_seen_is_what_leaves(subject: Subject) -> None:
    x = subject.activations.inputs([5, 2])
    nothing = View(subject=subject, point=replace(noisy("input", 0.0)))
    assert torch.equal(nothing.see(clean(nothing, [5, 2]), nothing.new_noise), x)
    at_cut = View(subject=subject, point=noisy("cut", 0.5))
    indices = subject.image_indices([5, 2])
    noise = unit_noise("gaussian", (128,), seed=0, purpose="cut/0", image_indices=indices, draw=4)
    seen = at_cut.see(clean(at_cut, [5, 2]), at_cut.counted_noise(indices, 4))
    torch.testing.assert_close(seen, subject.model.features(x) + 0.5 * noise)


def test_an_average_is_the_mean_of_further_draws(subject: Subject) -> None:
    point = noisy("input", 2.0, law="laplace")
    one, three = View(subject=subject, point=point), View(subject=subject, point=point, queries=3)
    indices = subject.image_indices([7])
    single = [one.see(clean(one, [7]), one.counted_noise(indices, draw)) for draw in (3, 4, 5)]
    mean = three.see(clean(three, [7]), three.counted_noise(indices, 1))
    torch.testing.assert_close(mean, torch.stack(single).mean(0))


def test_a_mask_comes_as_further_channels(subject: Subject) -> None:
    view = View(subject=subject, point=acting(("input", Weighted())), masked=True)
    x = clean(view, [1, 2, 3])
    seen = view.see(x, view.new_noise)
    assert seen.shape == (3, 2, 8, 8)
    assert torch.equal(seen[:, 1:], x.sigmoid())
    # of a chain, the mask is that of what the last stage was given
    chain = acting(("input", Chosen()), ("input", Weighted()))
    view = replace(view, point=chain)
    torch.manual_seed(0)
    first = torch.randn_like(x).sign()
    torch.manual_seed(0)
    assert torch.equal(view.see(x, view.new_noise)[:, 1:], (x + first).sigmoid())


def test_noise_is_new_for_every_batch_and_has_its_law(subject: Subject) -> None:
    assert {law for law in UNIT_LAWS if batch_noise(law, (2,), torch.device("cpu")).shape == (2,)} == set(
        UNIT_LAWS
    )
    with pytest.raises(ValueError, match="unknown noise law 'cauchy'; known: gaussian, laplace"):
        batch_noise("cauchy", (1,), torch.device("cpu"))
    torch.manual_seed(0)
    draws = batch_noise("laplace", (200_000,), torch.device("cpu"))
    assert draws.std().item() == pytest.approx(1, abs=0.01)
    assert draws.abs().mean().item() == pytest.approx(2**-0.5, abs=0.01)
    view = View(subject=subject, point=noisy("input", 1.0))
    x = clean(view, [1])
    assert not torch.equal(view.see(x, view.new_noise), view.see(x, view.new_noise))


def test_the_short_way_to_an_average_has_its_distribution(subject: Subject) -> None:
    for point in (noisy("input", 2.0), acting(("input", Weighted())), noisy("cut", 2.0)):
        view = View(subject=subject, point=point, queries=9)
        x = clean(view, [4])
        short = view.in_training(x)
        assert (short.queries, short.noise_factor) == (1, pytest.approx(1 / 3))
        torch.manual_seed(0)
        many = x.expand(4000, *x.shape[1:])
        first, second = (v.see(many, v.new_noise) for v in (view, short))
        # of 4,000 draws a mean is off by 5 of its standard errors in one of a million entries
        assert bool(
            ((first.mean(0) - second.mean(0)).abs() <= 5 * first.std(0) * (2 / 4000) ** 0.5 + 1e-6).all()
        )
        torch.testing.assert_close(first.std(0), second.std(0), rtol=0.1, atol=1e-6)


def test_what_is_not_affine_in_the_noise_is_really_averaged(subject: Subject) -> None:
    for point in (
        noisy("input", 1.0, law="laplace"),
        acting(("input", Chosen())),
        acting(
            ("input", noisy("input", 1.0).stages[0].mechanism), ("cut", Weighted())
        ),  # a network in between
    ):
        view = View(subject=subject, point=point, queries=4)
        assert view.in_training(clean(view, [0, 1, 2, 3])) is view


def test_a_mask_that_nobody_can_be_given_is_said(subject: Subject) -> None:
    assert why_no_mask(acting(("input", Weighted()))) is None
    assert "no mask" in str(why_no_mask(noisy("input", 1.0)))
    assert "no mask" in str(why_no_mask(noisy("input", 0.0)))
    mixed = replace(acting(("input", Weighted())), leaves="cut")
    assert "the mask belongs to the input" in str(why_no_mask(mixed))
    assert is_noiseless(noisy("cut", 0.0))
    assert not is_noiseless(noisy("cut", 1.0))


def test_clean_activations_are_the_same_kept_or_not(subject: Subject, tmp_path: Path) -> None:
    view = View(subject=subject, point=noisy("cut", 1.0))
    images = subject.part("train")
    kept, computed = (view.clean(images, keep=keep).rows(np.array([900, 3])) for keep in (True, False))
    torch.testing.assert_close(kept, computed)


def test_last_digits_of_the_noise_do_not_make_another_attacker() -> None:
    assert rounded(noisy("cut", 0.123456789)).stages == rounded(noisy("cut", 0.1234567891)).stages
    assert rounded(noisy("cut", 1234.5678)).stages[0].mechanism.noise_std == 1235
    chosen = acting(("input", Chosen()))
    assert rounded(chosen) == chosen
