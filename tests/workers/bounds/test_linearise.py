"""Products with the Jacobian against forward-mode differentiation, finite differences and the adjoint identity."""

import pytest
import torch
from bounds_support import Net, normal, relu_net
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model

from hushsweep.workers.bounds.search import items_that_fit
from hushsweep.workers.bounds.search.linearise import Linearisation, linearisation_bytes


class Attention(nn.Module):
    """Scaled dot-product attention of image rows, fused where torch fuses it."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, 1)
        return F.scaled_dot_product_attention(rows, rows.flip(1), rows * 2).tanh()


def nets() -> dict[str, tuple[Net, Tensor]]:
    torch.manual_seed(0)
    conv = Net(
        nn.Upsample(scale_factor=1.5, mode="bilinear"),
        nn.Conv2d(2, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 2, groups=2),
        nn.GELU(),
    )
    conv.layers[2].running_var.fill_(3.0)
    norm = Net(nn.LayerNorm(8), nn.Linear(8, 5), nn.SiLU(), nn.Softmax(-1))
    return {
        "conv": (conv.double(), normal(3, 2, 8, 8)),
        "attention": (Net(Attention()).double(), normal(3, 1, 6, 8)),
        "norm": (norm.double(), normal(3, 2, 8)),
        "relu": (relu_net().exact, normal(3, 1, 6, 6)),
    }


@pytest.mark.parametrize("name", ["conv", "attention", "norm", "relu"])
def test_products_are_those_of_the_jacobian(name: str) -> None:
    net, x = nets()[name]
    linear = Linearisation(net.features, x)
    q = net.features(x)[0].numel()
    v, u = normal(len(x), x[0].numel(), seed=1), normal(len(x), q, seed=2)
    for i in range(len(x)):
        jacobian = torch.func.jacrev(lambda z: net.features(z[None])[0])(x[i]).reshape(q, -1)
        assert torch.allclose(linear.matvec(v)[i], jacobian @ v[i], atol=1e-12)
        assert torch.allclose(linear.rmatvec(u)[i], jacobian.T @ u[i], atol=1e-12)
    step = 1e-6 * v.reshape(x.shape)
    difference = (net.features(x + step) - net.features(x - step)).flatten(1) / 2e-6
    assert torch.allclose(linear.matvec(v), difference, atol=1e-6)


def test_some_rows_can_be_kept() -> None:
    net, x = nets()["conv"]
    linear, rows = Linearisation(net.features, x), torch.tensor([2, 0])
    v = normal(3, x[0].numel())
    assert torch.allclose(linear.restrict(rows).matvec(v[rows]), linear.matvec(v)[rows], atol=1e-12)


@pytest.mark.parametrize(("name", "size"), [("resnet18", 48), ("swin_t", 64)])
def test_real_networks_agree_with_forward_mode(name: str, size: int) -> None:
    torch.manual_seed(0)
    model = get_model(name)
    layers = [model.features] if name == "swin_t" else list(model.children())[:-2]
    net = Net(*layers).double()
    x = normal(2, 3, size, size)
    linear = Linearisation(net.features, x)
    v = normal(*x.shape, seed=1)
    expected = torch.func.jvp(net.features, (x,), (v,))[1].flatten(1)
    found = linear.matvec(v.flatten(1))
    assert (found - expected).norm() < 1e-10 * expected.norm()
    u = normal(*found.shape, seed=2)
    assert (u * found).sum().item() == pytest.approx(
        (linear.rmatvec(u) * v.flatten(1)).sum().item(), rel=1e-10
    )


def test_the_network_is_left_as_it_was() -> None:
    net, x = nets()["conv"]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    linear = Linearisation(net.features, x)
    linear.rmatvec(linear.matvec(normal(3, x[0].numel())))
    assert not x.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in net.parameters())


def test_memory_is_counted_per_row_without_the_weights() -> None:
    net = Net(nn.Flatten(), nn.Linear(100, 5000), nn.Tanh(), nn.Linear(5000, 10)).double()
    x = normal(1, 1, 10, 10)
    kept = linearisation_bytes(net.features, x)
    activations, weights = 8 * 5000, 8 * 100 * 5000
    assert activations <= kept < 8 * activations < weights
    assert items_that_fit(net, x, 2**40) == 512
    assert items_that_fit(net, x, 1) == 1
    assert 2 < items_that_fit(net, x, 4_000_000) < 100
