"""Chi-square divergence by sampling, for noise that has a density but no closed form."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

_CHUNK = 1024  # draws held at once


class Law(Protocol):
    """What is needed of a distribution of noised features; those of ``torch.distributions`` have it."""

    def sample(self, sample_shape: torch.Size) -> Tensor:
        """Draw ``(*sample_shape, *batch, *event)`` from torch's global stream."""
        ...

    def log_prob(self, value: Tensor, /) -> Tensor:
        """Logarithm of the joint density of the event, ``(*sample_shape, *batch)``."""
        ...


class ChiSquareEstimate(NamedTuple):
    """An estimate, no bound, float64, dimensionless."""

    value: Tensor  # (*batch), >= 0
    stderr: Tensor  # (*batch), standard error of value


@torch.no_grad()
def chi_square_monte_carlo(clean: Law, shifted: Law, *, draws: int, seed: int) -> ChiSquareEstimate:
    """Estimate the chi-square divergence of ``shifted`` from ``clean``.

    With w the ratio of the densities it is the mean of ``2 (w - 1)^2 / (1 + w)`` over draws of which one half comes
    from each law; nothing cancels for small divergences, and the relative standard error is then about
    ``sqrt(2 / draws)``. An ESTIMATE: what `hcr_std_bound` makes of it is no proven bound. For divergences far above 1
    rare draws carry the mean, and both numbers come out too small.

    Args:
        clean: law of the noised features at the true input; its parameters in float64, and with ``log_prob`` of all
            features together, e.g. ``Independent(Normal(a, s), 1)``.
        shifted: law at the shifted input, of the same shape.
        draws: in all, >= 4.
        seed: of the draws; torch's global streams are left as they were.

    Returns:
        Value and standard error, ``(*batch)`` of the laws; ``inf`` where ``shifted`` reaches what ``clean`` never does.

    Raises:
        ValueError: fewer than 4 draws, or a ``log_prob`` is NaN or both are infinite.
    """
    if draws < 4:
        raise ValueError(f"draws: expected a number >= 4, got {draws}")
    halves = (draws // 2, draws - draws // 2)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        means, squared_errors = zip(
            *(_mean(law, clean, shifted, count) for law, count in zip((clean, shifted), halves, strict=True)),
            strict=True,
        )
    return ChiSquareEstimate((means[0] + means[1]) / 2, (squared_errors[0] + squared_errors[1]).sqrt() / 2)


def _mean(law: Law, clean: Law, shifted: Law, draws: int) -> tuple[Tensor, Tensor]:
    """Mean of the integrand over draws from one law, and the square of its standard error."""
    parts = []
    for start in range(0, draws, _CHUNK):
        y = law.sample(torch.Size([min(_CHUNK, draws - start)]))
        log_ratio = shifted.log_prob(y).double() - clean.log_prob(y).double()
        if bool(log_ratio.isnan().any()):
            raise ValueError(
                "log_prob: expected numbers, finite for one of the laws, got NaN or two infinite ones"
            )
        # (w - 1) / (w + 1) = tanh(log(w) / 2)
        parts.append(2 * torch.expm1(log_ratio) * torch.tanh(log_ratio / 2))
    values = torch.cat(parts)
    mean = values.mean(0)
    return mean, torch.where(mean.isinf(), torch.inf, values.var(0) / draws)
