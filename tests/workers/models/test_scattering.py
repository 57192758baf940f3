"""The scattering network against sums written out, and what it must not see."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models.networks import OWN
from hushsweep.workers.models.scattering import COEFFICIENTS, Scattering, ScatteringLinear

SIDE = 16
PLACES = SIDE // 4


@pytest.fixture(scope="module")
def image():
    """Smooth enough that a map of moduli can be sampled at every second pixel, as the fast way does."""
    noise = np.random.default_rng(0).normal(size=(SIDE, SIDE))
    return convolve2d(noise, np.full((3, 3), 1 / 9), boundary="wrap", mode="same")


@pytest.fixture(scope="module")
def coefficients(image):
    found = Scattering(SIDE).double()(torch.from_numpy(image)[None, None])
    assert found.shape == (1, COEFFICIENTS, PLACES, PLACES)
    return found[0].numpy()


def gaussian(width, angle=0.0, slant=1.0, reach=24):
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = down * math.cos(angle) + right * math.sin(angle)
    across = right * math.cos(angle) - down * math.sin(angle)
    return np.exp(-(along**2 + (slant * across) ** 2) / (2 * width**2)) * slant / (
        2 * math.pi * width**2
    ), along


def wavelet(scale, angle):
    envelope, along = gaussian(0.8 * 2**scale, angle, 0.5)
    wave = envelope * np.exp(1j * 0.75 * math.pi / 2**scale * along)
    return wave - wave.sum() / envelope.sum() * envelope


def convolved(values, kernel):
    """Around the ends, by sums over the kernel alone."""
    return convolve2d(values, kernel, mode="same", boundary="wrap")


def places(values):
    """At every fourth pixel of the image inside its border."""
    return values[4:-4:4, 4:-4:4]


def test_coefficients_are_the_sums_of_the_definition(image, coefficients):
    bordered = np.pad(image, 4, mode="reflect")
    low, _ = gaussian(1.6)
    np.testing.assert_allclose(coefficients[0], places(convolved(bordered, low)), atol=1e-5)
    for angle in range(8):
        fine = np.abs(convolved(bordered, wavelet(0, angle * math.pi / 8)))
        np.testing.assert_allclose(coefficients[1 + angle], places(convolved(fine, low)), atol=1e-5)
        coarse = np.abs(convolved(bordered, wavelet(1, angle * math.pi / 8)))
        # kept at every second pixel, a modulus is known to some percent
        expected = places(convolved(coarse, low))
        np.testing.assert_allclose(coefficients[9 + angle], expected, atol=0.06 * expected.max())
    fine = np.abs(convolved(bordered, wavelet(0, 3 * math.pi / 8)))
    for angle in range(8):
        second = np.abs(convolved(fine, wavelet(1, angle * math.pi / 8)))
        expected = places(convolved(second, low))
        np.testing.assert_allclose(coefficients[17 + 3 * 8 + angle], expected, atol=0.06 * expected.max())


def test_a_flat_image_has_no_texture():
    found = Scattering(SIDE)(torch.full((2, 3, SIDE, SIDE), 0.7)).reshape(2, 3, COEFFICIENTS, PLACES, PLACES)
    torch.testing.assert_close(found[:, :, 0], torch.full((2, 3, PLACES, PLACES), 0.7), rtol=1e-4, atol=1e-4)
    assert found[:, :, 1:].abs().max() < 1e-4


def test_stripes_answer_at_their_own_angle_and_scale():
    waves = torch.cos(0.75 * math.pi * torch.arange(32.0)).expand(32, 32)  # along a row: the angle pi / 2
    found = Scattering(32)(waves[None, None])[0].mean((1, 2))
    assert found[1:17].argmax() == 4
    slower = Scattering(32)(torch.cos(0.375 * math.pi * torch.arange(32.0))[:, None].expand(1, 1, 32, 32))
    assert slower[0, 1:17].mean((1, 2)).argmax() == 8  # down a column: the angle 0, the second scale


def test_images_do_not_see_each_other():
    transform, x = Scattering(SIDE), torch.rand(70, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    whole = transform(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(whole[65:66], transform(x[65:66]))


def test_a_gradient_reaches_the_image():
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(Scattering(8).double(), x.requires_grad_())


def test_the_network_learns_its_classifier_alone():
    network = OWN["scattering"].build(num_classes=10, in_channels=3, side=32)
    assert isinstance(network, ScatteringLinear)
    assert [name for name, _ in network.named_parameters()] == ["classifier.weight", "classifier.bias"]
    assert network.forward_features(torch.zeros(2, 3, 32, 32)).shape == (2, 15_552)


@pytest.mark.parametrize("side", [30, 4])
def test_sides_that_do_not_fit(side):
    with pytest.raises(
        PlugInError, match=f"'scattering': expected images whose side is .* got {side}; give input_size"
    ):
        OWN["scattering"].build(num_classes=2, in_channels=1, side=side)
