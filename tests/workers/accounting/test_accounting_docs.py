"""Every number of the published table that docs/differential-privacy.md recomputes."""

import itertools
import re
from pathlib import Path

import pytest
from dp_support import spent

from hushsweep.workers.accounting import ORDERS, training_epsilons
from hushsweep.workers.accounting.renyi import classic, renyi, wider_orders

PAGE = Path(__file__).parents[3] / "docs" / "differential-privacy.md"
PRINTED = {1: "3.44", 10: "0.36", 100: "0.18"}
TABLE = PAGE.read_text().partition("the guide prints")[2].partition("\n\n")[0]
ROWS = re.findall(r"^\| (1|10|100) \| (.*) \|$", TABLE, flags=re.MULTILINE)


def shown(epsilon: float, order: float | None) -> str:
    return f"{epsilon:.4f}" + (f" ({order:g})" if order is not None else "")


@pytest.mark.parametrize(("noise", "cells"), ROWS)
def test_the_table_is_what_comes_out(noise: str, cells: str) -> None:
    found, wider = (training_epsilons(spent(float(noise)), orders) for orders in (ORDERS, wider_orders(512)))
    assert cells.split(" | ") == [
        PRINTED[int(noise)],
        shown(found.rdp_classic, found.rdp_classic_order),
        shown(found.rdp, found.rdp_order),
        shown(found.pld, None),
        shown(wider.rdp_classic, wider.rdp_classic_order),
        shown(wider.rdp, wider.rdp_order),
    ]


def test_no_other_setting_gives_what_the_guide_prints_for_ten() -> None:
    """Neither another number of records or epochs, nor another delta, that keeps its 3.44 at noise multiplier 1."""
    assert len(ROWS) == 3
    tried = itertools.product((45_000, 50_000, 60_000), (60, 100, 200), (1e-5, 1 / 50_000, 1 / 75_000))
    for examples, epochs, delta in tried:
        setting = {"steps": epochs * examples // 128, "sampling_rate": 128 / examples, "delta": delta}
        first, second = (
            classic(renyi(spent(noise, **setting), ORDERS), ORDERS, delta).epsilon for noise in (1, 10)
        )
        assert abs(first - 3.44) > 0.01 or abs(second - 0.36) > 0.05, setting
