"""The three accountants side by side."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from hushsweep.workers.accounting.extra import require_dp
from hushsweep.workers.accounting.loss_distribution import gaussian_epsilon, loss_epsilon
from hushsweep.workers.accounting.renyi import ORDERS, RenyiEpsilon, classic, improved, renyi
from hushsweep.workers.accounting.spending import Spending

Accountant = Literal["pld", "rdp", "rdp_classic"]
ACCOUNTANTS: tuple[Accountant, ...] = ("pld", "rdp", "rdp_classic")


class Epsilons(NamedTuple):
    """Epsilons of one training, nats; ``pld <= rdp <= rdp_classic`` up to the grid of the first.

    Attributes:
        rdp_classic: RDP with the classic conversion.
        rdp_classic_order: Order that gave it; None where the epsilon is 0 or infinite.
        rdp: RDP with the improved conversion.
        rdp_order: Likewise.
        pld: Privacy loss distribution.
        at_boundary: Names of the accountants whose best order is the first or last: they would do better with others.
    """

    rdp_classic: float
    rdp_classic_order: float | None
    rdp: float
    rdp_order: float | None
    pld: float
    at_boundary: tuple[Accountant, ...]


def training_epsilons(spending: Spending, orders: Sequence[float] = ORDERS) -> Epsilons:
    """Compose all phases; every training record is taken for a person of its own.

    Where the phases have different relations, all are accounted under ``replace_one``. Randomised response on labels
    adds its epsilon; labels in clear add nothing, which the reader has to be told.

    Args:
        spending: what was released.
        orders: of RDP, ascending, each > 1.

    Raises:
        PlugInError: the extra dp is not installed.
    """
    require_dp("an epsilon")
    divergence = renyi(spending, orders)
    first = classic(divergence, orders, spending.delta)
    second = improved(divergence, orders, spending.delta)
    labels = label_epsilon(spending)
    by_order: dict[Accountant, RenyiEpsilon] = {"rdp": second, "rdp_classic": first}
    return Epsilons(
        rdp_classic=first.epsilon + labels,
        rdp_classic_order=first.order,
        rdp=second.epsilon + labels,
        rdp_order=second.order,
        pld=loss_epsilon(spending) + labels,
        at_boundary=tuple(name for name, epsilon in by_order.items() if epsilon.at_end),
    )


def label_epsilon(spending: Spending) -> float:
    """What randomised response on labels adds; 0 for labels in clear."""
    return spending.label_epsilon if spending.label_epsilon < float("inf") else 0.0


def query_epsilon(spending: Spending) -> float | None:
    """Local epsilon of one inference query, under ``replace_one``; None where queries are not private.

    Raises:
        PlugInError: the extra dp is not installed.
    """
    if spending.query_noise_multiplier == 0:
        return None
    require_dp("an epsilon")
    return gaussian_epsilon(spending.query_noise_multiplier, spending.delta)


def boundary_warning(order: float, orders: Sequence[float]) -> str:
    """Say that the best order is the first or last of the list, and what to do."""
    which = "largest" if order == orders[-1] else "smallest"
    return (
        f"the best RDP order {order:g} is the {which} that there is, so this epsilon is larger than it need be: give "
        "other orders, or read PLD"
    )
