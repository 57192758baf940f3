"""Training on activations that are released clipped and with noise: what NeuralDP set out to do, derived anew."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from hushsweep.workers.accounting import Ledger, Phase, Spending, check_budget, noise_for_epsilon
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.mechanisms.base import FittedMechanism, UnitNoise
from hushsweep.workers.mechanisms.dp_sgd import Accountant, DpSgd, has_fixed_features
from hushsweep.workers.mechanisms.learned import Batch, FittedLearned, LearnedMechanism

if TYPE_CHECKING:
    from hushsweep.workers.learning.train import MechanismTraining
    from hushsweep.workers.models import ModelConfig, Trainable


_ENCODER = (
    "encoder_noise_multiplier",
    "encoder_epochs",
    "encoder_batch_size",
    "encoder_learning_rate",
    "encoder_clip_norm",
)


@dataclass(frozen=True, kw_only=True)
class PrivateActivations(LearnedMechanism):
    """Release clip(a, C) + N(0, sigma^2 I) of every training record's activation a, and learn the head on that.

    The idea of NeuralDP, arXiv:2107.14582, which its authors withdrew and whose text cannot be had; the statement is
    ours. Whatever comes after the noise is post-processing. What comes before is not: it is never trained on these
    records, or by DP-SGD, whose releases are then composed with these. Neighbours differ in one record, since that a
    record is there is visible; its activation moves by no more than 2 C.
    """

    LEVELS: ClassVar[tuple[str, ...]] = ("noise_multiplier", "target_epsilon")
    PLACES: ClassVar[tuple[str, ...]] = ("cut",)
    AFTERWARDS: ClassVar[tuple[str, ...]] = ("queries",)
    CAN_LOAD: ClassVar[bool] = False
    LEVEL_ACTS: ClassVar[bool] = True

    noise_multiplier: float | None = field(default=None, metadata={"ge": 0})
    """sigma / (2 C), of one release, >= 0."""
    target_epsilon: float | None = field(default=None, metadata={"gt": 0})
    """In place of it: what all that is released of a training record may come to."""
    clip_norm: float = field(default=1.0, metadata={"gt": 0})
    """C, the largest Euclidean norm of an activation that is released."""
    delta: float = field(default=1e-5, metadata={"gt": 0, "lt": 1})
    """Chance with which the statement may fail; less than 1 / images."""
    accountant: Accountant = "pld"
    """Whose epsilon target_epsilon is."""
    release: Literal["once", "per_epoch"] = "once"
    """once: one release per record, from which every epoch learns; per_epoch: one per epoch, with fresh noise."""
    encoder: Literal["frozen", "dp_sgd"] = "frozen"
    """What comes before the cut: as it is, or first learned by DP-SGD together with a head, which is then the start."""
    encoder_noise_multiplier: float | None = field(default=None, metadata={"gt": 0})
    """Of that DP-SGD, as for the mechanism dp_sgd, whose defaults the others have, too."""
    encoder_epochs: int | None = field(default=None, metadata={"ge": 1})
    """Passes of that DP-SGD over the training images; null: as dp_sgd without a number."""
    encoder_batch_size: int | None = field(default=None, metadata={"ge": 1})
    """Images per step of that DP-SGD, on average; null: as dp_sgd."""
    encoder_learning_rate: float | None = field(default=None, metadata={"gt": 0})
    """Of that DP-SGD; null: as dp_sgd."""
    encoder_clip_norm: float | None = field(default=None, metadata={"gt": 0})
    """Longest gradient of an image in that DP-SGD; null: as dp_sgd."""
    label_epsilon: float | None = field(default=None, metadata={"gt": 0})
    """Of randomised response on the training labels; null: labels are in clear."""
    queries: Literal["noisy", "clipped"] = "noisy"
    """What leaves at inference: with the noise of one release, or clipped alone, which protects no query."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.server == "frozen":
            raise ValueError(
                "server: private_activations learns what comes after the cut; expected scratch or tuned"
            )
        if self.encoder == "dp_sgd" and self.encoder_noise_multiplier is None:
            raise ValueError("encoder_noise_multiplier: encoder dp_sgd has to be given one")
        useless = [key for key in _ENCODER if getattr(self, key) is not None and self.encoder == "frozen"]
        if useless:
            raise ValueError(
                f"{useless[0]}: has no effect with encoder frozen; leave it out, or give encoder dp_sgd"
            )
        if None not in (self.target_epsilon, self.label_epsilon) and self._left() <= 0:
            raise ValueError(
                f"target_epsilon: label_epsilon {self.label_epsilon:g} leaves nothing of {self.target_epsilon:g} for "
                "activations; raise the one or lower the other"
            )

    def check(
        self, model: ModelConfig, network: Callable[[], Trainable], examples: Callable[[], int]
    ) -> None:
        """Find what would keep the statement about privacy from being true, or the head from learning."""
        from hushsweep.workers.learning.released import check_network
        from hushsweep.workers.models import find_architecture
        from hushsweep.workers.training import WEIGHTS_MADE_HERE

        count = examples()
        self.check_examples(count)
        if self.server == "tuned" and self.noise_multiplier != 0 and model.weights in WEIGHTS_MADE_HERE:
            raise PlugInError(
                f"server: tuned would begin with weights that were made of the same images without any privacy "
                f"(model.weights: {model.weights}); give scratch, or weights that were learned elsewhere"
            )
        check_network(network())
        before, own = tuple[Phase, ...](), find_architecture(model.name).preset("train").epochs
        if self.encoder == "dp_sgd":
            encoder = self.encoder_mechanism()
            encoder.check(model, network, examples)
            before = (encoder.phase(count, encoder.schedule("", own).epochs),)
        self.spending(self.schedule("", own).epochs, count, before)

    def check_examples(self, examples: int) -> None:
        """Hold budget and batch to the number of training records.

        Raises:
            PlugInError: delta is not below 1 / ``examples``, or a batch has more than there are.
        """
        if self.noise_multiplier != 0:
            check_budget(self.delta, examples)
        if self.batch_size > examples:
            raise PlugInError(
                f"batch_size: expected at most {examples}, the images to learn from, got {self.batch_size}"
            )

    def encoder_mechanism(self) -> DpSgd:
        """Return the DP-SGD that the encoder is learned by."""
        own = {key: getattr(self, key) for key in _ENCODER}
        given = {key.removeprefix("encoder_"): value for key, value in own.items() if value is not None}
        shared = {
            key: getattr(self, key) for key in ("server", "preset", "training_threads", "delta", "accountant")
        }
        return DpSgd(**given, **shared)

    def learns_all_of(self, model: ModelConfig) -> bool:
        """Tell whether the encoder was learned, too."""
        return self.encoder == "dp_sgd" or has_fixed_features(model)

    def training(self) -> type[MechanismTraining]:
        """Return what computes the releases once and trains the head on them."""
        from hushsweep.workers.learning.released import ReleasedTraining

        return ReleasedTraining

    def client(self, shape: tuple[int, ...]) -> nn.Module:
        """Return what keeps the books: nothing at the client is learned."""
        return Ledger()

    def loss(self, client: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of the head on values that were released."""
        return batch.cross_entropy(batch.values)

    def spending(self, epochs: int, examples: int, before: tuple[Phase, ...] = ()) -> Spending:
        """Say what a training of so many epochs releases of so many records.

        Args:
            epochs: of the head.
            examples: training records.
            before: what an encoder's training has released.

        Raises:
            PlugInError: no noise reaches the target, or the extra dp is not installed.
        """
        releases = epochs if self.release == "per_epoch" else 1
        noise = self.noise_multiplier
        if noise is None:
            noise = _noise(self._left(), self.delta, releases, self.accountant, before)
        phase = Phase(noise_multiplier=noise, steps=releases, relation="replace_one", examples=examples)
        return Spending(
            phases=(*before, phase),
            delta=self.delta,
            label_epsilon=math.inf if self.label_epsilon is None else self.label_epsilon,
            query_noise_multiplier=noise,
        )

    def _left(self) -> float:
        """What of the target is left for activations: pure epsilons add up."""
        assert self.target_epsilon is not None
        return self.target_epsilon - (self.label_epsilon or 0.0)

    def bind(self, client: nn.Module, digest: str) -> FittedMechanism:
        """Return the same clipping and noise, for queries."""
        assert isinstance(client, Ledger)
        spent = client.spending
        noise = (self.noise_multiplier or 0.0) if spent is None else spent.query_noise_multiplier
        if self.queries == "clipped":
            noise, spent = 0.0, spent and replace(spent, query_noise_multiplier=0.0)
        return FittedPrivateActivations(digest, client, self.clip_norm, 2 * self.clip_norm * noise, spent)


@dataclass(frozen=True)
class FittedPrivateActivations(FittedLearned):
    """Clipping, then Gaussian noise of one size.

    Attributes:
        clip_norm: Largest Euclidean norm of what leaves but for the noise.
        noise_std: Activation units.
        spending: What the training has released, and what a query does.
    """

    CONSTANT_MASK: ClassVar[bool] = True

    clip_norm: float
    noise_std: float
    spending: Spending | None

    def apply(self, activations: Tensor, noise: UnitNoise) -> Tensor:
        """Return the clipped activations plus noise."""
        return clipped(activations, self.clip_norm) + self.noise_std * noise("gaussian").to(activations.dtype)

    def moments(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of what leaves, ``(n, d)`` each."""
        mean = clipped(activations, self.clip_norm).flatten(1)
        return mean, torch.full_like(mean, self.noise_std)


def clipped(activations: Tensor, norm: float) -> Tensor:
    """Scale down every record's activation ``(n, *shape)`` whose Euclidean norm is above ``norm``."""
    # in float64: what rounding adds to the norm of many entries would be sensitivity that nobody accounts for
    found = torch.linalg.vector_norm(activations.flatten(1), dim=1, dtype=torch.float64)
    scale = (norm / found.clamp_min(norm)).to(activations.dtype)
    short: Tensor = activations * scale.reshape(-1, *[1] * (activations.ndim - 1))
    return short


@lru_cache(maxsize=64)
def _noise(
    epsilon: float, delta: float, releases: int, accountant: Accountant, before: tuple[Phase, ...]
) -> float:
    return noise_for_epsilon(
        epsilon,
        delta,
        steps=releases,
        sampling_rate=1.0,
        relation="replace_one",
        accountant=accountant,
        before=before,
    )
