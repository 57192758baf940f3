"""Whether a network tells what it has learned from: two attacks without shadow models, and what epsilon leaves them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from hushsweep.datasets.images import ImageSet
from hushsweep.workers.accounting import person_epsilon
from hushsweep.workers.attacks.membership import area, rate_at, rate_bound, standardised
from hushsweep.workers.attacks.view import BLOCK, QueryNoise, View
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.limits import check_limits
from hushsweep.workers.measures.base import (
    FittedPoint,
    FittedStage,
    MeasureRows,
    Statistic,
    Subject,
    row_schema,
)
from hushsweep.workers.measures.epsilon import NO_ACCOUNT, spending_of, why_infinite
from hushsweep.workers.measures.information import evenly
from hushsweep.workers.mechanisms import UnitNoise
from hushsweep.workers.mechanisms.learned import FittedLearned
from hushsweep.workers.noise import unit_noise

FALSE_RATES = (0.001, 0.01)
HOLDS_FOR = "every attacker who sees the trained network once; on average over trainings"
_OVERFLOW = 1e30
_FEWEST = 8


@dataclass(frozen=True, kw_only=True)
class Membership:
    """How well two attacks tell images that were learned from (part train) from reported ones, by the logits.

    loss: a threshold on the cross-entropy of the label, Yeom et al. (2018), arXiv:1709.01604. lira: a test in the
    spirit of Carlini et al. (2022), arXiv:2112.03570, whose Gaussians are fitted on half of the non-members in place of
    shadow models; the other half is told from the members. With shadow models attacks are stronger.
    """

    VERSION: ClassVar[int] = 1

    images: int = field(default=2000, metadata={"ge": _FEWEST})
    """So many members at most, evenly spaced, and as many non-members."""

    def __post_init__(self) -> None:
        check_limits(self)

    def inapplicable(self, point: FittedPoint) -> str | None:
        """Every network can be attacked."""
        return None

    def measure(self, subject: Subject, points: Sequence[FittedPoint]) -> MeasureRows:
        """Score the shard's share of the non-members, and in the shard of the first of them all members.

        Raises:
            PlugInError: the reported images are those that were learned from, or they are too few.
            DatasetError: there is no part train.
        """
        train, reported = subject.part("train"), subject.activations.images
        if train.info.split == reported.info.split:
            raise PlugInError(
                f"membership: the reported split {reported.info.split!r} is the one that was learned from; report "
                "another (dataset.split)"
            )
        if len(train) < _FEWEST or len(reported) < _FEWEST:
            raise PlugInError(
                f"membership: needs {_FEWEST} images of the train part and as many reported ones, there are "
                f"{len(train)} and {len(reported)}; raise dataset.train_limit or dataset.limit"
            )
        return MeasureRows(per_image=(_Scores(self, subject, train, point).rows() for point in points))

    def summarise(self, per_image: pa.Table) -> Sequence[Statistic]:
        """Area under the curve, and true positive rates at false positive rates of 0.1 % and 1 %.

        Raises:
            ValueError: there are too few images.
        """
        rows = per_image.filter(pc.is_valid(per_image["member"]))
        rows = rows.sort_by([("member", "ascending"), ("image_index", "ascending")])  # whatever the shards
        member = rows["member"].to_numpy() == 1
        if min(member.sum(), (~member).sum()) < _FEWEST:
            raise ValueError(
                f"membership needs {_FEWEST} members and as many non-members that could be decoded"
            )
        loss, confidence, labels = (rows[name].to_numpy() for name in ("loss", "confidence", "label"))
        note = rows["reason"][0].as_py()
        fitted, tested = np.flatnonzero(~member)[::2], np.flatnonzero(~member)[1::2]
        lira = standardised(confidence, labels, confidence[fitted], labels[fitted])
        return [
            *_attack("loss", -loss[member], -loss[~member], note),
            *_attack("lira", lira[member], lira[tested], note),
            *_bounds(rows.filter(member)),
        ]


class _Scores:
    """One point on the images of a shard."""

    def __init__(self, options: Membership, subject: Subject, train: ImageSet, point: FittedPoint) -> None:
        self._subject, self._point, self._train = subject, point, train
        self._reported = subject.activations.images
        self._view = View(subject=subject, point=point)
        available = [p for p in range(len(self._reported)) if point.reports(p)]
        self._others = np.array(evenly(available, options.images))
        self._members = np.array(evenly(range(len(train)), options.images))

    def rows(self) -> pa.Table:
        """Return the rows that this shard owes."""
        positions = self._subject.positions
        own = (self._others >= positions.start) & (self._others < positions.stop)
        parts = [self._table(self._reported, self._others, own, member=False)]
        if own[0]:
            parts.append(
                self._table(self._train, self._members, np.ones(len(self._members), bool), member=True)
            )
        return pa.concat_tables(parts)

    def _table(self, images: ImageSet, chosen: np.ndarray, own: np.ndarray, *, member: bool) -> pa.Table:
        loss, confidence = self._scores(images, chosen, own, member=member)
        epsilon, delta, reason = _epsilon(self._point) if member else (None, None, None)
        chosen = chosen[own]
        columns = {
            "point_id": [self._point.point_id] * len(chosen),
            "image_index": images.indices[chosen],
            "image": [images.names[int(position)] for position in chosen],
            "label": images.labels[chosen],
            "member": np.full(len(chosen), member, np.int32),
            "loss": loss,
            "confidence": confidence,
            "epsilon": [epsilon] * len(chosen),
            "delta": [delta] * len(chosen),
            "epsilon_reason": [reason] * len(chosen),
            "status": ["complete"] * len(chosen),
            "reason": [_doubt(self._subject, self._point)] * len(chosen),
        }
        return pa.table(columns, schema=row_schema("per_image/membership"))

    def _scores(
        self, images: ImageSet, chosen: np.ndarray, own: np.ndarray, *, member: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Loss and scaled confidence of the chosen images that are this shard's own."""
        clean, losses, confidences = self._view.clean(images, keep=False), [np.zeros(0)], [np.zeros(0)]
        for start in range(0, len(chosen), BLOCK):
            block, mine = chosen[start : start + BLOCK], own[start : start + BLOCK]
            if not mine.any():
                continue
            # whole blocks, though the shard may begin or end within one: the same sums whatever the shards
            values = clean.rows(block)
            noise = self._noise(images.indices[block].tolist(), member)
            labels = torch.from_numpy(images.labels[block]).to(values.device)
            loss, confidence = _loss_and_confidence(self._logits(self._view.see(values, noise)), labels)
            losses.append(loss[mine])
            confidences.append(confidence[mine])
            self._subject.progress(int(mine.sum()))
        return np.concatenate(losses), np.concatenate(confidences)

    @torch.no_grad()
    def _logits(self, seen: Tensor) -> Tensor:
        if self._point.leaves == "input":
            seen = self._subject.activations.cut(seen)
        return self._subject.model.head(seen)

    def _noise(self, indices: Sequence[int], member: bool) -> QueryNoise:
        """Of reported images the first draw of the accuracy; of members, whose indices are another set's, one more."""
        if not member:
            return self._view.counted_noise(indices, 0)

        def of(stage: FittedStage, shape: Sequence[int], query: int) -> UnitNoise:
            return lambda law: unit_noise(
                law,
                tuple(shape[1:]),
                seed=self._point.seed,
                purpose=f"membership/{stage.purpose}",
                image_indices=indices,
                draw=0,
                device=self._subject.activations.device,
            )

        return of


def _loss_and_confidence(logits: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropy and log(p / (1 - p)) of the labels, ``(n,)`` float64 each, from ``(n, classes)``."""
    logits, label = logits.double(), labels[:, None]
    own = logits.gather(1, label).squeeze(1)
    others = logits.scatter(1, label, -math.inf).logsumexp(1)
    # 1 - p of the probability itself would be 0 from a margin of 37 on
    confidence = (own - others).nan_to_num(nan=-_OVERFLOW, posinf=_OVERFLOW, neginf=-_OVERFLOW)
    loss = torch.logaddexp(torch.zeros_like(confidence), -confidence)
    return loss.cpu().numpy(), confidence.cpu().numpy()


def _doubt(subject: Subject, point: FittedPoint) -> str | None:
    """What speaks against reading the numbers as those of a network that has learned the members."""
    if any(isinstance(stage.mechanism, FittedLearned) for stage in point.stages):
        return None
    weights = subject.key.get("model", {}).get("weights", "train")
    known = {
        "train": None,
        "random": "random weights have learned nothing: 0.5 is right of the area",
        "prototype": "prototype weights hold reported images, which stand here as non-members",
    }
    return known.get(weights, "weights from elsewhere: whether they have learned these images is not known")


def _epsilon(point: FittedPoint) -> tuple[float | None, float | None, str | None]:
    """Epsilon and delta that hold for one person's image, or why there is none."""
    spending = spending_of(point)
    if spending is None:
        return None, None, NO_ACCOUNT
    epsilon, reason = person_epsilon(spending)
    if epsilon is None or math.isinf(epsilon):
        return None, None, reason if epsilon is None else why_infinite(spending)
    return epsilon, spending.delta, reason


def _attack(name: str, members: np.ndarray, others: np.ndarray, note: str | None) -> Iterator[Statistic]:
    count = len(members) + len(others)
    found = area(members, others)
    yield Statistic(f"{name}_auc", found.value, "fraction", count, found.stderr, note)
    for false_rate in FALSE_RATES:
        statistic, rate = f"{name}_tpr_fpr_{false_rate:g}", rate_at(members, others, false_rate)
        if rate is None:
            needed = math.ceil(1 / false_rate)
            reason = (
                f"{len(others)} non-members: one of them is more than {false_rate:.1%}, it takes {needed}"
            )
            yield Statistic(statistic, None, "", count, None, reason)
            continue
        reason = f"{rate.false_positives} of {len(others)} non-members above the threshold"
        yield Statistic(statistic, rate.value, "fraction", count, None, reason)
        yield Statistic(f"{statistic}_low", rate.low, "fraction", count, None, "Clopper-Pearson, 95 %")
        yield Statistic(f"{statistic}_high", rate.high, "fraction", count, None, "Clopper-Pearson, 95 %")


def _bounds(members: pa.Table) -> Iterator[Statistic]:
    epsilon, delta, reason = (members[name][0].as_py() for name in ("epsilon", "delta", "epsilon_reason"))
    for false_rate in FALSE_RATES:
        name, count = f"tpr_bound_fpr_{false_rate:g}", members.num_rows
        if epsilon is None:
            yield Statistic(name, None, "", count, None, reason)
        else:
            bound = rate_bound(epsilon, delta, false_rate)
            yield Statistic(name, bound, "fraction", count, None, reason, HOLDS_FOR)
