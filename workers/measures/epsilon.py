"""What a training has spent, as epsilons: by three accountants, per record, per person and per query.

They belong to no image and to no shard: the shard with the first image computes them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from hushsweep.workers.accounting import Spending, person_epsilon, query_epsilon, training_epsilons
from hushsweep.workers.accounting.epsilons import boundary_warning
from hushsweep.workers.accounting.renyi import wider_orders
from hushsweep.workers.limits import check_limits
from hushsweep.workers.measures.base import FittedPoint, MeasureRows, Statistic, Subject, row_schema

NO_ACCOUNT = "no epsilon: the mechanism keeps no account of what its training has released"
NO_NOISE = "no noise in the training: epsilon is infinite"
NO_NUMBER = "no finite epsilon was found at this delta, though there is noise"
LABELS_IN_CLEAR = "protects images alone: training labels are released in clear"


@dataclass(frozen=True, kw_only=True)
class Epsilon:
    """Epsilons of the training, nats, with the numbers that they follow from."""

    VERSION: ClassVar[int] = 1

    max_order: int = field(default=63, metadata={"ge": 63})
    """Largest order of Renyi differential privacy."""

    def __post_init__(self) -> None:
        check_limits(self)

    def inapplicable(self, point: FittedPoint) -> str | None:
        """Only what was trained with an account has an epsilon."""
        return NO_ACCOUNT if spending_of(point) is None else None

    def measure(self, subject: Subject, points: Sequence[FittedPoint]) -> MeasureRows:
        """Account for every point, once over all shards.

        Raises:
            PlugInError: the extra dp is not installed.
        """
        first = 0 in subject.positions
        return MeasureRows(per_image=(self._rows(point, first) for point in points))

    def _rows(self, point: FittedPoint, first: bool) -> pa.Table:
        spending = spending_of(point)
        assert spending is not None
        rows = [
            {
                "point_id": point.point_id,
                "estimate": found.name,
                "value": found.value,
                "unit": found.unit,
                "images": found.n,
                "status": "not_applicable" if found.value is None else "complete",
                "reason": found.reason,
            }
            for found in (self._statistics(spending) if first else ())
        ]
        return pa.Table.from_pylist(rows, schema=row_schema("per_image/epsilon"))

    def _statistics(self, spending: Spending) -> Iterator[Statistic]:
        examples = spending.phases[0].examples
        caution, orders = _caution(spending), wider_orders(self.max_order)
        found = training_epsilons(spending, orders)
        for name, order in (
            ("pld", None),
            ("rdp", found.rdp_order),
            ("rdp_classic", found.rdp_classic_order),
        ):
            warning = (
                boundary_warning(order, orders) if order is not None and name in found.at_boundary else None
            )
            yield _number(f"epsilon_{name}", getattr(found, name), spending, _joined(caution, warning))
            if order is not None:
                yield Statistic(f"order_{name}", order, "", examples, None, warning)
        person = person_epsilon(spending)
        if person.epsilon is None:
            yield Statistic("epsilon_person", None, "", examples, None, person.reason)
        else:
            yield _number("epsilon_person", person.epsilon, spending, _joined(caution, person.reason))
        yield _label_statistic(spending)
        query = query_epsilon(spending)
        yield Statistic(
            "epsilon_query",
            query,
            "nat" if query is not None else "",
            examples,
            None,
            "local, of one query: whatever image was sent instead"
            if query is not None
            else "queries are not private: what leaves at inference has no noise of this account",
        )
        yield Statistic("delta", spending.delta, "fraction", examples)
        for number, phase in enumerate(spending.phases):
            suffix = f"_{number + 1}" if number else ""
            yield Statistic(f"noise_multiplier{suffix}", phase.noise_multiplier, "sensitivity", examples)
            yield Statistic(f"steps{suffix}", float(phase.steps), "steps", examples)
            yield Statistic(f"sampling_rate{suffix}", phase.sampling_rate, "fraction", examples)
            yield Statistic(f"examples{suffix}", float(phase.examples), "images", examples)

    def summarise(self, per_image: pa.Table) -> Sequence[Statistic]:
        """Return the numbers as they are."""
        rows = per_image.filter(pc.is_valid(per_image["estimate"])).to_pylist()
        return [
            Statistic(row["estimate"], row["value"], row["unit"], row["images"], None, row["reason"])
            for row in rows
        ]


def spending_of(point: FittedPoint) -> Spending | None:
    """What the training of a point's mechanism has released; None where nobody kept an account."""
    found = (getattr(stage.mechanism, "spending", None) for stage in point.stages)
    return next((spending for spending in found if spending is not None), None)


def why_infinite(spending: Spending) -> str:
    """Say why an epsilon is no number."""
    return NO_NOISE if any(phase.noise_multiplier == 0 for phase in spending.phases) else NO_NUMBER


def _number(name: str, epsilon: float, spending: Spending, reason: str | None) -> Statistic:
    examples = spending.phases[0].examples
    if math.isinf(epsilon):
        return Statistic(name, None, "", examples, None, why_infinite(spending))
    return Statistic(name, epsilon, "nat", examples, None, reason)


def _label_statistic(spending: Spending) -> Statistic:
    epsilon, examples = spending.label_epsilon, spending.phases[0].examples
    if math.isinf(epsilon):
        return Statistic("epsilon_label", None, "", examples, None, "training labels are released in clear")
    if epsilon == 0:
        reason = (
            "labels have none of their own: the epsilon of the training protects image and label together"
        )
        return Statistic("epsilon_label", None, "", examples, None, reason)
    return Statistic(
        "epsilon_label", epsilon, "nat", examples, None, "of randomised response, in the others already"
    )


def _caution(spending: Spending) -> str | None:
    """What an epsilon of the training does not say by itself."""
    relation = "neighbours differ in one replaced record" if spending.relation == "replace_one" else None
    return _joined(relation, LABELS_IN_CLEAR if math.isinf(spending.label_epsilon) else None)


def _joined(*reasons: str | None) -> str | None:
    return "; ".join(reason for reason in reasons if reason) or None
