"""What an attacker makes of what has left: an image, and how far it is from the true one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from hushsweep.workers.attacks.reconstruction import Knowledge, Reconstructor, image_errors
from hushsweep.workers.attacks.reconstruction.options import AttackOptions
from hushsweep.workers.attacks.reconstruction.perceptual import (
    LEAST,
    Network,
    perceptual_distance,
    perceptual_network,
    perceptual_weights,
)
from hushsweep.workers.attacks.training import Attack, trained_attacker
from hushsweep.workers.attacks.view import View
from hushsweep.workers.devices import threads
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning import Learning
from hushsweep.workers.measures.accuracy import mean_statistic
from hushsweep.workers.measures.base import FittedPoint, MeasureRows, Statistic, Subject, reports, row_schema
from hushsweep.workers.measures.information import evenly
from hushsweep.workers.measures.pictures import picture
from hushsweep.workers.models.architectures import Published

BLOCK = 64
"""Images that are attacked together, whatever the batch size or the shards: no rounding then depends on them."""
_WORST_OFF = 0.05
_PIXEL = "normalised pixel^2"


@dataclass(frozen=True, kw_only=True)
class Reconstruction(AttackOptions):
    """Errors of a reconstruction attack, image by image; also whom and what the reconstruction gives away."""

    VERSION: ClassVar[int] = 1

    images: int = field(default=1000, metadata={"ge": 1})
    """So many of the decodable images at most, evenly spaced."""
    draws: int = field(default=1, metadata={"ge": 1})
    """Repetitions of the noise per image, with a reconstruction each."""
    candidates: int = field(default=100, metadata={"ge": 2})
    """Images among which the true one is to be found again, as the nearest to the reconstruction."""
    secondary: bool = False
    """Also let a network that was trained on clean images read the secondary label off the reconstruction."""
    lpips: Network | None = None
    """Also the perceptual distance that torchvision's alex, vgg or squeeze sees, whose published weights have to be on
    the machine or can be fetched."""
    pictures: int = field(default=0, metadata={"ge": 0})
    """Keep so many of the images, evenly spaced, and their reconstructions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lpips not in (None, *LEAST):
            raise ValueError(f"lpips: expected {', '.join(LEAST)}, or null for none, got {self.lpips!r}")

    @property
    def published(self) -> Published | None:
        """Weights that this measure needs besides the model's."""
        return None if self.lpips is None else perceptual_weights(self.lpips)

    def inapplicable(self, point: FittedPoint) -> str | None:
        """Some attacks need a known law of the noise, a mask, or noise to average over."""
        return self.why_not(point)

    def measure(self, subject: Subject, points: Sequence[FittedPoint]) -> MeasureRows:
        """Attack every point on the images of the shard."""
        run = _Run(self, subject)
        tables = [run.point(point) for point in points]
        return MeasureRows(
            per_image=tables, pictures=pa.Table.from_pylist(run.pictures) if run.pictures else None
        )

    def summarise(self, per_image: pa.Table) -> Sequence[Statistic]:
        """Means over images, and over the 5 % that are reconstructed best.

        Raises:
            ValueError: the attack could not be made ready, or there is no image.
        """
        rows = per_image.filter(pc.equal(per_image["status"], "complete"))
        if not rows.num_rows:
            failed = per_image.filter(pc.is_valid(per_image["label"]))
            raise ValueError(failed["reason"][0].as_py() if failed.num_rows else "no decodable image is left")
        oracle = "an oracle: it knows the network's tangent at the true image" if self._is_oracle else None
        mse = rows["mse"].to_numpy()
        found = [mean_statistic("mse", mse, _PIXEL)._replace(reason=oracle)]
        best = np.sort(mse)[: max(1, round(_WORST_OFF * len(mse)))]
        why = f"of the {len(best)} images that are reconstructed best"
        found.append(Statistic("mse_worst_off", float(best.mean()), _PIXEL, len(best), None, why))
        none = {"ssim": "images are smaller than SSIM's window of 11 pixels"}
        if self.lpips is not None:
            least = LEAST[self.lpips]
            none["lpips"] = (
                f"{self.lpips} looks at images of 1 or 3 channels with at least {least} pixels a side"
            )
        for name, unit in (("mse_grey", "grey level^2"), ("psnr", "dB"), *((name, "") for name in none)):
            values = rows[name].drop_null().to_numpy()
            if len(values):
                found.append(mean_statistic(name, values, unit))
            else:
                found.append(Statistic(name, None, "", rows.num_rows, None, none[name]))
        draws = rows["draws"].to_numpy()
        found.append(mean_statistic("recognised", rows["recognised"].to_numpy() / draws, "fraction"))
        number = rows["candidates"][0].as_py()
        again = mean_statistic("reidentified", rows["reidentified"].to_numpy() / draws, "fraction")
        found.append(again._replace(reason=f"among {number} candidates: chance {1 / number:.3g}"))
        hits = rows["secondary_hits"].drop_null()
        if len(hits):
            found.append(mean_statistic("secondary", hits.to_numpy() / draws, "fraction"))
        return found

    @property
    def _is_oracle(self) -> bool:
        return self.attack in self.ORACLES


class _Candidates(NamedTuple):
    """Images among which the true ones are looked for."""

    positions: np.ndarray
    inputs: Tensor  # (N, p) float32


class _Run:
    """One measure on the images of a shard."""

    def __init__(self, options: Reconstruction, subject: Subject) -> None:
        self._options, self._subject = options, subject
        self._knowledge = Knowledge(subject)
        self.pictures = list[dict[str, Any]]()

    def point(self, point: FittedPoint) -> pa.Table:
        """Attack one point; a failure is told in each of its rows, and leaves the other points alone."""
        options, subject = self._options, self._subject
        available = [p for p in range(len(subject.activations.images)) if reports(p, point.step)]
        chosen = evenly(available, options.images)
        shown = set(evenly(chosen, options.pictures)) if options.pictures else set()
        rows = list[dict[str, Any]]()
        blocks = [np.array(block) for block in own_blocks(chosen, subject.positions)]
        if not blocks:
            return pa.Table.from_pylist([], schema=row_schema("per_image/reconstruction"))
        with threads(options.training_threads):
            try:
                attack = options.fit(options.target(self._knowledge, point))
                reader = self._reader(point) if options.secondary else None
                if options.lpips is not None:
                    perceptual_network(options.lpips, subject.model.mean.device)
            except PlugInError as error:
                rows = [row for block in blocks for row in self._failed(point, block, str(error))]
                return pa.Table.from_pylist(rows, schema=row_schema("per_image/reconstruction"))
            candidates = self._candidates(available)
            for block in blocks:
                rows += self._block(point, attack, reader, candidates, block, shown)
                subject.progress(len(block))
        return pa.Table.from_pylist(rows, schema=row_schema("per_image/reconstruction"))

    def _names(self, point: FittedPoint, position: int) -> dict[str, Any]:
        images = self._subject.activations.images
        return {
            "point_id": point.point_id,
            "image_index": int(images.indices[position]),
            "image": images.names[position],
            "label": int(images.labels[position]),
        }

    def _failed(self, point: FittedPoint, block: np.ndarray, reason: str) -> Iterator[dict[str, Any]]:
        for position in block:
            yield {**self._names(point, position), "status": "failed", "reason": reason}

    @torch.no_grad()
    def _block(
        self,
        point: FittedPoint,
        attack: Reconstructor,
        reader: torch.nn.Module | None,
        candidates: _Candidates,
        block: np.ndarray,
        shown: set[int],
    ) -> list[dict[str, Any]]:
        options, subject = self._options, self._subject
        model, images = subject.model, subject.activations.images
        view = options.view(point, subject)
        clean = view.clean(images, keep=False).rows(block)
        truth = subject.activations.inputs(block.tolist())
        labels = torch.from_numpy(np.asarray(images.labels)[block].astype(np.int64)).to(truth.device)
        indices = subject.image_indices(block)
        sums = dict[str, Tensor]()
        for draw in range(options.draws):
            seen = view.see(clean, view.counted_noise(indices, draw))
            found = clipped(attack.reconstruct(seen, truth), model)
            errors = image_errors(found, truth, mean=model.mean, std=model.std)
            new = {name: value for name, value in errors._asdict().items() if value is not None}
            if options.lpips is not None:
                pixels = (x * model.std + model.mean for x in (found, truth))
                if (distance := perceptual_distance(options.lpips, *pixels)) is not None:
                    new["lpips"] = distance
            new["recognised"] = model.head(model.features(found)).argmax(1).eq(labels)
            new["reidentified"] = self._reidentified(found, truth, candidates, block)
            if reader is not None:
                assert images.secondary is not None
                secondary = torch.from_numpy(np.asarray(images.secondary)[block]).to(truth.device)
                new["secondary_hits"] = reader(found).argmax(1).eq(secondary)
            sums = {name: value.double() + sums.get(name, 0.0) for name, value in new.items()}
            if draw == 0:
                self._show(point, block, found, truth, shown)
        columns = {name: value.tolist() for name, value in sums.items()}
        rows = list[dict[str, Any]]()
        for row, position in enumerate(block):
            values: dict[str, Any] = {name: column[row] for name, column in columns.items()}
            for name in ("recognised", "reidentified", "secondary_hits"):
                values[name] = int(values[name]) if name in values else None
            for name in ("mse", "mse_grey", "psnr", "ssim", "lpips"):
                values[name] = values[name] / options.draws if name in values else None
            rows.append(
                {
                    **self._names(point, position),
                    "attack": options.attack,
                    "draws": options.draws,
                    **values,
                    "candidates": len(candidates.positions),
                    "attacker": attack.digest,
                    "status": "complete",
                }
            )
        return rows

    def _reader(self, point: FittedPoint) -> torch.nn.Module:
        """A network that reads the secondary label of clean images."""
        clean = FittedPoint(point_id="images", seed=point.seed, stages=(), leaves="input")
        view = View(subject=self._subject, point=clean)
        train, validation = self._knowledge.parts()
        learning = Learning(preset="short", training_threads=self._options.training_threads)
        trained = trained_attacker(
            Attack(
                view=view,
                kind="server",
                learning=learning,
                train=view.clean(train, keep=True),
                train_images=train,
                validation_images=validation,
            )
        )
        assert trained is not None
        return trained.network

    def _candidates(self, available: Sequence[int]) -> _Candidates:
        positions = evenly(available, self._options.candidates)
        inputs = [self._subject.activations.inputs([position]) for position in positions]
        return _Candidates(np.array(positions), torch.cat(inputs).flatten(1))

    def _reidentified(
        self, found: Tensor, truth: Tensor, candidates: _Candidates, block: np.ndarray
    ) -> Tensor:
        """Whether the true image is nearest; it takes the place of a candidate if it is none of them."""
        distance = torch.cdist(found.flatten(1), candidates.inputs)
        own = (found - truth).flatten(1).norm(dim=1)
        place = {position: index for index, position in enumerate(candidates.positions.tolist())}
        size = len(candidates.positions)
        replaced = torch.tensor([place.get(int(p), int(p) % size) for p in block], device=found.device)
        distance.scatter_(1, replaced[:, None], torch.inf)
        is_nearest: Tensor = own < distance.amin(1)
        return is_nearest

    def _show(
        self, point: FittedPoint, block: np.ndarray, found: Tensor, truth: Tensor, shown: set[int]
    ) -> None:
        model = self._subject.model
        for row, position in enumerate(block.tolist()):
            if position not in shown:
                continue
            (index,) = self._subject.image_indices([position])
            for kind, x in (("original", truth[row]), ("reconstruction", found[row])):
                levels = 255 * (x * model.std + model.mean)
                name = self._options.attack if kind == "reconstruction" else None
                self.pictures.append(
                    {"point_id": point.point_id, "image_index": index, **picture(kind, levels, name)}
                )


def own_blocks(chosen: Sequence[int], positions: range) -> list[Sequence[int]]:
    """Blocks of images that a shard attacks: those whose first image is its own."""
    blocks = [chosen[start : start + BLOCK] for start in range(0, len(chosen), BLOCK)]
    return [block for block in blocks if block[0] in positions]


def clipped(found: Tensor, model: Any) -> Tensor:
    """Move reconstructions into what pixels can be, nearer to every image; what is not finite becomes grey."""
    low, high = (0 - model.mean) / model.std, (1 - model.mean) / model.std
    grey = ((low + high) / 2).expand_as(found)
    return torch.where(found.isfinite(), found, grey).clamp(low, high)
