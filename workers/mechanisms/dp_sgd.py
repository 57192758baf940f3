"""DP-SGD: noise in the training alone, so that the finished network tells little of any one image it has learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor, nn

from hushsweep.workers.accounting import Ledger, Phase, Spending, check_budget, noise_for_epsilon, require_dp
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.mechanisms.base import FittedMechanism, UnitNoise
from hushsweep.workers.mechanisms.learned import Batch, FittedLearned, LearnedMechanism

if TYPE_CHECKING:
    from hushsweep.workers.learning.private import PrivateTraining
    from hushsweep.workers.models import ModelConfig, Trainable

Accountant = Literal["pld", "rdp", "rdp_classic"]


@dataclass(frozen=True, kw_only=True)
class DpSgd(LearnedMechanism):
    """Learn by DP-SGD (arXiv:1607.00133) on Opacus; images leave as they are.

    Every step draws each image with the chance ``batch_size`` / images (Poisson sampling), clips the gradient of each
    image, sums, adds Gaussian noise of ``noise_multiplier`` clip norms, and divides by ``batch_size``.
    """

    LEVELS: ClassVar[tuple[str, ...]] = ("noise_multiplier", "target_epsilon")
    PLACES: ClassVar[tuple[str, ...]] = ("input",)

    noise_multiplier: float | None = field(default=None, metadata={"ge": 0})
    """Standard deviation of the noise on a step's sum in units of the clip norm, >= 0."""
    target_epsilon: float | None = field(default=None, metadata={"gt": 0})
    """Epsilon of the whole training, > 0; the noise multiplier is the least that stays within it."""
    delta: float = field(default=1e-5, metadata={"gt": 0, "lt": 1})
    """Chance with which the statement may fail; less than 1 / images."""
    accountant: Accountant = "pld"
    """By which ``target_epsilon`` becomes noise."""
    clip_norm: float | None = field(default=None, metadata={"gt": 0})
    """Largest Euclidean norm of an image's gradient; default: 1, or no clipping where ``noise_multiplier`` is 0."""
    batch_size: int = field(default=256, metadata={"ge": 1})
    """Images per step on average, since every image is drawn by chance."""
    physical_batch: int | None = field(default=None, metadata={"ge": 1})
    """Images that go through the network at once, to save memory; changes the rounding alone."""
    gradients: Literal["per_sample", "ghost"] = "per_sample"
    """per_sample: all gradients of a batch are kept and clipped; ghost: only their norms, in a second pass."""
    augmentations: int = field(default=1, metadata={"ge": 1})
    """Copies of each image, cropped at random, whose mean gradient is clipped (arXiv:2204.13650); 1: as it is."""
    crop_padding: int = field(default=4, metadata={"ge": 0})
    """Pixels by which a copy may move, what comes in being the image mirrored at its edge."""
    flip: bool = False
    """Mirror every second copy; for images whose mirror image means the same."""
    ema: float | None = field(default=None, metadata={"gt": 0, "lt": 1})
    """Decay of a moving average of the weights, which is then the network."""
    trained: Literal["network", "head"] = "network"
    """What is learned: all, or only what comes after the cut."""
    oversample: Literal["none", "random", "smote"] = "none"
    """Images added to the smaller classes before anything is learned."""
    # Clipping keeps steps small and noise keeps weights from settling on single images, so decay would only unlearn.
    # Momentum 0.9 (as arXiv:2011.11660) and the cosine stay: both average the noise of many steps.
    weight_decay: float = field(default=0.0, metadata={"ge": 0})
    """Pull of the weights towards 0, per step and unit of the learning rate; 0 unless told."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.server == "frozen":
            raise ValueError(
                "server: nothing of dp_sgd learns with a frozen server; expected scratch or tuned, or use "
                "trained: head to leave the features alone"
            )
        if self.gradient_clip is not None:
            raise ValueError(
                "gradient_clip: has no place in dp_sgd, where clip_norm bounds every image's gradient; leave it out"
            )
        if self.training_precision != "float32":
            raise ValueError(
                "training_precision: dp_sgd promises norms of gradients, which bfloat16 rounds; expected float32"
            )
        if self.flip and self.augmentations == 1:
            raise ValueError("flip: has no effect with augmentations 1; give more, or leave it out")

    @property
    def clips(self) -> float | None:
        """The norm to which gradients are clipped; None: they are not."""
        return 1.0 if self.clip_norm is None and self.noise_multiplier != 0 else self.clip_norm

    def check(
        self, model: ModelConfig, network: Callable[[], Trainable], examples: Callable[[], int]
    ) -> None:
        """Look at budget, batch and network.

        Raises:
            PlugInError: the extra dp is missing, or one of them does not do.
        """
        require_dp("mechanism 'dp_sgd'")
        from hushsweep.workers.learning.private_networks import check_network
        from hushsweep.workers.models import find_architecture
        from hushsweep.workers.training import WEIGHTS_MADE_HERE

        if self.server == "tuned" and self.noise_multiplier != 0 and model.weights in WEIGHTS_MADE_HERE:
            raise PlugInError(
                f"server: tuned would start from weights ({model.weights}) made of this data set's images without any "
                "noise, and no epsilon would be true; use server: scratch, or weights from other data"
            )
        count = examples()
        self.check_examples(count)
        self.phase(count, self.schedule("", find_architecture(model.name).preset("train").epochs).epochs)
        check_network(self, model.name, network())

    def learns_all_of(self, model: ModelConfig) -> bool:
        """Tell whether nothing before the cut is left as it was."""
        return self.trained == "network" or has_fixed_features(model)

    def check_examples(self, examples: int) -> None:
        """Hold batch and delta to the number of images to learn from, before over-sampling.

        Raises:
            PlugInError: more images in a batch than there are, or a delta that would allow giving one away.
        """
        if self.batch_size > examples:
            raise PlugInError(
                f"batch_size: expected at most {examples}, the images to learn from, got {self.batch_size}"
            )
        if self.noise_multiplier != 0:
            check_budget(self.delta, examples)

    def steps_per_epoch(self, examples: int) -> int:
        """As many as there would be batches, so that an epoch sees every image once on average."""
        return max(1, round(examples / self.batch_size))

    def phase(self, examples: int, epochs: int, copies: int = 1) -> Phase:
        """What a training releases.

        Args:
            examples: images that are trained on, after over-sampling.
            epochs: of the training.
            copies: most of them that are made of one image.

        Raises:
            PlugInError: no noise comes to the epsilon that is asked for.
        """
        steps, rate = epochs * self.steps_per_epoch(examples), self.batch_size / examples
        noise = self.noise_multiplier
        if noise is None:
            assert self.target_epsilon is not None
            noise = _noise(self.target_epsilon, self.delta, steps, rate, self.accountant)
        return Phase(
            noise_multiplier=noise, steps=steps, sampling_rate=rate, examples=examples, copies=copies
        )

    def training(self) -> type[PrivateTraining]:
        """Return the training on Opacus."""
        from hushsweep.workers.learning.private import PrivateTraining

        return PrivateTraining

    def client(self, shape: tuple[int, ...]) -> nn.Module:
        """Return what holds the spending: nothing else of the mechanism outlives the training."""
        return Ledger()

    def loss(self, client: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy, of which the training takes each image's gradient."""
        return batch.cross_entropy(batch.values)

    def bind(self, client: nn.Module, digest: str) -> FittedMechanism:
        """Return what changes nothing and knows the spending."""
        assert isinstance(client, Ledger)
        return FittedDpSgd(digest, client, client.spending)


@dataclass(frozen=True)
class FittedDpSgd(FittedLearned):
    """Nothing at inference: the protection lies in the network's weights.

    Attributes:
        spending: Of the training; None before it.
    """

    spending: Spending | None

    def apply(self, activations: Tensor, noise: UnitNoise) -> Tensor:
        """Return ``activations``."""
        return activations


def has_fixed_features(model: ModelConfig) -> bool:
    """Tell whether a network has no weights before the cut at features."""
    from hushsweep.workers.models import find_architecture

    return find_architecture(model.name).preset(model.weights).fixed_features


@lru_cache(maxsize=64)
def _noise(epsilon: float, delta: float, steps: int, rate: float, accountant: Accountant) -> float:
    return noise_for_epsilon(
        epsilon, delta, steps=steps, sampling_rate=rate, relation="add_or_remove", accountant=accountant
    )
