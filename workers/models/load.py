"""Build a network, give it its weights, cut it, and put it on a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hushsweep.workers.errors import PlugInError, unknown_name
from hushsweep.workers.models.architectures import find_architecture
from hushsweep.workers.models.check import class_count
from hushsweep.workers.models.cuts import Cut, HookCut, is_cut
from hushsweep.workers.models.files import check_fit, fetch, is_path, read_state, weights_file
from hushsweep.workers.models.graphs import cut_graph, trace
from hushsweep.workers.models.split import SplitModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hushsweep.datasets.images import DatasetInfo
    from hushsweep.workers.models.config import InputTransform, ModelConfig

NATURAL = "features"


def input_shape(transform: InputTransform, info: DatasetInfo) -> tuple[int, int, int]:
    """``(channels, height, width)`` of an image after a transform."""
    crop = transform.geometry.crop
    height, width = (crop, crop) if isinstance(crop, int) else crop or (info.height, info.width)
    if height is None or width is None:
        raise PlugInError(f"data set {info.name!r} has images of several sizes: give its input_size")
    return transform.geometry.channels, height, width


def network_shape(transform: InputTransform, info: DatasetInfo) -> tuple[int, int, int]:
    """``(channels, height, width)`` of what the network itself gets, after any up-sampling."""
    channels, height, width = input_shape(transform, info)
    return channels, transform.network_size or height, transform.network_size or width


def fresh_network(
    config: ModelConfig,
    *,
    info: DatasetInfo,
    transform: InputTransform,
    num_classes: int | None = None,
    in_channels: int | None = None,
    seed: int | None = None,
) -> nn.Module:
    """A network in eval mode with the initial weights that ``torch.manual_seed(seed)`` gives it.

    Args:
        config: The model.
        info: The data set.
        transform: Of ``input_transform``.
        num_classes: Outputs of the head; None: as the configuration and the data set say.
        in_channels: Of the network's input; None: the images'.
        seed: None: the configuration's.
    """
    channels, side, _ = network_shape(transform, info)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed if seed is None else seed)
        network = find_architecture(config.name).build(
            num_classes=num_classes or class_count(config, info),
            in_channels=in_channels or channels,
            side=side,
        )
    return network.eval()


def load_model(
    config: ModelConfig,
    cut: str,
    *,
    info: DatasetInfo,
    transform: InputTransform,
    state_dict: Mapping[str, Tensor] | None = None,
    num_classes: int | None = None,
    device: torch.device | str = "cpu",
) -> SplitModel:
    """Load a model as features and head.

    Args:
        config: The model.
        cut: ``features`` for the natural one, or the path of a module (``layer3.1``).
        info: The data set.
        transform: Of ``input_transform``.
        state_dict: All weights, from ``resolve_weights`` or ``Trainable.network_state``; they take the place of
            what the configuration names. None: those, which ``train`` and ``prototype`` do not have.
        num_classes: Outputs of the head that ``state_dict`` has; None: as the configuration says.
        device: Where it goes.

    Raises:
        PlugInError: the weights are missing or do not fit, the cut is none, or the network cannot take
            images of this size.
    """
    shape = network_shape(transform, info)
    with explained(config, shape):
        network = network_with_weights(
            config, info=info, transform=transform, state_dict=state_dict, num_classes=num_classes
        )
        return SplitModel(
            cut_network(config, network, cut, shape).to(device),
            input_shape=input_shape(transform, info),
            mean=torch.tensor(transform.mean).to(device),
            std=torch.tensor(transform.std).to(device),
            network_size=transform.network_size,
        )


def check_cut(config: ModelConfig, cut: str, *, info: DatasetInfo, transform: InputTransform) -> None:
    """Check a cut on a network with fresh weights, before anything runs.

    Raises:
        PlugInError: no such module (with the nearest names), it does not run exactly once, or the logits
            still depend on the input while its output is held, as inside a skip connection.
    """
    shape = network_shape(transform, info)
    with explained(config, shape):
        cut_network(config, fresh_network(config, info=info, transform=transform), cut, shape)


def network_with_weights(
    config: ModelConfig,
    *,
    info: DatasetInfo,
    transform: InputTransform,
    state_dict: Mapping[str, Tensor] | None = None,
    num_classes: int | None = None,
) -> nn.Module:
    """The plain network in eval mode, with the weights of ``state_dict`` or else those that are named.

    Raises:
        PlugInError: the weights are missing or do not fit.
    """
    if state_dict is not None:
        network = fresh_network(config, info=info, transform=transform, num_classes=num_classes)
        return fill(network, state_dict, config.weights, model=config.name)
    if config.weights in ("train", "prototype"):
        raise PlugInError(f"weights: {config.weights} are made by resolve_weights; pass them as state_dict")
    if config.weights == "random" or is_path(config.weights):
        network = fresh_network(config, info=info, transform=transform, num_classes=num_classes)
        if config.weights == "random":
            return network
        state = read_state(weights_file(config.weights), part="server")
        return fill(network, state, config.weights, model=config.name)
    architecture = find_architecture(config.name)
    published = architecture.published(config.weights)
    published = replace(published, path=fetch(published))  # the hub chooses the folder of what it fetches
    channels, side, _ = network_shape(transform, info)
    return architecture.build_published(published, in_channels=channels, side=side).eval()


def fill(network: nn.Module, state: Mapping[str, Tensor], source: str, *, model: str) -> nn.Module:
    """Put weights into a network; PlugInError names ``source`` and ``model`` if they do not fit."""
    check_fit(source, state, network.state_dict(), model=model)
    network.load_state_dict(state, strict=False)
    return network


@contextmanager
def explained(config: ModelConfig, shape: tuple[int, int, int]) -> Iterator[None]:
    """Say which model and which input a foreign error is about."""
    try:
        yield
    except (PlugInError, torch.OutOfMemoryError):
        raise
    except (
        Exception
    ) as error:  # networks are other people's code, and raise anything when a size does not suit
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        size = "x".join(map(str, shape))
        raise PlugInError(
            f"model {config.name!r} fails on input {size}: {reason}; "
            "choose another input_size or network_size, or check the model's own requirements"
        ) from error


def cut_network(config: ModelConfig, network: nn.Module, cut: str, shape: tuple[int, int, int]) -> Cut:
    """Cut a network, which is in eval mode and gets ``shape``; its two halves are compared with the whole."""
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(x)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise PlugInError(f"model {config.name!r}: its output is not one tensor of (images, classes)")
        split = split_network(config, network, cut, shape)
        # A graph splits exactly; a pair of methods might leave out what forward() does besides.
        difference = (split.head(split.features(x).clone()) - logits).abs().max()
    if not difference <= 1e-4 * logits.abs().max():
        raise PlugInError(
            f"model {config.name!r} at cut {cut!r}: head(features(x)) differs from the model's output"
        )
    return split


def split_network(config: ModelConfig, network: nn.Module, cut: str, shape: tuple[int, int, int]) -> Cut:
    """Cut a network without comparing."""
    if cut == NATURAL:
        return find_architecture(config.name).natural_cut(network)
    paths = [path for path, _ in network.named_modules() if path]
    if cut not in paths:
        raise unknown_name(f"cut of {config.name}", cut, [NATURAL, *paths], list_all=False)
    traced = trace(network)
    graph_cut = cut_graph(traced, traced.leaving(cut)) if traced else None
    if graph_cut is not None:
        return graph_cut
    if is_cut(network, cut, shape):
        return HookCut(network, cut, shape)
    raise PlugInError(
        f"cut {cut!r} of {config.name!r}: the logits still depend on the input while this module's output is "
        "held (it lies inside a skip connection or a branch); choose the block around it"
    )
