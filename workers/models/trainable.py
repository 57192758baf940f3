"""A network with gradients: what SplitModel freezes, in training."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models.cuts import Cut, HookCut
from hushsweep.workers.models.graphs import GraphCut
from hushsweep.workers.models.load import (
    cut_network,
    explained,
    fill,
    fresh_network,
    input_shape,
    network_shape,
    network_with_weights,
    split_network,
)
from hushsweep.workers.models.pixels import normalise, upsample
from hushsweep.workers.models.split import SplitModel

if TYPE_CHECKING:
    from hushsweep.datasets.images import DatasetInfo
    from hushsweep.workers.models.config import InputTransform, ModelConfig


class Trainable(nn.Module):
    """A network as a whole and as ``head(features(x))``, with one set of weights and with gradients.

    ``train()`` and ``eval()`` decide on batch normalisation and dropout, in the whole and in the halves. Auxiliary
    heads (GoogLeNet, Inception) are not used. ``trainable`` makes one.

    Attributes:
        network: The plain network.
        input_shape: ``(channels, height, width)`` of ``x``, before any up-sampling.
        feature_shape: Of one image's features, without the batch.
        num_classes: Length of the logits.
        mean: ``(channels, 1, 1)`` of the images, pixels 0..1.
        std: ``(channels, 1, 1)`` of the images, pixels 0..1.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        cut: Cut,
        training_cut: Cut | None = None,
        *,
        input_shape: tuple[int, int, int],
        mean: Tensor,
        std: Tensor,
        network_size: int | None,
    ) -> None:
        """Wrap a network in eval mode.

        Args:
            network: The whole.
            cut: Its halves, sharing its modules.
            training_cut: The same as traced in train mode; None: as ``cut``.
            input_shape: Of the images with what comes beside them.
            mean: Per channel of the images, pixels 0..1.
            std: Per channel of the images, pixels 0..1.
            network_size: Side to which images are up-sampled; None: not at all.
        """
        super().__init__()
        self.network = network
        self.cut = cut
        self.training_cut = training_cut
        self.input_shape = input_shape
        self.network_size = network_size
        self.register_buffer("mean", mean.reshape(-1, 1, 1))
        self.register_buffer("std", std.reshape(-1, 1, 1))
        self.eval()
        probe = torch.zeros(2, *input_shape).to(self.mean)
        self._around = _Around(cut, upsample(probe, network_size)) if isinstance(cut, HookCut) else None
        with torch.no_grad():
            features = self.features(probe).clone()
            before = features._version
            self.num_classes = cut.head(features).shape[1]
        # torch counts writes into a tensor: this shows whether the head begins with an in-place operation.
        self._head_writes = features._version != before
        self.feature_shape = tuple(features.shape[1:])

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 images ``(n, channels, height, width)`` into the input that ``forward`` expects."""
        return normalise(images, self.mean, self.std)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, num_classes)`` of normalised images ``(n, *input_shape)``."""
        output = self.network(upsample(x, self.network_size))
        logits: Tensor = output if isinstance(output, Tensor) else output.logits
        return logits

    def features(self, x: Tensor) -> Tensor:
        """The activation at the cut, ``(n, *feature_shape)``, of normalised images ``(n, *input_shape)``."""
        x = upsample(x, self.network_size)
        if self._around is None:
            return self._halves.features(x)
        with _in_eval_mode(self._around.after):
            return self._halves.features(x)

    def head(self, a: Tensor) -> Tensor:
        """Logits ``(n, num_classes)`` of features ``(n, *feature_shape)``, which stay as they are."""
        a = a.clone() if self._head_writes else a
        if self._around is None:
            return self._halves.head(a)
        with _in_eval_mode(self._around.before):
            return self._halves.head(a)

    def network_state(self) -> dict[str, Tensor]:
        """Copies of the plain network's weights on the CPU, for ``load_model`` and ``trainable``."""
        return {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in self.network.state_dict().items()
        }

    def frozen(self) -> SplitModel:
        """A frozen copy of the network as it is now; this one stays as it is."""
        return SplitModel(
            copy.deepcopy(self.cut),
            input_shape=self.input_shape,
            mean=self.mean.clone(),
            std=self.std.clone(),
            network_size=self.network_size,
        )

    @property
    def _halves(self) -> Cut:
        return self.training_cut if self.training and self.training_cut is not None else self.cut


def trainable(
    config: ModelConfig,
    cut: str,
    *,
    info: DatasetInfo,
    transform: InputTransform,
    state_dict: Mapping[str, Tensor] | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    seed: int | None = None,
    device: torch.device | str = "cpu",
) -> Trainable:
    """Build a network that can be trained; in eval mode at first.

    Args:
        config: The model; only ``state_dict`` says anything about its weights.
        cut: ``features`` for the natural one, or the path of a module.
        info: The data set.
        transform: Of ``input_transform``.
        state_dict: All weights; None: fresh ones.
        num_classes: Outputs of the head; None: as the configuration and the data set say.
        in_channels: Of the input: more than the images have for a network that gets something beside them.
        seed: Of fresh weights; None: the configuration's.
        device: Where it goes.

    Raises:
        PlugInError: the weights do not fit, the cut is none, or the network cannot take such images.
    """
    channels, side, _ = network_shape(transform, info)
    shape = (in_channels or channels, side, side)
    with explained(config, shape):
        network = fresh_network(
            config,
            info=info,
            transform=transform,
            num_classes=num_classes,
            in_channels=in_channels,
            seed=seed,
        )
        if state_dict is not None:
            fill(network, state_dict, "state_dict", model=config.name)
        halves = cut_network(config, network, cut, shape)
        return Trainable(
            network,
            halves,
            _training_cut(config, network, cut, halves, shape),
            input_shape=(shape[0], *input_shape(transform, info)[1:]),
            mean=torch.tensor(transform.mean),
            std=torch.tensor(transform.std),
            network_size=transform.network_size,
        ).to(device)


def starting_state(
    config: ModelConfig,
    *,
    info: DatasetInfo,
    transform: InputTransform,
    state_dict: Mapping[str, Tensor] | None = None,
    num_classes: int | None = None,
    seed: int | None = None,
) -> dict[str, Tensor]:
    """All weights to begin a fine-tuning with: those that the configuration names, under a head of any size.

    Args:
        config: The model.
        info: The data set.
        transform: Of ``input_transform``.
        state_dict: In the place of what the configuration names, from ``resolve_weights``.
        num_classes: Outputs of the head; None, or as many as the given weights have: the head stays.
        seed: Of a fresh head; None: the configuration's.

    Raises:
        PlugInError: the weights are missing or do not fit.
    """
    given = network_with_weights(config, info=info, transform=transform, state_dict=state_dict).state_dict()
    if num_classes is None:
        return given
    fresh = fresh_network(config, info=info, transform=transform, num_classes=num_classes, seed=seed)
    return {
        name: given[name] if name in given and given[name].shape == value.shape else value
        for name, value in fresh.state_dict().items()
    }


def _training_cut(
    config: ModelConfig, network: nn.Module, cut: str, halves: Cut, shape: tuple[int, int, int]
) -> Cut | None:
    """The cut as it is in training: a trace answers "training?" for good, in the mode in which it is made."""
    if not isinstance(halves, GraphCut):
        return None
    network.train()
    try:
        traced = split_network(config, network, cut, shape)
    except PlugInError:  # in training it gives more than logits; then the halves are those of eval mode
        return None
    finally:
        network.eval()
    return traced if isinstance(traced, GraphCut) else None


class _Around:
    """Which modules run before and after a cut by hook, whose halves each run the whole network.

    In training, the half that does not count must not move the running statistics of batch normalisation.
    """

    def __init__(self, cut: HookCut, x: Tensor) -> None:
        order: list[nn.Module] = []

        def note(module: nn.Module, _arguments: Any, _output: Any) -> None:
            order.append(module)

        handles = [m.register_forward_hook(note) for m in cut.network.modules() if not list(m.children())]
        place = cut.network.get_submodule(cut.path)
        handles.append(place.register_forward_hook(note))
        try:
            with torch.no_grad():
                cut.network(x)
        finally:
            for handle in handles:
                handle.remove()
        reached = max(index for index, module in enumerate(order) if module is place)
        self.before, self.after = order[: reached + 1], order[reached + 1 :]


@contextmanager
def _in_eval_mode(modules: Iterable[nn.Module]) -> Iterator[None]:
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
