"""Mechanisms that learn keep one contract, and each does what its paper says of it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.mechanisms import MECHANISMS, ActivationStatistics, find_mechanism
from hushsweep.workers.mechanisms.learned import Batch, LearnedMechanism
from hushsweep.workers.mechanisms.mask_networks import HALF
from hushsweep.workers.noise import unit_noise
from hushsweep.workers.testing import check_learned_mechanism

IMAGE = (1, 8, 8)
EXAMPLES = {
    "ani": [
        {"penalty": 1.0},
        {"penalty": 1.0, "network": "wconv2"},
        {"penalty": 0.5, "network": "wconv4", "activation": "sigmoid", "server": "tuned"},
    ],
    "cloak": [{"penalty": 1.0}, {"penalty": 1e-6, "suppress_from": 0.2, "suppress_above": 0.01801}],
    "shredder": [{"penalty": 0.1}, {"penalty": 0.1, "tensors": 1}],
    "dpfe": [{"noise_scale": 0.5}, {"noise_scale": 1.0, "components": 3}],
    "obfuscator": [{"penalty": 1.0}],
    "bottleneck": [{"noise_scale": 0.5, "width": 3}, {"noise_scale": 1.0, "width": 2, "server": "frozen"}],
    "trained_gaussian": [{"noise_scale": 0.5}],
    "dp_sgd": [{"noise_multiplier": 1.0}, {"target_epsilon": 3.0, "trained": "head", "server": "tuned"}],
    "private_activations": [
        {"noise_multiplier": 0.1, "clip_norm": 5.0},
        {"noise_multiplier": 0.1, "clip_norm": 500.0, "label_epsilon": 2.0},
        {"noise_multiplier": 1.0, "queries": "clipped"},
    ],
}
LEARNED = {name for name, cls in MECHANISMS.items() if issubclass(cls, LearnedMechanism)}


def test_every_learned_mechanism_is_in_the_suite() -> None:
    assert set(EXAMPLES) == LEARNED


@pytest.mark.parametrize(("name", "parameters"), [(name, p) for name, many in EXAMPLES.items() for p in many])
def test_contract(name, parameters) -> None:
    check_learned_mechanism(MECHANISMS[name](**parameters))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("cloak", {"penalty": 1.0}),
        ("shredder", {"penalty": 0.1}),
        ("dpfe", {"noise_scale": 0.5}),
        ("bottleneck", {"noise_scale": 0.5}),
        ("trained_gaussian", {"noise_scale": 0.5}),
        ("private_activations", {"noise_multiplier": 0.1, "clip_norm": 5.0}),
    ],
)
def test_contract_at_a_cut_that_is_a_vector(name, parameters) -> None:
    check_learned_mechanism(MECHANISMS[name](**parameters), (24,))


def noise_of(count: int, shape=IMAGE, *, draw: int = 0) -> Callable[[str], torch.Tensor]:
    return lambda law: unit_noise(law, shape, seed=0, purpose="test", image_indices=range(count), draw=draw)


def test_cloak_sends_a_constant_in_place_of_what_it_suppresses() -> None:
    mechanism = MECHANISMS["cloak"](penalty=1.0)
    client = mechanism.client(IMAGE)
    with torch.no_grad():
        client.rho.uniform_(-3, 3)
        client.mu.normal_()
    fitted = mechanism.bind(client, "x")
    std = mechanism.std(client).detach()
    assert mechanism.min_std <= std.min()
    assert std.max() <= mechanism.max_std
    suppressed = std > mechanism.suppress_above * mechanism.max_std
    assert 0.05 < float(suppressed.float().mean()) < 0.95
    assert fitted.suppressed == pytest.approx(float(suppressed.float().mean()))
    images = torch.randn(6, *IMAGE)
    outs = torch.stack([fitted.apply(images, noise_of(6, draw=draw)) for draw in range(3)])
    constant = client.mu.detach().expand_as(outs)
    assert torch.equal(outs[:, :, suppressed], constant[:, :, suppressed])
    assert bool((outs[:, :, ~suppressed].std(0) > 0).all())
    mean, std_left = fitted.moments(images)
    assert mean.shape == std_left.shape == (6, int((~suppressed).sum()))
    never = MECHANISMS["cloak"](penalty=1.0, suppress_from=1.0).bind(client, "x")
    assert never.suppressed == 0


def test_cloak_is_penalised_until_it_suppresses() -> None:
    mechanism = MECHANISMS["cloak"](penalty=2.0, suppress_from=0.5)
    client = mechanism.client(IMAGE)
    values, labels = torch.randn(8, *IMAGE), torch.zeros(8, dtype=torch.int64)

    def grads(progress: float) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        client.zero_grad()
        batch = Batch(values, labels, None, lambda a: a.flatten(1)[:, :2], progress)
        mechanism.loss(client, batch).backward()
        return client.rho.grad, client.mu.grad

    early, late = grads(0.1), grads(0.6)
    assert early[0] is not None
    assert early[0].abs().min() > 0
    assert late[0] is None or not late[0].any(), "sigma stays once entries are suppressed"
    assert late[1] is not None
    assert late[1].any()


def test_shredder_draws_its_tensors_alike_and_a_query_always_gets_the_same() -> None:
    torch.manual_seed(0)
    mechanism = MECHANISMS["shredder"](penalty=1.0, tensors=5)
    client = mechanism.client((7,))
    fitted = mechanism.bind(client, "x")
    zeros = torch.zeros(10_000, 7)
    out = fitted.apply(zeros, noise_of(10_000, (7,)))
    chosen = torch.cdist(out, client.noise.detach()).argmin(1)
    assert torch.allclose(out, client.noise.detach()[chosen], atol=1e-6), "one of the learned tensors"
    counts = torch.bincount(chosen, minlength=5)
    # 20 % each; a count off by six standard deviations (40) happens once in 10^8
    assert counts.tolist() == pytest.approx([2000] * 5, abs=240)
    assert torch.equal(out, fitted.apply(zeros, noise_of(10_000, (7,))))
    assert not torch.equal(out, fitted.apply(zeros, noise_of(10_000, (7,), draw=1)))
    assert torch.equal(out[100:110], fitted.apply(zeros[:110], noise_of(110, (7,)))[100:])


def test_shredder_starts_as_laplace_noise() -> None:
    torch.manual_seed(0)
    noise = MECHANISMS["shredder"](penalty=1.0, tensors=100).client((1000,)).noise.detach()
    assert float(noise.mean()) == pytest.approx(0.6, abs=0.05)
    assert float((noise - 0.6).abs().mean()) == pytest.approx(1.2, abs=0.05)


def finished(mechanism, values: torch.Tensor) -> nn.Module:
    client = mechanism.client(tuple(values.shape[1:]))
    mechanism.finish(client, lambda: iter(values.split(50)))
    return client


def test_dpfe_finds_numpys_principal_components() -> None:
    values = torch.randn(300, 2, 3, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7).reshape(
        2, 3
    )
    client = finished(MECHANISMS["dpfe"](noise_scale=1.0, components=4), values)
    flat = values.flatten(1).double().numpy()
    eigenvalues, vectors = np.linalg.eigh(np.cov(flat, rowvar=False))
    largest = np.argsort(eigenvalues)[::-1][:4]
    np.testing.assert_allclose(client.mean, flat.mean(0), atol=1e-6)
    np.testing.assert_allclose(client.std, np.sqrt(eigenvalues[largest]), rtol=1e-6)
    overlap = np.abs(client.directions.double().numpy().T @ vectors[:, largest])
    np.testing.assert_allclose(overlap, np.eye(4), atol=1e-5)
    largest_entries = client.directions.gather(0, client.directions.abs().argmax(0, keepdim=True))
    assert bool((largest_entries > 0).all()), "no sign is left to chance"


def test_dpfe_without_noise_gives_the_activations_back() -> None:
    values = torch.randn(300, 2, 3, generator=torch.Generator().manual_seed(0)) + 5
    mechanism = MECHANISMS["dpfe"](noise_scale=0.0, components=6)
    fitted = mechanism.bind(finished(mechanism, values), "x")
    assert torch.allclose(fitted.apply(values, noise_of(300, (2, 3))), values, atol=1e-4)
    few = MECHANISMS["dpfe"](noise_scale=0.0, components=2)
    fewer = few.bind(finished(few, values), "x").apply(values, noise_of(300, (2, 3)))
    assert int(torch.linalg.matrix_rank((fewer - fewer.mean(0)).flatten(1), atol=1e-2)) == 2


def test_dpfe_survives_fewer_images_than_components_and_constant_features() -> None:
    mechanism = MECHANISMS["dpfe"](noise_scale=1.0, components=6)
    values = torch.randn(3, 6)
    out = mechanism.bind(finished(mechanism, values), "x").apply(values, noise_of(3, (6,)))
    assert bool(torch.isfinite(out).all())
    constant = torch.ones(5, 6, requires_grad=True)
    labels = torch.arange(5) % 2
    loss = mechanism.loss(mechanism.client((6,)), Batch(constant, labels, labels, lambda a: a[:, :2], 0.0))
    (gradient,) = torch.autograd.grad(loss, constant)
    assert bool(torch.isfinite(gradient).all())


def test_dpfe_does_not_reward_smaller_features() -> None:
    """A unit that is held fixed would: the network shrank its features 10 times and forgot its task."""
    values = torch.randn(64, 5, requires_grad=True)
    labels = torch.arange(64) % 4
    batch = Batch(values, labels // 2, labels, lambda a: torch.zeros(len(a), 2), 0.0)
    torch.manual_seed(0)
    loss = MECHANISMS["dpfe"](noise_scale=1.0).loss(nn.Module(), batch)
    (gradient,) = torch.autograd.grad(loss, values)
    assert float(gradient.abs().max()) > 1e-4
    assert float((gradient * values.detach()).sum()) == pytest.approx(0, abs=1e-5), (
        "along the scale nothing changes"
    )


def test_obfuscator_and_its_decoder_pull_against_each_other() -> None:
    torch.manual_seed(0)
    mechanism = MECHANISMS["obfuscator"](penalty=1.0)
    client = mechanism.client(IMAGE).train()
    values = torch.randn(32, *IMAGE)
    batch = Batch(values, torch.zeros(32, dtype=torch.int64), None, lambda a: torch.zeros(len(a), 2), 0.5)
    decoder = mechanism.adversary_optimiser(client)
    errors = []
    for _ in range(60):
        loss = mechanism.adversary_loss(client, batch)
        decoder.zero_grad()
        loss.backward()
        decoder.step()
        errors.append(loss.item())
    assert errors[-1] < 0.8 * errors[0], "the decoder learns to undo"
    assert all(p.grad is None for p in client.encoder.parameters()), "its steps leave the encoder alone"
    encoder = mechanism.optimiser(client)
    for _ in range(20):
        encoder.zero_grad()
        mechanism.loss(client, batch).backward()
        encoder.step()
    assert mechanism.adversary_loss(client, batch).item() > 1.05 * errors[-1], (
        "the encoder learns to prevent it"
    )


def test_trained_gaussian_is_gaussian_of_the_same_size() -> None:
    mechanism = MECHANISMS["trained_gaussian"](noise_scale=0.5)
    client = mechanism.client(IMAGE).train()
    values = 3 * torch.randn(10, *IMAGE)
    client(values)
    fitted = mechanism.bind(client.eval(), "x")
    std = 0.5 * float(values.square().mean().sqrt())
    assert fitted.noise_std == pytest.approx(std, rel=1e-6)
    plain = MECHANISMS["gaussian"](noise_std=fitted.noise_std).fit(ActivationStatistics(lambda: 1.0))
    assert torch.equal(fitted.apply(values, noise_of(10)), plain.apply(values, noise_of(10)))
    for mine, theirs in zip(fitted.moments(values), plain.moments(values), strict=True):
        assert torch.equal(mine, theirs)
    client(torch.full_like(values, 100.0))
    assert float(client.rms) == pytest.approx(2 * std, rel=1e-6), "in eval mode the RMS stays"


class Constant(nn.Module):
    """A mask network that gives every entry the same u."""

    def __init__(self, u: float) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.tensor(u))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.u.expand_as(values)


@pytest.mark.parametrize("activation", ["exp_tanh", "sigmoid"])
def test_ani_with_a_constant_mask_is_scaling_and_gaussian_noise(activation: str) -> None:
    fitted = MECHANISMS["ani"](penalty=1.0, activation=activation).bind(Constant(HALF[activation]), "x")
    values = torch.randn(10, *IMAGE)
    plain = MECHANISMS["gaussian"](noise_std=0.5).fit(ActivationStatistics(lambda: 1.0))
    assert torch.allclose(fitted.apply(values, noise_of(10)), plain.apply(0.5 * values, noise_of(10)))
    assert torch.allclose(fitted.mask(values), torch.tensor(0.5))


def test_anis_penalty_grows_until_the_warm_up_ends() -> None:
    mechanism = MECHANISMS["ani"](penalty=2.0, warm_up=0.5)
    values = torch.zeros(4, *IMAGE)

    def loss(progress: float) -> float:
        batch = Batch(
            values, torch.zeros(4, dtype=torch.int64), None, lambda a: torch.zeros(len(a), 2), progress
        )
        return mechanism.loss(Constant(HALF["exp_tanh"]), batch).item()

    # cross-entropy of no knowledge is log 2, and so is -log(1 - w) at w = 1/2
    found = [loss(progress) / np.log(2) for progress in (0, 0.25, 0.5, 1)]
    assert found == pytest.approx([1, 2, 3, 3], rel=1e-6)


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("ani", {}, "expected exactly one of penalty, got 0"),
        ("ani", {"penalty": 0.0}, "penalty: expected a finite number > 0, got 0.0"),
        ("ani", {"penalty": -1.0}, "penalty: expected a finite number > 0, got -1.0"),
        ("cloak", {"penalty": 1.0, "min_std": 9.0}, "min_std: expected a number < max_std"),
        ("dpfe", {"noise_scale": 1.0, "server": "frozen"}, "server: dpfe learns the network's features"),
        ("trained_gaussian", {"noise_scale": 1.0, "server": "frozen"}, "server: nothing of trained_gaussian"),
        ("bottleneck", {"weights": "x.safetensors"}, "expected exactly one of noise_scale, got 0"),
        ("ani", {"penalty": 1.0, "epochs": 0}, "epochs: expected a number >= 1, got 0"),
    ],
)
def test_bad_values_are_refused(name, parameters, said) -> None:
    with pytest.raises(ValueError, match=said):
        MECHANISMS[name](**parameters)


def test_a_client_from_outside_needs_no_penalty() -> None:
    assert MECHANISMS["ani"](weights="x.safetensors").penalty is None


@pytest.mark.parametrize(
    ("name", "parameters", "shape", "said"),
    [
        ("ani", {"penalty": 1.0}, (64,), "cut the model at a convolution"),
        ("bottleneck", {"noise_scale": 1.0, "width": 9}, (8,), "width: expected at most 8"),
        ("bottleneck", {"noise_scale": 1.0}, (8, 8), "choose another cut"),
        ("ani", {"penalty": 1.0, "network": "wconv3"}, IMAGE, "unknown network 'wconv3'"),
    ],
)
def test_a_client_that_cannot_be_built(name, parameters, shape, said) -> None:
    with pytest.raises(ValueError, match=said):
        MECHANISMS[name](**parameters).client(shape)


def test_a_class_that_is_no_mechanism_says_what_it_lacks() -> None:
    with pytest.raises(PlugInError, match=r"lacks fit; one that learns is derived from hushsweep\.workers"):
        find_mechanism("learning_support:NeitherFitsNorLearns")
    assert find_mechanism("learning_support:Halved").LEVELS == ("penalty",)
