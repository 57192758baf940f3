"""How something is trained: the keys that mechanisms and attackers share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from hushsweep.workers.learning.loop import Schedule

FULL_EPOCHS = 100
"""Of a network that names no number of its own: what arXiv:2104.02261 gives all but its smallest one."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Stochastic gradient descent with cosine annealing, the recipe of arXiv:2104.02261 where that says anything.

    It gives the learning rate and the numbers of epochs; momentum, weight decay and batch size are ours.
    """

    preset: Literal["full", "short"] = "full"
    """full: the paper's epochs (50 for conv5, 100 for others); short: a tenth of them."""
    epochs: int | None = field(default=None, metadata={"ge": 1})
    """Passes over the training images, in place of the preset's."""
    batch_size: int = field(default=128, metadata={"ge": 1})
    """Images per step."""
    learning_rate: float = field(default=0.1, metadata={"gt": 0})
    """At the start; it falls to 0 along half a cosine."""
    momentum: float = field(default=0.9, metadata={"ge": 0, "lt": 1})
    """Share of a step's direction that the next one keeps."""
    weight_decay: float = field(default=5e-4, metadata={"ge": 0})
    """Pull of the weights towards 0, per step and unit of the learning rate."""
    gradient_clip: float | None = field(default=None, metadata={"gt": 0})
    """Largest Euclidean norm of a step's gradient."""
    training_precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: forward and backward passes under autocast; weights stay float32."""
    training_threads: int = field(default=1, metadata={"ge": 1})
    """CPU threads; they change the rounding, hence what is learned."""

    def sgd(self, module: nn.Module) -> SGD:
        """Return the optimiser of a module's parameters."""
        return SGD(
            module.parameters(),
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )

    def descend(self, loss: Tensor, optimisers: Sequence[Optimizer]) -> None:
        """Make one step down the gradient of ``loss``, clipped over all that the optimisers move together."""
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.gradient_clip is not None:
            moved = [p for o in optimisers for group in o.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(moved, self.gradient_clip)
        for optimiser in optimisers:
            optimiser.step()

    def schedule(self, seed: str, full_epochs: int | None) -> Schedule:
        """Return what the loop is told.

        Args:
            seed: names the stream of order, noise and dropout.
            full_epochs: of the network; None: `FULL_EPOCHS`.
        """
        full = full_epochs or FULL_EPOCHS
        return Schedule(
            seed=seed,
            epochs=self.epochs or (full if self.preset == "full" else max(1, full // 10)),
            batch_size=self.batch_size,
            threads=self.training_threads,
            cosine=True,
        )
