"""Mask networks keep the image's shape, and their weights are exact where tanh rounds to 1."""

import math

import mpmath
import pytest
import torch

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.mechanisms.mask_networks import HALF, MASK_NETWORKS, mask_weights

ACTIVATIONS = ["exp_tanh", "sigmoid"]


@pytest.mark.parametrize("name", MASK_NETWORKS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 7, 10), (2, 1, 1), (1, 13, 5)])
def test_as_many_numbers_as_the_image(name, shape):
    network = MASK_NETWORKS[name](shape, "exp_tanh")
    x = torch.randn(2, *shape)
    u = network(x)
    assert u.shape == x.shape
    u.sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())
    assert not torch.equal(network.double()(x.double()).float(), torch.zeros_like(x))


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("wconv2", [(3, 8), (8, 3)]),
        ("wconv4", [(3, 8), (8, 16), (16, 8), (8, 3)]),
        ("wconv4_wide", [(3, 16), (16, 32), (32, 16), (16, 3)]),
    ],
)
def test_widths(name, widths):
    network = MASK_NETWORKS[name]((3, 32, 32), "exp_tanh")
    convolutions = [*network.encoder, *network.decoder]
    assert [(layer.in_channels, layer.out_channels) for layer in convolutions] == widths


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", MASK_NETWORKS)
def test_half_stays_at_first(name, activation):
    """Exactly where the last convolution sees nothing, and about that on noise."""
    torch.manual_seed(0)
    network = MASK_NETWORKS[name]((1, 28, 28), activation)
    bias = network.decoder[-1].bias.detach()
    torch.testing.assert_close(mask_weights(bias, activation).w, torch.tensor([0.5]))
    w = mask_weights(network(torch.randn(8, 1, 28, 28)), activation).w
    assert 0.3 < w.mean() < 0.7
    assert HALF["exp_tanh"] == pytest.approx(-0.5991, abs=5e-5)  # arXiv:2104.02261: u = 0 gives 0.7616
    assert mask_weights(torch.zeros(1)).w.item() == pytest.approx(0.7616, abs=5e-5)


def exact(u: float, activation: str) -> tuple[float, float]:
    """w and log(1 - w), as mpmath has them, with enough digits for 1 - w."""
    with mpmath.workdps(60):
        if activation == "sigmoid":
            return float(1 / (1 + mpmath.exp(-u))), float(-mpmath.log1p(mpmath.exp(u)))
        y = mpmath.exp(u)
        # 1 - tanh(y) = 2 / (exp(2 y) + 1), and for large y that is 2 exp(-2 y).
        log1m = mpmath.log(2) - 2 * y - (mpmath.log1p(mpmath.exp(-2 * y)) if u < 10 else 0)
        return float(mpmath.tanh(y)), float(log1m)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_values(activation, dtype, rtol):
    u = torch.tensor([-80, -20, -5, -1, -0.5, 0, 0.5, 1, 2, 2.25, 3, 5, 20, 80], dtype=dtype)
    w, log1m = mask_weights(u, activation)
    assert w.dtype == log1m.dtype == dtype
    expected = [exact(value, activation) for value in u.tolist()]
    # log(1 - w) is absolutely that exact near 0, where it is about -w.
    slack = rtol if dtype == torch.float32 else 1e-15
    for (true_w, true_log), got_w, got_log in zip(expected, w.tolist(), log1m.tolist(), strict=True):
        assert got_w == pytest.approx(true_w, rel=10 * rtol)
        # An error of u's last digit moves exp(u) by |u| of them.
        assert got_log == pytest.approx(true_log, rel=100 * rtol, abs=slack)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients(activation, dtype):
    """Closed forms: dw/du = y (1 - w^2), d log(1 - w)/du = -y (1 + w) with y = exp(u); w (1 - w) and -w."""
    u = torch.tensor([-80, -3, -0.6, 0, 1, 2.5, 5, 20, 80], dtype=dtype, requires_grad=True)
    w, log1m = mask_weights(u, activation)
    (dw,) = torch.autograd.grad(w.sum(), u, retain_graph=True)
    (dlog,) = torch.autograd.grad(log1m.sum(), u)
    v = u.detach().double()
    if activation == "exp_tanh":
        y = v.exp()
        expected = y / y.clamp(max=300).cosh().square(), -y * (1 + y.tanh())
    else:
        expected = v.sigmoid() * (-v).sigmoid(), -v.sigmoid()
    tolerance = 2e-5 if dtype == torch.float32 else 1e-12
    for got, true in zip((dw, dlog), expected, strict=True):
        assert torch.isfinite(got).all()
        torch.testing.assert_close(got.double(), true, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_beyond_saturation_everything_stays_finite(dtype):
    u = torch.tensor([100.0, 1e4, math.inf], dtype=dtype, requires_grad=True)
    w, log1m = mask_weights(u)
    (gradient,) = torch.autograd.grad((w + log1m).sum(), u)
    assert torch.equal(w.detach(), torch.ones(3, dtype=dtype))
    assert torch.isfinite(log1m).all()
    assert torch.isfinite(gradient).all()


def test_an_unknown_activation():
    with pytest.raises(PlugInError, match=r"unknown activation 'tanh'.*Known: exp_tanh, sigmoid"):
        mask_weights(torch.zeros(1), "tanh")
    for build in MASK_NETWORKS.values():
        with pytest.raises(PlugInError, match="unknown activation"):
            build((1, 8, 8), "relu")
