"""Attacks against closed forms: on linear networks and Gaussian images the best reconstruction is known."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from attacks_support import attack_subject, noisy
from linear_support import covariance, linear_subject, noise_at_cut

from hushsweep.workers.attacks.reconstruction import Knowledge, image_errors
from hushsweep.workers.attacks.reconstruction.likelihood import likelihood_of
from hushsweep.workers.attacks.reconstruction.options import AttackOptions
from hushsweep.workers.bounds import linear_gaussian_mmse
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.measures import Subject
from hushsweep.workers.measures.base import FittedPoint

LEVELS = [0.1, 0.5, 2.0]
QUICK = {"epochs": 12, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def toy() -> Subject:
    return linear_subject()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return attack_subject(tmp_path_factory.mktemp("cache"))


def error_of(options: AttackOptions, subject: Subject, point: FittedPoint, images: int = 4000) -> float:
    """Mean squared error per entry on test images."""
    attack = options.fit(options.target(Knowledge(subject), point))
    view = options.view(point, subject)
    positions = list(range(images))
    truth = subject.activations.inputs(positions)
    clean = subject.activations.cut(truth) if view.starts_at_cut else truth
    seen = view.see(clean, view.counted_noise(subject.image_indices(positions), 0))
    return float((attack.reconstruct(seen, truth) - truth).double().square().mean())


def optimum(subject: Subject, noise_std: float) -> float:
    weight = subject.model._cut.weight.detach().double()
    return float(linear_gaussian_mmse(weight, noise_std, covariance(subject)))


@pytest.mark.parametrize("noise_std", LEVELS)
@pytest.mark.parametrize(
    "options",
    [
        AttackOptions(attack="ridge"),
        AttackOptions(attack="decoder", epochs=3, batch_size=512),
        AttackOptions(attack="decoder", epochs=3, batch_size=512, levels=(0.03, 3.0)),
        AttackOptions(attack="map", prior="gaussian", steps=400),
        AttackOptions(attack="bayes"),
    ],
    ids=["ridge", "decoder", "conditioned", "map", "bayes"],
)
def test_attacks_reach_the_closed_form_optimum(
    toy: Subject, options: AttackOptions, noise_std: float
) -> None:
    images = 1000 if options.attack in ("bayes", "map") else 4000
    found = error_of(options, toy, noise_at_cut(noise_std), images)
    # the images at hand are a sample: the optimal estimator's own error on them is the reference
    reference = error_of(AttackOptions(attack="bayes"), toy, noise_at_cut(noise_std), images)
    assert reference == pytest.approx(optimum(toy, noise_std), rel=0.03)
    assert found == pytest.approx(reference, rel=0.02)


def test_ten_queries_are_noise_less_by_the_root_of_ten(toy: Subject) -> None:
    found = error_of(AttackOptions(attack="ridge", queries=10), toy, noise_at_cut(2.0))
    once = error_of(AttackOptions(attack="bayes"), toy, noise_at_cut(2.0 / math.sqrt(10)), 2000)
    assert found == pytest.approx(once, rel=0.03)


def test_a_blind_guess_errs_by_the_variance(toy: Subject) -> None:
    found = error_of(AttackOptions(attack="blind"), toy, noise_at_cut(1.0))
    assert found == pytest.approx(float(covariance(toy).diagonal().mean()), rel=0.02)


def test_laplace_noise_is_used_as_such(toy: Subject) -> None:
    """The likelihood is that of the noise's law: at the true image it beats a Gaussian's for the same draws."""
    point = noise_at_cut(0.5, "laplace")
    options = AttackOptions(attack="map", prior="gaussian")
    target = options.target(Knowledge(toy), point)
    x = toy.activations.inputs(range(8))
    shift = torch.full((8, 10), 0.3)
    scale = 0.5 / math.sqrt(2)
    found = likelihood_of(target).energy(x, toy.model.features(x) + shift)
    assert found == pytest.approx([10 * 0.3 / scale] * 8, rel=1e-4)


def test_a_mask_network_has_the_likelihood_of_its_own_noise(digits: Subject) -> None:
    """Heteroscedastic Gaussian noise on the input: mean and standard deviation come from the mechanism."""
    point = noisy("input", 0.5)
    target = AttackOptions(attack="map", total_variation=0.0).target(Knowledge(digits), point)
    x = digits.activations.inputs(range(4))
    seen = x + 0.25
    expected = 64 * (0.5 * (0.25 / 0.5) ** 2 + math.log(0.5))
    assert likelihood_of(target).energy(x, seen).tolist() == pytest.approx([expected] * 4, rel=1e-4)


@pytest.mark.parametrize("law", ["gaussian", "laplace"])
@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_a_decoder_is_no_worse_than_ridge_nor_ridge_than_a_blind_guess(
    digits: Subject, law: str, scale: float
) -> None:
    point = noisy("cut", scale * digits.rms(), law=law)
    blind, ridge, decoder = (
        error_of(AttackOptions(attack=name, **(QUICK if name == "decoder" else {})), digits, point, 599)  # type: ignore[arg-type]
        for name in ("blind", "ridge", "decoder")
    )
    assert decoder <= 1.01 * ridge
    assert ridge < blind


def test_images_are_errors_in_three_units() -> None:
    truth = torch.zeros(2, 1, 16, 16)
    found = truth + torch.tensor([0.0, 0.5]).reshape(2, 1, 1, 1)
    errors = image_errors(found, truth, mean=torch.tensor(0.5), std=torch.tensor(0.2))
    assert errors.mse.tolist() == pytest.approx([0.0, 0.25])
    assert errors.mse_grey.tolist() == pytest.approx([0.0, (0.5 * 0.2 * 255) ** 2])
    assert errors.psnr.tolist() == pytest.approx([100.0, 20.0], abs=1e-4)
    assert errors.ssim is not None
    # of two flat images only the first factor is left: (2 m n + c) / (m^2 + n^2 + c), c = 0.01^2
    assert errors.ssim.tolist() == pytest.approx(
        [1.0, (2 * 0.5 * 0.6 + 1e-4) / (0.25 + 0.36 + 1e-4)], abs=1e-6
    )
    assert (
        image_errors(found[..., :8], truth[..., :8], mean=torch.tensor(0.5), std=torch.tensor(0.2)).ssim
        is None
    )
    with pytest.raises(ValueError, match="expected the shape of truth"):
        image_errors(found[:1], truth, mean=torch.tensor(0.5), std=torch.tensor(0.2))


def test_what_cannot_be_attacked_is_said(digits: Subject) -> None:
    opaque = replace(noisy("cut", 1.0), stages=(*noisy("input", 1.0).stages, *noisy("cut", 1.0).stages))
    assert "no likelihood" in str(AttackOptions(attack="map").why_not(opaque))
    assert "single additive noise" in str(AttackOptions(attack="bayes").why_not(opaque))
    assert "no mask" in str(AttackOptions(attack="decoder", masked=True).why_not(noisy("cut", 1.0)))
    assert "queries 1" in str(AttackOptions(attack="ridge", queries=2).why_not(noisy("cut", 0.0)))
    options = AttackOptions(attack="decoder", levels=(0.1, 0.2))
    for other in (opaque, noisy("input", 1.0)):
        assert "additive noise of one size at the cut" in str(options.why_not(other))
    with pytest.raises(
        PlugInError, match=r"levels: expected a range that has the noise of every point, 1 times"
    ):
        options.fit(options.target(Knowledge(digits), noisy("cut", digits.rms())))


@pytest.mark.parametrize("options", [{"attack": "ridge"}, {"attack": "map", "total_variation": 1.0}])
def test_an_image_that_leaves_as_it_is_is_had_back(digits: Subject, options: dict[str, Any]) -> None:
    attack, point = AttackOptions(**options), FittedPoint(point_id="all", seed=0, stages=(), leaves="input")
    truth = digits.activations.inputs(range(16))
    found = attack.fit(attack.target(Knowledge(digits), point)).reconstruct(truth, truth)
    assert float((found - truth).double().square().mean()) < 1e-3


def test_without_images_to_learn_from_map_is_what_is_left(digits: Subject) -> None:
    def part(name: str) -> None:
        raise ValueError(f"there is no part {name!r}")

    alone = Knowledge(replace(digits, part=part))
    point = noisy("cut", 0.5 * digits.rms())
    for name in ("blind", "ridge", "decoder"):
        options = AttackOptions(attack=name)  # type: ignore[arg-type]
        with pytest.raises(PlugInError, match="no images to learn from"):
            options.fit(options.target(alone, point))
    options = AttackOptions(attack="map", total_variation=1.0)
    attack = options.fit(options.target(alone, point))
    truth = digits.activations.inputs(range(32))
    seen = digits.activations.cut(truth)
    grey = float((truth - truth.new_tensor(0.0)).double().square().mean())
    assert float((attack.reconstruct(seen, truth) - truth).double().square().mean()) < 0.5 * grey


def test_a_network_without_a_gradient_is_refused_in_a_sentence(digits: Subject) -> None:
    model = digits.double_model
    broken = linear_subject(train=50, test=20, validation=20)
    original = broken.model._cut.features
    broken.model._cut.features = lambda x: original(x).detach().round()  # type: ignore[method-assign, assignment]
    options = AttackOptions(attack="map", total_variation=1.0)
    with pytest.raises(
        PlugInError, match="its output has none with respect to the image; use ridge or decoder"
    ):
        options.fit(options.target(Knowledge(broken), noise_at_cut(1.0)))
    assert model is digits.double_model


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"attack": "gan"},
            "attack: expected one of blind, class_mean, ridge, decoder, map, bayes, got 'gan'",
        ),
        ({"attack": "ridge", "epochs": 3}, "epochs: an option of decoder, not of ridge; leave it out"),
        ({"attack": "map", "epochs": 3}, "epochs: an option of decoder, not of map"),
        ({"attack": "decoder", "steps": 3}, "steps: an option of map, not of decoder"),
        (
            {"attack": "blind", "learning_rate": 1.0},
            "learning_rate: an option of decoder and map, not of blind",
        ),
        (
            {"attack": "map", "prior": "gaussian", "total_variation": 1.0},
            "total_variation: a weight of map with prior",
        ),
        ({"attack": "map", "levels": (0.1, 1.0)}, "levels: an option of decoder, not of map"),
        ({"levels": (2.0, 1.0)}, r"levels: expected two numbers, 0 < smallest < largest, got \[2.0, 1.0\]"),
        ({"attack": "map", "masked": True}, "masked: only ridge and decoder look at the mask, not map"),
        (
            {"training_precision": "float16"},
            "training_precision: expected float32 or bfloat16, got 'float16'",
        ),
        ({"queries": 0}, "queries: expected a number >= 1, got 0"),
    ],
)
def test_mistakes_in_options_get_a_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        AttackOptions(**options)  # type: ignore[arg-type]
