"""Epsilons of what a training has released: RDP and PLD on dp-accounting, per record and per person."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.workers.accounting.calibration import check_budget as check_budget
    from hushsweep.workers.accounting.calibration import noise_for_epsilon as noise_for_epsilon
    from hushsweep.workers.accounting.epsilons import ACCOUNTANTS as ACCOUNTANTS
    from hushsweep.workers.accounting.epsilons import Epsilons as Epsilons
    from hushsweep.workers.accounting.epsilons import query_epsilon as query_epsilon
    from hushsweep.workers.accounting.epsilons import training_epsilons as training_epsilons
    from hushsweep.workers.accounting.extra import require_dp as require_dp
    from hushsweep.workers.accounting.ledger import Ledger as Ledger
    from hushsweep.workers.accounting.person import person_epsilon as person_epsilon
    from hushsweep.workers.accounting.renyi import ORDERS as ORDERS
    from hushsweep.workers.accounting.spending import Phase as Phase
    from hushsweep.workers.accounting.spending import Spending as Spending

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "calibration": ["check_budget", "noise_for_epsilon"],
        "epsilons": ["ACCOUNTANTS", "Epsilons", "query_epsilon", "training_epsilons"],
        "extra": ["require_dp"],
        "ledger": ["Ledger"],
        "person": ["person_epsilon"],
        "renyi": ["ORDERS"],
        "spending": ["Phase", "Spending"],
    },
)
