"""A network in two halves at a cut, through its own methods or through a hook on one module."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from hushsweep.workers.errors import PlugInError


class Cut(nn.Module):
    """A network as ``head(features(x))``, of which either half can be differentiated and vectorised."""

    def features(self, x: Tensor) -> Tensor:
        """The activation at the cut, ``(n, *feature)``; may share memory with the network's other values."""
        raise NotImplementedError

    def head(self, a: Tensor) -> Tensor:
        """Logits ``(n, num_classes)`` of an activation; may write into it."""
        raise NotImplementedError


def one_tensor(value: Any, what: str) -> Tensor:
    """Return a value that has to be one tensor.

    Raises:
        PlugInError: it is a tuple, a dictionary or anything else.
    """
    if isinstance(value, Tensor):
        return value
    raise PlugInError(
        f"{what} is of type {type(value).__name__}, not one tensor; choose another module as the cut"
    )


class MethodCut(Cut):
    """A network that comes split: ``forward_features`` and ``forward_head``, as timm calls them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def features(self, x: Tensor) -> Tensor:  # noqa: D102
        return one_tensor(self.network.forward_features(x), "forward_features(x)")

    def head(self, a: Tensor) -> Tensor:  # noqa: D102
        return one_tensor(self.network.forward_head(a), "forward_head(a)")


class NormCut(MethodCut):
    """As MethodCut, with the normalisation ``norm`` that ends ``forward_features`` moved into the head."""

    def __init__(self, network: nn.Module) -> None:
        # Without its norm, on a shallow copy: the caller's network stays whole, the weights are shared.
        without_norm = copy.copy(network)
        without_norm._modules = {**network._modules, "norm": nn.Identity()}
        super().__init__(without_norm)
        self.norm = network.get_submodule("norm")

    def head(self, a: Tensor) -> Tensor:  # noqa: D102
        return super().head(self.norm(a))


class HookCut(Cut):
    """Any module of a network that cannot be traced; the head runs the whole network, hence is slower."""

    def __init__(self, network: nn.Module, path: str, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.path = path
        self.input_shape = input_shape

    def features(self, x: Tensor) -> Tensor:  # noqa: D102
        return self._run(x, held=None)[0]

    def head(self, a: Tensor) -> Tensor:  # noqa: D102
        return self.head_seeing(a.new_zeros(len(a), *self.input_shape), a)

    def head_seeing(self, x: Tensor, a: Tensor) -> Tensor:
        """Logits of ``x`` with the module's output replaced by ``a``; at a true cut ``x`` does not matter."""
        return self._run(x, held=a)[1]

    def _run(self, x: Tensor, held: Tensor | None) -> tuple[Tensor, Tensor]:
        outputs: list[Tensor] = []

        def hook(_module: nn.Module, _arguments: Any, output: Any) -> Tensor | None:
            # Cloned at once: an in-place ReLU may follow.
            outputs.append(one_tensor(output, f"cut {self.path!r}: the module's output").clone())
            return held

        handle = self.network.get_submodule(self.path).register_forward_hook(hook)
        try:
            logits = one_tensor(self.network(x), "the network's output")
        finally:
            handle.remove()
        if len(outputs) != 1:
            raise PlugInError(
                f"cut {self.path!r}: this module runs {len(outputs)} times per image, so it is no one place; "
                "choose a module that runs once"
            )
        return outputs[0], logits


def is_cut(network: nn.Module, path: str, input_shape: tuple[int, ...]) -> bool:
    """Whether the logits depend on the input through one module's output alone.

    Holds that output and changes the input, in float64, on a copy of the network in which every weight is
    moved a little: a fresh residual branch may be scaled by exactly 0, which would hide a way around the cut.

    Args:
        network: In eval mode, on the CPU.
        path: Of the module.
        input_shape: ``(channels, height, width)`` of the network's input.

    Raises:
        PlugInError: the module does not run exactly once, or its output is not one tensor.
    """
    generator = torch.Generator().manual_seed(0)
    moved = copy.deepcopy(network).double()
    with torch.no_grad():
        for weight in moved.parameters():
            scale = weight.square().mean().sqrt().clamp(min=1e-3) * 0.1
            weight.add_(scale * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
        cut = HookCut(moved, path, input_shape)
        x, other = torch.randn(2, 2, *input_shape, generator=generator, dtype=torch.float64)
        held = cut.features(x)
        logits, changed = cut.head_seeing(x, held.clone()), cut.head_seeing(other, held.clone())
    return bool((logits - changed).abs().max() <= 1e-10 * logits.abs().max().clamp(min=1e-300))
