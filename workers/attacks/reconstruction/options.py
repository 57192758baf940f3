"""Which attack, and how: the options that measures of reconstructions share."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from hushsweep.workers.attacks.reconstruction.base import Reconstructor, Target
from hushsweep.workers.attacks.reconstruction.bayes import Bayes
from hushsweep.workers.attacks.reconstruction.decoder import Training, fit_decoder
from hushsweep.workers.attacks.reconstruction.likelihood import why_no_likelihood
from hushsweep.workers.attacks.reconstruction.means import Blind, ClassMean
from hushsweep.workers.attacks.reconstruction.posterior_mode import Descent, PosteriorMode
from hushsweep.workers.attacks.reconstruction.ridge import Ridge
from hushsweep.workers.attacks.view import View, is_noiseless, rounded, why_no_mask
from hushsweep.workers.limits import check_limits
from hushsweep.workers.measures.base import FittedPoint

AttackName = Literal["blind", "class_mean", "ridge", "decoder", "map", "bayes"]
ATTACKS = ("blind", "class_mean", "ridge", "decoder", "map", "bayes")
_DEFAULTS: dict[str, dict[str, Any]] = {
    "decoder": {"epochs": 20, "batch_size": 128, "learning_rate": 1e-3, "training_precision": "float32"},
    "map": {"steps": 500, "learning_rate": 0.1, "prior": "total_variation"},
}
"""What options are that only some attacks have; those of others are refused."""
_OWN = ("epochs", "batch_size", "learning_rate", "training_precision", "steps", "prior")


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """A reconstruction attack; the options of another attack than the one named are refused."""

    ORACLES: ClassVar[tuple[str, ...]] = ("bayes",)

    attack: AttackName = "decoder"
    """blind: the mean training image; class_mean: that of the class the server predicts; ridge: the best affine map;
    decoder: a network trained on what leaves; map: gradient descent on the posterior; bayes: an oracle that linearises
    the network at the true image, no attack."""
    queries: int = field(default=1, metadata={"ge": 1})
    """Outputs of the same image that the attacker sees the mean of."""
    masked: bool = False
    """Whether ridge or decoder also sees the client's mask of the image, as further channels."""
    epochs: int | None = field(default=None, metadata={"ge": 1})
    """Of decoder: passes over the training images; 20 unless told."""
    batch_size: int | None = field(default=None, metadata={"ge": 1})
    """Of decoder: images per step; 128 unless told."""
    learning_rate: float | None = field(default=None, metadata={"gt": 0})
    """Of Adam, at the start: 0.001 for decoder, 0.1 for map unless told."""
    training_precision: Literal["float32", "bfloat16"] | None = None
    """Of decoder: float32, or bfloat16 for forward and backward passes under autocast."""
    levels: tuple[float, float] | None = None
    """Of decoder: train one for all noise between these two, in units of the features' root mean square, and tell it
    the noise; null trains one at each point's own level."""
    steps: int | None = field(default=None, metadata={"ge": 1})
    """Of map: steps of the descent; 500 unless told."""
    prior: Literal["total_variation", "gaussian"] | None = None
    """Of map: what is known of images; total_variation needs no training images if its weight is given, gaussian has
    the mean and the covariance of training images."""
    total_variation: float | None = field(default=None, metadata={"ge": 0})
    """Of map: weight of the total variation, nats per normalised pixel; null takes the best of 0.1, 0.3, 1, 3, 10 and
    30 on 16 validation images."""
    training_threads: int = field(default=1, metadata={"ge": 1})
    """CPU threads; they change the rounding, hence the reconstruction."""

    def __post_init__(self) -> None:
        check_limits(self)
        if self.attack not in ATTACKS:
            raise ValueError(f"attack: expected one of {', '.join(ATTACKS)}, got {self.attack!r}")
        defaults = _DEFAULTS.get(self.attack, {})
        for name in _OWN:
            if name in defaults:
                if getattr(self, name) is None:
                    object.__setattr__(self, name, defaults[name])  # so that rows say it
            elif getattr(self, name) is not None:
                owners = " and ".join(attack for attack, own in _DEFAULTS.items() if name in own)
                raise ValueError(f"{name}: an option of {owners}, not of {self.attack}; leave it out")
        self._check_choices()
        self._check_levels()
        if self.masked and self.attack not in ("ridge", "decoder"):
            raise ValueError(
                f"masked: only ridge and decoder look at the mask, not {self.attack}; map knows it as it is"
            )

    def _check_choices(self) -> None:
        allowed = {
            "training_precision": (None, "float32", "bfloat16"),
            "prior": (None, "total_variation", "gaussian"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name}: expected {' or '.join(values[1:])}, got {getattr(self, name)!r}")
        if self.total_variation is not None and self.prior != "total_variation":
            raise ValueError("total_variation: a weight of map with prior total_variation; leave it out")

    def _check_levels(self) -> None:
        if self.levels is None:
            return
        if self.attack != "decoder":
            raise ValueError(f"levels: an option of decoder, not of {self.attack}; leave it out")
        object.__setattr__(self, "levels", tuple(self.levels))  # rows bring it as a list
        if len(self.levels) != 2 or not 0 < self.levels[0] < self.levels[1] < math.inf:
            raise ValueError(f"levels: expected two numbers, 0 < smallest < largest, got {list(self.levels)}")

    def why_not(self, point: FittedPoint) -> str | None:
        """Say why this attack cannot be tried on a point, or None."""
        if self.queries > 1 and is_noiseless(point):
            return "without noise every query gets the same answer: see queries 1"
        if self.masked:
            return why_no_mask(point)
        if self.levels is not None and point.cut_noise is None:
            return "a decoder for many levels needs additive noise of one size at the cut: see one without levels"
        if self.attack == "map":
            return why_no_likelihood(point)
        if self.attack == "bayes" and point.cut_noise is None:
            return "no linear-Gaussian Bayes: the chain is not a single additive noise at the cut"
        return None

    def view(self, target: FittedPoint, subject: Any) -> View:
        """How the attacker looks at a point."""
        return View(subject=subject, point=target, queries=self.queries, masked=self.masked)

    def target(self, knowledge: Any, point: FittedPoint) -> Target:
        """Return a point as this attack is prepared for it."""
        view = self.view(rounded(point), knowledge.subject)
        return Target(knowledge=knowledge, view=view, threads=self.training_threads)

    def fit(self, target: Target) -> Reconstructor:
        """Learn what the attack needs to know.

        Raises:
            PlugInError: it cannot be learned here; one sentence why.
        """
        match self.attack:
            case "blind":
                return Blind.fit(target)
            case "class_mean":
                return ClassMean.fit(target)
            case "ridge":
                return Ridge.fit(target)
            case "bayes":
                return Bayes.fit(target)
            case "decoder":
                assert self.epochs is not None
                assert self.batch_size is not None
                assert self.learning_rate is not None
                assert self.training_precision is not None
                training = Training(
                    epochs=self.epochs,
                    batch_size=self.batch_size,
                    learning_rate=self.learning_rate,
                    precision=self.training_precision,
                    threads=self.training_threads,
                    levels=self.levels,
                )
                return fit_decoder(target, training)
            case "map":
                assert self.steps is not None
                assert self.learning_rate is not None
                assert self.prior is not None
                descent = Descent(
                    steps=self.steps,
                    learning_rate=self.learning_rate,
                    prior=self.prior,
                    total_variation=self.total_variation,
                )
                return PosteriorMode.fit(target, descent)
