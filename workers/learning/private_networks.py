"""What of a network can be trained image by image."""

import copy
from collections.abc import Callable

import torch
from opacus.validators import ModuleValidator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD

from hushsweep.workers.devices import in_channels_last
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning.per_example import PrivateSteps
from hushsweep.workers.learning.released import head_parameters
from hushsweep.workers.mechanisms.dp_sgd import DpSgd
from hushsweep.workers.models import Trainable
from hushsweep.workers.models.networks import OWN


def select(network: Trainable, trained: str) -> None:
    """Let gradients flow into what is trained alone, and switch off what Opacus' hooks cannot follow.

    Args:
        network: changed in place.
        trained: ``network``, or ``head``: what comes after the cut.
    """
    for module in network.network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment] # an activation, which gives the same
    if trained == "head":
        learned = set(head_parameters(network))
        for parameter in network.parameters():
            parameter.requires_grad_(parameter in learned)


def check_network(mechanism: DpSgd, name: str, network: Trainable) -> None:
    """Find out, on a copy, whether a network has gradients of single images.

    Raises:
        PlugInError: a layer mixes the images of a batch, Opacus cannot follow a module, or nothing is trained.
    """
    side = min(network.input_shape[1:])
    if mechanism.augmentations > 1 and mechanism.crop_padding >= side:
        raise PlugInError(
            f"crop_padding: expected less than {side}, the side of the images, got {mechanism.crop_padding}"
        )
    network = copy.deepcopy(network)
    select(network, mechanism.trained)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise PlugInError(
            f"trained: head: model {name!r} has no weights after this cut; choose an earlier cut, or trained: network"
        )
    _check_layers(name, network.network)
    if mechanism.clips is None:
        return
    try:
        wrong = _wrong_gradient(mechanism, network)
    except Exception as error:  # raised by hooks in other people's modules, of any kind
        wrong = str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
    if wrong is not None:
        raise PlugInError(
            f"model {name!r}: Opacus does not find the gradients of its single images ({wrong}); choose another "
            "network, or trained: head"
        )


def _check_layers(name: str, network: nn.Module) -> None:
    modules = list(network.named_modules())
    mixing = [path for path, module in modules if _mixes(module)]
    if mixing:
        more = f" and {len(mixing) - 3} more" if len(mixing) > 3 else ""
        instead = f"{name}_gn" if f"{name}_gn" in OWN else "a network with group or layer normalisation"
        raise PlugInError(
            f"model {name!r}: dp_sgd needs gradients of single images, and batch normalisation mixes them "
            f"({', '.join(mixing[:3])}{more}); use {instead}"
        )
    for path, module in modules:
        validate = ModuleValidator.VALIDATORS.get(type(module))
        if _is_trained(module) and ((validate and validate(module)) or any(True for _ in module.buffers())):
            raise PlugInError(
                f"model {name!r}: Opacus has no gradients of single images for {path} ({type(module).__name__}); "
                "choose another network, or trained: head"
            )


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters(recurse=False))


def _mixes(module: nn.Module) -> bool:
    """Whether a layer normalises over the batch; a frozen one does not."""
    frozen = any(True for _ in module.parameters()) and not _is_trained(module)
    return isinstance(module, _BatchNorm) and not frozen


def _wrong_gradient(mechanism: DpSgd, network: Trainable) -> str | None:
    """Name a parameter whose gradients of two images do not sum up to that of both."""
    copies = min(2, mechanism.augmentations)
    for gradients in dict.fromkeys(("per_sample", mechanism.gradients)):
        tried = copy.deepcopy(network).to(memory_format=torch.channels_last)
        losses = _losses(tried.eval(), mechanism.trained, 2 * copies)
        steps = PrivateSteps(
            tried.network,
            SGD(tried.parameters(), lr=0.1),
            noise_multiplier=0.0,
            clip_norm=1.0,
            batch_size=2,
            physical_batch=None,
            gradients=gradients,
            copies=copies,
        )
        found = losses().reshape(2, copies).mean(1)
        steps.differentiate(found)
        if gradients == "ghost":  # finds norms alone; whatever it cannot do has been raised
            continue
        for path, parameter in tried.network.named_parameters():
            if parameter.requires_grad and not _adds_up(parameter):
                return path
    return None


def _losses(network: Trainable, trained: str, rows: int) -> Callable[[], Tensor]:
    """Gives cross-entropies of random images, in train mode behind the cut."""
    x = torch.randn(rows, *network.input_shape, generator=torch.Generator().manual_seed(0))
    x = in_channels_last(x.to(network.mean))
    labels = torch.zeros(rows, dtype=torch.int64, device=x.device)
    with torch.no_grad():
        values = x if trained == "network" else network.features(x)
    network.train()
    logits = network if trained == "network" else network.head
    return lambda: nn.functional.cross_entropy(logits(values), labels, reduction="none")


def _adds_up(parameter: nn.Parameter) -> bool:
    found, gradient = parameter.grad_sample, parameter.grad  # type: ignore[attr-defined] # Opacus' own
    if found is None or gradient is None:
        return False
    return bool((found.sum(0) - gradient).abs().max() <= 1e-3 * gradient.abs().max())
