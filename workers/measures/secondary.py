"""What a curious server learns of the secondary task from what leaves: the accuracy of a trained attacker."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from hushsweep.datasets.images import ImageSet
from hushsweep.datasets.tasks import blind_floor, secondary_entropy
from hushsweep.workers.attacks.networks import NETWORKS, network_note
from hushsweep.workers.attacks.training import Attack, Trained, labels_of, trained_attacker
from hushsweep.workers.attacks.view import BLOCK, CleanImages, View, is_noiseless, rounded, why_no_mask
from hushsweep.workers.devices import threads
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning import Learning
from hushsweep.workers.limits import check_limits
from hushsweep.workers.measures.accuracy import hits_of, mean_statistic
from hushsweep.workers.measures.base import FittedPoint, MeasureRows, Statistic, Subject

_QUERIES = 10
_OVERFLOW = 1e30


@dataclass(frozen=True, kw_only=True)
class Secondary(Learning):
    """Accuracy of a fresh network that was trained to read the secondary label from what leaves."""

    VERSION: ClassVar[int] = 1
    SECONDARY: ClassVar[bool] = True
    """Whether it needs secondary labels."""

    attacker: Literal["single", "mask", "average"] = "single"
    """single: sees one output per image; mask: also the client's mask of it; average: the mean of several outputs."""
    queries: int | None = field(default=None, metadata={"ge": 2})
    """Outputs of the same image that average sees the mean of; 10 unless told."""
    network: Literal["server", "mlp"] = "server"
    """server: the server's architecture from where the data reach it; mlp: two hidden layers of 512."""
    draws: int = field(default=1, metadata={"ge": 1})
    """Repetitions of the noise per reported image."""

    def __post_init__(self) -> None:
        check_limits(self)
        if self.queries is not None and self.attacker != "average":
            raise ValueError(
                f"queries: only attacker average asks more than once, not {self.attacker}; leave it out"
            )
        if self.network not in NETWORKS:
            raise ValueError(f"network: expected one of {', '.join(NETWORKS)}, got {self.network!r}")
        if self.attacker == "average" and self.queries is None:
            object.__setattr__(
                self, "queries", _QUERIES
            )  # so that rows say how many, and one number has one id

    def inapplicable(self, point: FittedPoint) -> str | None:
        """A mask has to be there to be given, and averaging needs noise."""
        if self.attacker == "mask":
            return why_no_mask(point)
        if self.attacker == "average" and is_noiseless(point):
            return "without noise every query gets the same answer: see the attacker single"
        return None

    def measure(self, subject: Subject, points: Sequence[FittedPoint]) -> MeasureRows:
        """Train an attacker per point, or find it trained, and test it on the images of the shard.

        Raises:
            PlugInError: there are no secondary labels, or no attacker could be trained.
        """
        labels_of(subject.activations.images)
        attacks = _Attacks(self, subject, points)
        attacks.train()
        return MeasureRows(per_image=(self._rows(subject, point, attacks) for point in points))

    def _rows(self, subject: Subject, point: FittedPoint, attacks: "_Attacks") -> pa.Table:
        images = subject.activations.images
        chosen = np.array([p for p in subject.positions if point.reports(p)], dtype=np.int64)
        columns = {
            "point_id": pa.repeat(point.point_id, len(chosen)),
            "image_index": images.indices[chosen],
            "image": pa.array([images.names[position] for position in chosen], pa.string()),
            "label": labels_of(images)[chosen],
            "primary": images.labels[chosen],
        }
        failure = attacks.failures.get(point.point_id)
        if failure is not None:
            status = {
                "status": pa.repeat("failed", len(chosen)),
                "reason": pa.repeat(str(failure), len(chosen)),
            }
            return pa.table({**columns, **status})
        trained = attacks.trained(point)
        hits, cross_entropy = self._test(subject, point, trained)
        inside = chosen - subject.positions.start
        note = network_note(self.network, subject, point)
        return pa.table(
            {
                **columns,
                "draws": np.full(len(chosen), self.draws, np.int32),
                "hits_top1": hits[inside],
                "cross_entropy": cross_entropy[inside],
                "attacker": pa.repeat(trained.digest, len(chosen)),
                "epoch": np.full(len(chosen), trained.epoch, np.int32),
                "validation_top1": np.full(len(chosen), trained.validation_top1),
                "validation_images": np.full(len(chosen), trained.validation_images, np.int32),
                "status": pa.repeat("complete", len(chosen)),
                "reason": pa.array([note] * len(chosen), pa.string()),
            }
        )

    def _test(self, subject: Subject, point: FittedPoint, trained: Trained) -> tuple[np.ndarray, np.ndarray]:
        """Draws in which the label came first, and the mean cross-entropy in bits, of the shard's images."""
        images, positions = subject.activations.images, subject.positions
        hits, loss = np.zeros(len(positions), np.int32), np.zeros(len(positions))
        view = self.view(subject, point)
        clean, labels = view.clean(images, keep=False), np.array(labels_of(images))
        with threads(self.training_threads), torch.no_grad():
            # whole blocks, though the shard may begin or end within one: the same sums whatever the shards
            for start in range(positions.start - positions.start % BLOCK, positions.stop, BLOCK):
                block = np.arange(start, min(start + BLOCK, len(images)))
                inside = (block >= positions.start) & (block < positions.stop)
                rows = block[inside] - positions.start
                values, target = (
                    clean.rows(block),
                    torch.from_numpy(labels[block]).to(subject.activations.device),
                )
                indices = subject.image_indices(block)
                for draw in range(self.draws):
                    logits = trained.network(view.see(values, view.counted_noise(indices, draw)))
                    hits[rows] += hits_of(logits, target)[0][inside]
                    loss[rows] += _bits(logits, target)[inside] / self.draws
                subject.progress(len(rows))
        return hits, loss

    def view(self, subject: Subject, point: FittedPoint) -> View:
        """How this attacker looks at a point."""
        return View(subject=subject, point=point, queries=self.queries or 1, masked=self.attacker == "mask")

    def summarise(self, per_image: pa.Table) -> Sequence[Statistic]:
        """Means over images, and beside them what the primary label alone gives away of the same images.

        Raises:
            ValueError: no attacker could be trained, or there is no image.
        """
        rows = per_image.filter(pc.equal(per_image["status"], "complete"))
        if not rows.num_rows:
            failed = per_image.filter(pc.is_valid(per_image["label"]))
            if failed.num_rows:
                raise ValueError(failed["reason"][0].as_py())
        hits = rows["hits_top1"].to_numpy() / rows["draws"].to_numpy()
        top1 = mean_statistic("top1", hits, "fraction")._replace(reason=rows["reason"][0].as_py())
        loss = mean_statistic("cross_entropy", rows["cross_entropy"].to_numpy(), "bit")
        assert loss.value is not None
        primary, label = rows["primary"].to_numpy(), rows["label"].to_numpy()
        entropy, n = secondary_entropy(primary, label), len(label)
        return [
            top1,
            Statistic("floor", blind_floor(primary, label), "fraction", n),
            Statistic(
                "validation_top1",
                rows["validation_top1"][0].as_py(),
                "fraction",
                rows["validation_images"][0].as_py(),
                reason="of the epoch that was chosen by it, hence a little too high",
            ),
            Statistic("information", entropy.entropy - loss.value, "bit", n, loss.stderr),
            Statistic("information_floor", entropy.entropy - entropy.given_primary, "bit", n),
            Statistic("entropy", entropy.entropy, "bit", n),
        ]


class _Attacks:
    """The attackers of a measure's points: trained by this worker or by those of other shards."""

    def __init__(self, options: Secondary, subject: Subject, points: Sequence[FittedPoint]) -> None:
        self._options, self._subject, self._points = options, subject, points
        self.failures = dict[str, PlugInError]()
        self._memory = dict[str, Trained]()
        self._starts = dict[bool, CleanImages]()

    def train(self) -> None:
        """Train all attackers that nobody else is at; then wait for those.

        Raises:
            PlugInError: not one of them could be trained.
        """
        done = set[str]()
        for wait in (False, True):
            for point in self._in_turn():
                if point.point_id in done or point.point_id in self.failures:
                    continue
                try:
                    trained = trained_attacker(self._attack(point), wait=wait)
                except PlugInError as error:  # a training that diverged leaves the other points alone
                    self.failures[point.point_id] = error
                    continue
                if trained is not None:
                    done.add(point.point_id)
                    if self._subject.cache is None:
                        self._memory[point.point_id] = trained
        if self.failures and len(self.failures) == len(self._points):
            raise next(iter(self.failures.values()))

    def trained(self, point: FittedPoint) -> Trained:
        """The attacker of a point; from the disk where it is kept there, so that memory holds one at a time."""
        if self._subject.cache is None:
            return self._memory[point.point_id]
        trained = trained_attacker(self._attack(point))
        assert trained is not None
        return trained

    def _in_turn(self) -> Iterator[FittedPoint]:
        """Every shard begins at another point."""
        positions, size = self._subject.positions, len(self._subject.activations.images)
        first = len(self._points) * positions.start // max(1, size)
        yield from (*self._points[first:], *self._points[:first])

    def _attack(self, point: FittedPoint) -> Attack:
        view = self._options.view(self._subject, rounded(point))
        return Attack(
            view=view,
            kind=self._options.network,
            learning=self._options,
            train=self._clean(view.starts_at_cut),
            train_images=self._train,
            validation_images=self._validation,
        )

    @cached_property
    def _train(self) -> ImageSet:
        return self._subject.part("train")

    @cached_property
    def _validation(self) -> ImageSet:
        return self._subject.part("validation")

    def _clean(self, at_cut: bool) -> CleanImages:
        """Shared by all points that begin at the same place."""
        if at_cut not in self._starts:
            self._starts[at_cut] = CleanImages(self._subject, self._train, at_cut=at_cut, keep=True)
        return self._starts[at_cut]


def _bits(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Cross-entropy of every image, float64."""
    loss = torch.nn.functional.cross_entropy(logits.double(), labels, reduction="none") / np.log(2)
    found: np.ndarray = loss.nan_to_num(nan=_OVERFLOW, posinf=_OVERFLOW).cpu().numpy()
    return found
