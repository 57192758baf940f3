"""What a training has spent, stored with what it learned."""

import torch
from torch import Tensor, nn

from hushsweep.workers.accounting.spending import MOST_PHASES, RELATIONS, Phase, Spending

__all__ = ["Ledger", "Phase", "Spending"]


class Ledger(nn.Module):
    """A mechanism's client, or part of one, that holds what was spent."""

    phases: Tensor
    terms: Tensor

    def __init__(self) -> None:
        super().__init__()
        # float64 holds the counts exactly
        self.register_buffer("phases", torch.zeros(MOST_PHASES, 6, dtype=torch.float64))
        self.register_buffer("terms", torch.zeros(4, dtype=torch.float64))

    def record(self, spending: Spending) -> None:
        """Write down what was spent, in place of what stood there."""
        phases, terms = torch.zeros_like(self.phases), torch.zeros_like(self.terms)
        for row, phase in enumerate(spending.phases):
            phases[row, 0] = phase.noise_multiplier
            phases[row, 1] = phase.steps
            phases[row, 2] = phase.sampling_rate
            phases[row, 3] = RELATIONS.index(phase.relation)
            phases[row, 4] = phase.examples
            phases[row, 5] = phase.copies
        terms[0] = len(spending.phases)
        terms[1] = spending.delta
        terms[2] = spending.label_epsilon
        terms[3] = spending.query_noise_multiplier
        self.phases.copy_(phases)
        self.terms.copy_(terms)

    @property
    def spending(self) -> Spending | None:
        """What was recorded; None before anything was."""
        count, delta, label_epsilon, query = self.terms.tolist()
        if not count:
            return None
        phases = tuple(
            Phase(
                noise_multiplier=multiplier,
                steps=int(steps),
                sampling_rate=rate,
                relation=RELATIONS[int(relation)],
                examples=int(examples),
                copies=int(copies),
            )
            for multiplier, steps, rate, relation, examples, copies in self.phases[: int(count)].tolist()
        )
        return Spending(phases=phases, delta=delta, label_epsilon=label_epsilon, query_noise_multiplier=query)
