"""What a mechanism on the image does to some images, as pictures: what stays of every pixel, and what leaves."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from hushsweep.workers.limits import check_limits
from hushsweep.workers.measures.accuracy import mean_statistic
from hushsweep.workers.measures.base import FittedPoint, MeasureRows, Statistic, Subject, reports, row_schema
from hushsweep.workers.measures.channel import Channels, active_stages
from hushsweep.workers.measures.information import evenly
from hushsweep.workers.measures.pictures import picture
from hushsweep.workers.mechanisms.cloak import CloakConstants


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Pictures of some images: as they are, the weight of every pixel, and what leaves."""

    VERSION: ClassVar[int] = 1

    images: int = field(default=4, metadata={"ge": 1})
    """So many of the decodable images at most, evenly spaced."""

    def __post_init__(self) -> None:
        check_limits(self)

    def inapplicable(self, point: FittedPoint) -> str | None:
        """Only an image can be shown, and only one that something was done to."""
        if not active_stages(point):
            return "no picture: nothing acts on the image"
        if point.leaves != "input":
            return "no picture: the last mechanism acts at the cut, where no image leaves"
        return None

    def measure(self, subject: Subject, points: Sequence[FittedPoint]) -> MeasureRows:
        """Draw the pictures of the shard's images."""
        channels = Channels(subject)
        images = subject.activations.images
        rows, pictures = list[dict[str, Any]](), list[dict[str, Any]]()
        for point in points:
            available = [p for p in range(len(images)) if reports(p, point.step)]
            # one at a time: the same rounding whatever the shards
            for position in evenly(available, self.images):
                if position in subject.positions:
                    row, shown = self._image(subject, channels, point, position)
                    rows.append(row)
                    pictures += shown
        return MeasureRows(
            per_image=[pa.Table.from_pylist(rows, schema=row_schema("per_image/masks"))],
            pictures=pa.Table.from_pylist(pictures) if pictures else None,
        )

    @torch.inference_mode()
    def _image(
        self, subject: Subject, channels: Channels, point: FittedPoint, position: int
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Of one image its row and its pictures."""
        images, model = subject.activations.images, subject.model
        clean = channels.clean("input", [position])
        after = channels.leaves(point, [position]).values.reshape(clean.shape)
        before, left = (255 * (x * model.std + model.mean) for x in (clean, after))
        weights = pixel_weights(point, clean)
        kinds = {"original": before[0], "transformed": left[0]}
        if weights is not None:
            kinds["mask"] = 255 * weights[0]
        name = {"point_id": point.point_id, "image_index": int(images.indices[position])}
        row = {
            **name,
            "image": images.names[position],
            "label": int(images.labels[position]),
            "weight_mean": None if weights is None else float(weights.double().mean()),
            "rmse_grey": float((left - before).double().square().mean().sqrt()),
            "status": "complete",
        }
        return row, [{**name, **picture(kind, levels)} for kind, levels in kinds.items()]

    def summarise(self, per_image: pa.Table) -> Sequence[Statistic]:
        """Means over the images shown."""
        rows = per_image.filter(pc.equal(per_image["status"], "complete"))
        errors = mean_statistic("rmse_grey", rows["rmse_grey"].to_numpy().astype(np.float64), "grey level")
        weights = rows.filter(pc.is_valid(rows["weight_mean"]))["weight_mean"].to_numpy()
        if not len(weights):
            reason = "no weights: the mechanism adds noise of one size, or does more than to weigh and to add"
            return [errors, Statistic("weight_mean", None, "", rows.num_rows, None, reason)]
        return [errors, mean_statistic("weight_mean", weights, "fraction")]


def pixel_weights(point: FittedPoint, inputs: Tensor) -> Tensor | None:
    """What stays of every entry, 0 to 1, of the shape of ``inputs``; None where a mechanism has no such thing.

    Of ANI it is w. Cloak's noise of size sigma hides as much as that of w x + (1 - w) v with (1 - w) / w = sigma, hence
    1 / (1 + sigma), and 0 where the entry is replaced by a constant: the two are then shown on one scale.
    """
    stages = active_stages(point)
    mechanism: Any = stages[0].mechanism
    if len(stages) > 1:
        return None
    if hasattr(mechanism, "mask"):
        weights: Tensor = mechanism.mask(inputs)
        return weights
    own = getattr(mechanism, "client", None)
    if isinstance(own, CloakConstants):
        return (own.kept / (1 + own.std)).expand(inputs.shape)
    return None
