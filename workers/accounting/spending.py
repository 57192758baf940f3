"""What is released of records, in the numbers that an accountant needs."""

import math
from dataclasses import dataclass
from typing import Literal

Relation = Literal["add_or_remove", "replace_one"]
RELATIONS: tuple[Relation, ...] = ("add_or_remove", "replace_one")
MOST_PHASES = 2


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One kind of release, repeated: Gaussian noise on a sum over the records that Poisson sampling chose.

    What one record adds to the sum has a norm of at most the sensitivity under ``add_or_remove``, which is half of
    that under ``replace_one``.

    Attributes:
        noise_multiplier: Standard deviation of the noise in units of one release's L2 sensitivity under ``relation``;
            0 is no noise.
        steps: Releases, >= 1.
        sampling_rate: Chance of each record to be in a release; 1 is every record in every release.
        relation: When two data sets are neighbours: one has a record more, or one record differs.
        examples: Records that are trained on, after over-sampling.
        copies: Most of these records that are made of one person's record; 0 is unknown.

    Raises:
        ValueError: a field is out of its range.
    """

    noise_multiplier: float
    steps: int
    sampling_rate: float = 1.0
    relation: Relation = "add_or_remove"
    examples: int
    copies: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.noise_multiplier < math.inf:
            raise ValueError(f"noise_multiplier: expected a finite number >= 0, got {self.noise_multiplier}")
        if self.steps < 1:
            raise ValueError(f"steps: expected >= 1, got {self.steps}")
        if not 0 < self.sampling_rate <= 1:
            raise ValueError(f"sampling_rate: expected > 0 and <= 1, got {self.sampling_rate}")
        if self.relation not in RELATIONS:
            raise ValueError(f"relation: expected one of {', '.join(RELATIONS)}, got {self.relation!r}")
        if self.examples < 1:
            raise ValueError(f"examples: expected >= 1, got {self.examples}")
        if self.copies < 0:
            raise ValueError(f"copies: expected >= 0, got {self.copies}")


@dataclass(frozen=True, kw_only=True)
class Spending:
    """All releases of a training, and what one query of the finished network releases.

    Attributes:
        phases: One or two, composed: an encoder's DP-SGD, then activations.
        delta: Chance with which the statement may fail, > 0 and < 1.
        label_epsilon: Of randomised response on the labels, added to the training epsilon; ``inf``: labels are released
            in clear, which is stated and not added; 0: the phases protect labels too.
        query_noise_multiplier: Of one inference query, noise over its replace-one sensitivity; 0: queries are not
            private.

    Raises:
        ValueError: a field is out of its range.
    """

    phases: tuple[Phase, ...]
    delta: float
    label_epsilon: float = 0.0
    query_noise_multiplier: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= len(self.phases) <= MOST_PHASES:
            raise ValueError(f"phases: expected 1 to {MOST_PHASES}, got {len(self.phases)}")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta: expected > 0 and < 1, got {self.delta}")
        for name in ("label_epsilon", "query_noise_multiplier"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected >= 0, got {getattr(self, name)}")

    @property
    def relation(self) -> Relation:
        """The relation of the whole: ``replace_one`` as soon as a part is known under it alone."""
        replaced = self.label_epsilon > 0 or any(phase.relation == "replace_one" for phase in self.phases)
        return "replace_one" if replaced else "add_or_remove"
