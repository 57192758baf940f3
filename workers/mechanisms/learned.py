"""What a mechanism is whose client, and often the server's network with it, is learned before noise can be added."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from torch import Tensor, nn
from torch.optim import Optimizer

from hushsweep.workers.learning.options import Learning
from hushsweep.workers.limits import check_limits
from hushsweep.workers.mechanisms.base import FittedMechanism

if TYPE_CHECKING:
    from hushsweep.workers.learning.train import MechanismTraining
    from hushsweep.workers.models import ModelConfig, Trainable


@dataclass(frozen=True)
class Batch:
    """Training images as a mechanism sees them.

    Attributes:
        values: ``(n, *shape)`` where the mechanism acts: normalised pixels, or activations at the cut.
        labels: ``(n,)`` of the primary task.
        secondary: ``(n,)`` of the secondary task; None where the data set has none.
        logits: The server's network from there on, of the primary task.
        progress: Share of the epochs that is done, 0 to 1.
    """

    values: Tensor
    labels: Tensor
    secondary: Tensor | None
    logits: Callable[[Tensor], Tensor]
    progress: float

    def cross_entropy(self, values: Tensor) -> Tensor:
        """Mean cross-entropy of the primary task, nats, when ``values`` is what leaves."""
        return nn.functional.cross_entropy(self.logits(values).float(), self.labels)


@dataclass(frozen=True, kw_only=True)
class LearnedMechanism(Learning):
    """Base of the mechanisms that learn; their fields, and these, are the keys of a sweep file."""

    VERSION: ClassVar[int] = 1
    LEVELS: ClassVar[tuple[str, ...]] = ("penalty",)
    PLACES: ClassVar[tuple[str, ...]] = ("input", "cut")
    """Where it may act; the first is the default."""
    SECONDARY: ClassVar[bool] = False
    """Whether it learns from secondary labels."""
    AFTERWARDS: ClassVar[tuple[str, ...]] = ()
    """Fields that act only once everything is learned: points that differ in them alone share a training."""
    CAN_LOAD: ClassVar[bool] = True
    """Whether a client that somebody else trained can be used in place of a training."""

    TRAINING_ONLY: ClassVar[tuple[str, ...]] = ()
    """Beginnings of the names of tensors that only a training needs: a client from outside may lack them."""
    LEVEL_ACTS: ClassVar[bool] = False
    """Whether the level acts on what leaves, not only in the training: a client from outside needs one, too."""

    server: Literal["scratch", "tuned", "frozen"] = "scratch"
    """The server's network: learned together with the client from fresh weights, or from the model's, or left alone."""
    weights: str | None = None
    """A client learned elsewhere (.safetensors); nothing is trained then, and the model's weights serve."""

    def __post_init__(self) -> None:
        check_limits(self)
        given = [name for name in self.LEVELS if getattr(self, name) is not None]
        if len(given) > 1 or (not given and (self.weights is None or self.LEVEL_ACTS)):
            raise ValueError(f"expected exactly one of {', '.join(self.LEVELS)}, got {len(given)}")

    def check(
        self, model: ModelConfig, network: Callable[[], Trainable], examples: Callable[[], int]
    ) -> None:
        """Find, before anything runs, what would keep the mechanism from learning.

        Args:
            model: the server's network, and where its weights come from.
            network: gives it, with fresh weights and in eval mode; it must be left as it was.
            examples: gives the number of images to learn from.

        Raises:
            PlugInError: the training is impossible.
        """

    def learns_all_of(self, model: ModelConfig) -> bool:
        """Tell whether every weight of the server's network has been learned once the mechanism has."""
        return self.weights is None and self.server != "frozen"

    def training(self) -> type[MechanismTraining]:
        """Return what trains the mechanism."""
        from hushsweep.workers.learning.train import MechanismTraining

        return MechanismTraining

    def client(self, shape: tuple[int, ...]) -> nn.Module:
        """Build what is learned beside the server's network, for values of ``shape`` (without the batch)."""
        raise NotImplementedError

    def optimiser(self, client: nn.Module) -> Optimizer | None:
        """Return the client's optimiser, None if nothing of it is learned by gradients."""
        return self.sgd(client) if any(True for _ in client.parameters()) else None

    def adversary_optimiser(self, client: nn.Module) -> Optimizer | None:
        """Return the optimiser of a part of the client that works against the rest; None if there is none."""
        return None

    def loss(self, client: nn.Module, batch: Batch) -> Tensor:
        """Return what client and server minimise on a batch; noise comes from torch's own generator."""
        raise NotImplementedError

    def adversary_loss(self, client: nn.Module, batch: Batch) -> Tensor:
        """Return what that part minimises, in a step of its own before each of the client's."""
        raise NotImplementedError

    def finish(self, client: nn.Module, values: Callable[[], Iterator[Tensor]]) -> None:
        """Set what depends on the finished network; ``values()`` goes over the training images once more."""

    def bind(self, client: nn.Module, digest: str) -> FittedMechanism:
        """Return the mechanism ready to act.

        Args:
            client: learned, in eval mode, on its device.
            digest: names what was learned; two mechanisms with equal fields and digest are equal.
        """
        raise NotImplementedError

    def flops(self, client: nn.Module, shape: tuple[int, ...]) -> int:
        """Floating-point operations of the client's own network on one image's values of ``shape``."""
        return 0

    def settings(self) -> dict[str, object]:
        """Return the fields that what is learned depends on."""
        return {
            declared.name: getattr(self, declared.name)
            for declared in fields(self)
            if declared.name not in self.AFTERWARDS
        }


@dataclass(frozen=True)
class FittedLearned:
    """A learned mechanism ready to act.

    Attributes:
        digest: Of what was learned.
        client: In eval mode, without gradients.
    """

    digest: str
    client: nn.Module = field(compare=False)

    def double(self) -> Self:
        """Return a copy that computes in float64."""
        other = copy.copy(self)
        object.__setattr__(other, "client", copy.deepcopy(self.client).double())
        return other
