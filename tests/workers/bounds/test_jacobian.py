"""The exact Jacobian against torch's own, one image at a time."""

import pytest
import torch
from bounds_support import Linear, Net, normal, relu_net
from torch import Tensor, nn
from torch.nn import functional as F

from hushsweep.workers.bounds import jacobian as module
from hushsweep.workers.bounds.jacobian import active_entries, jacobian

AMPLE = 2**28


class Transformer(nn.Module):
    """One encoder layer over the rows of an image, without the routine that has no derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.mix, self.norm = nn.Linear(6, 18), nn.Linear(6, 6), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(1, 2)
        q, k, v = self.qkv(self.norm(tokens)).chunk(3, -1)
        return tokens + self.mix(F.gelu(F.scaled_dot_product_attention(q, k, v)))


def nets() -> dict[str, tuple[Net, Tensor]]:
    torch.manual_seed(0)
    conv = Net(
        nn.Conv2d(2, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2, stride=1),
        nn.Conv2d(4, 6, 2, groups=2),
        nn.ReLU(),
    )
    conv.layers[1].running_var.fill_(3.0)
    wide = Net(nn.Flatten(), nn.Linear(9, 40), nn.Tanh(), nn.Linear(40, 50), nn.ReLU())
    return {
        "mlp": (relu_net().exact, normal(5, 1, 6, 6)),
        "conv": (conv.double(), normal(5, 2, 8, 8)),
        "transformer": (Net(Transformer()).double(), normal(5, 1, 5, 6)),
        "by columns": (wide.double(), normal(5, 1, 3, 3)),
    }


def reference(net: Net, x: Tensor) -> Tensor:
    full = torch.autograd.functional.jacobian(net.features, x[None])
    return full.reshape(-1, x.numel())


@pytest.mark.parametrize("name", ["mlp", "conv", "transformer", "by columns"])
@pytest.mark.parametrize("items", [256, 7])
def test_rows_are_those_of_torch_without_the_zero_ones(
    name: str, items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = nets()[name]
    monkeypatch.setattr(module, "_MAX_ITEMS", items)
    active, found = active_entries(net, x), jacobian(net, x, memory=AMPLE)
    if name == "by columns":
        assert (active.inputs.sum(1) < active.features.sum(1)).any(), "some image must go by columns"
    for i, one in enumerate(found):
        expected = reference(net, x[i])
        assert torch.equal(active.features[i], expected.any(1))
        assert torch.equal(active.inputs[i], expected.any(0))
        assert torch.allclose(one, expected[expected.any(1)], atol=1e-13)


def test_dead_features_are_left_out_and_dead_inputs_stay_as_zero_columns() -> None:
    weight = normal(7, 5)
    weight[[1, 4]] = 0
    weight[:, 2] = 0
    (found,) = jacobian(Linear(weight), normal(1, 1, 1, 5), memory=AMPLE)
    assert torch.equal(found, weight[[0, 2, 3, 5, 6]])


def test_an_image_none_of_whose_features_is_active_has_no_rows() -> None:
    net = Net(nn.Flatten(), nn.ReLU()).double()
    found = jacobian(net, torch.stack([-torch.ones(1, 2, 2), torch.ones(1, 2, 2)]).double(), memory=AMPLE)
    assert found[0].shape == (0, 4)
    assert torch.equal(found[1], torch.eye(4, dtype=torch.float64))
    assert jacobian(net, torch.zeros(0, 1, 2, 2), memory=AMPLE) == []


def test_a_feature_at_zero_may_have_a_row() -> None:
    (found,) = jacobian(Linear(torch.eye(3)), torch.zeros(1, 1, 1, 3), memory=AMPLE)
    assert torch.equal(found, torch.eye(3))


def test_the_precision_is_that_of_the_input() -> None:
    pair, x = relu_net(), normal(3, 1, 6, 6)
    single = jacobian(pair.single, x.float(), memory=AMPLE)
    for one, exact in zip(single, jacobian(pair.exact, x, memory=AMPLE), strict=True):
        assert one.dtype == torch.float32
        assert torch.allclose(one.double(), exact, atol=1e-5)


def test_images_do_not_feel_each_other() -> None:
    net, x = nets()["conv"]
    together = jacobian(net, x, memory=AMPLE)
    for i in range(len(x)):
        assert torch.allclose(jacobian(net, x[i : i + 1], memory=AMPLE)[0], together[i], atol=1e-13)


def test_a_tight_budget_gives_the_same_and_one_too_small_says_what_is_needed() -> None:
    net, x = nets()["mlp"]
    ample = jacobian(net, x, memory=AMPLE)
    with pytest.raises(ValueError, match=r"at least (\d+) bytes, got 1000") as caught:
        jacobian(net, x, memory=1000, active=active_entries(net, x))
    needed = int(str(caught.value).split("at least ")[1].split()[0])
    assert needed > sum(one.nbytes for one in ample)
    for tight, other in zip(jacobian(net, x, memory=needed), ample, strict=True):
        assert torch.allclose(tight, other, atol=1e-13)
    with pytest.raises(ValueError, match="at least"):
        active_entries(net, x, memory=10)


def test_it_works_without_gradients_and_leaves_the_network_alone() -> None:
    net, x = nets()["conv"]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        jacobian(net, x, memory=AMPLE)
    assert not x.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
