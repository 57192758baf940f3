"""Bounds of some images as rows, as maps over the modes and as pictures."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from hushsweep.workers.bounds import idct
from hushsweep.workers.measures.base import FittedPoint, MeasureRows, Subject, row_schema
from hushsweep.workers.measures.geometry import Chunk
from hushsweep.workers.measures.noise_level import HOLDS_FOR, Found
from hushsweep.workers.measures.pictures import picture
from hushsweep.workers.noise import stream_generator

if TYPE_CHECKING:
    from hushsweep.workers.measures.bounds import Bounds


class Collector:
    """Turns bounds into tables, chunk by chunk."""

    def __init__(self, options: Bounds, subject: Subject) -> None:
        self._options, self._subject = options, subject
        self._rows = list[dict[str, Any]]()
        self._modes = dict[tuple[str, str, str | None], _ModeSums]()
        self._pictures = list[dict[str, Any]]()

    def add(
        self,
        point: FittedPoint,
        geometry: Chunk,
        found: Sequence[Found],
        reported: Container[int],
        drawn: Container[int],
    ) -> None:
        """Keep one point's bounds of the images at positions ``reported``, and pictures of those at ``drawn``."""
        images = self._subject.activations.images
        chosen = [row for row, position in enumerate(geometry.positions) if position in reported]
        for bound in found:
            columns = _columns(bound, geometry, self._options)
            complete = list[int]()
            for row in chosen:
                position = geometry.positions[row]
                values = {name: column[row] for name, column in columns.items()}
                reason = _missing(bound, row, values)
                if reason is None:
                    complete.append(row)
                else:
                    values = dict.fromkeys(values)
                self._rows.append(
                    {
                        "point_id": point.point_id,
                        "image_index": int(images.indices[position]),
                        "image": images.names[position],
                        "label": int(images.labels[position]),
                        "bound": bound.bound,
                        "search": bound.search,
                        "holds_for": HOLDS_FOR[bound.bound],
                        "basis": self._options.basis if bound.variance is not None else None,
                        **values,
                        "status": "complete" if reason is None else "not_applicable",
                        "reason": reason or (bound.notes[row] if bound.notes else None),
                    }
                )
            if complete and bound.variance is not None:
                key = (point.point_id, bound.bound, bound.search)
                self._modes.setdefault(key, _ModeSums()).add(bound, complete)
            self._draw(point, geometry, bound, [row for row in complete if geometry.positions[row] in drawn])
        for row in chosen:
            if geometry.positions[row] in drawn:
                self._picture(point, geometry, row, "original", None, geometry.probe.x[row])

    def rows(self) -> MeasureRows:
        """Return what was collected as tables."""
        modes = [self._mode_table(*key, sums) for key, sums in self._modes.items()]
        return MeasureRows(
            per_image=[pa.Table.from_pylist(self._rows, schema=row_schema("per_image/bounds"))],
            modes=pa.concat_tables(modes, promote_options="permissive") if modes else None,
            pictures=pa.Table.from_pylist(self._pictures) if self._pictures else None,
        )

    def _mode_table(self, point_id: str, bound: str, search: str | None, sums: _ModeSums) -> pa.Table:
        channel, row, column = np.indices(self._subject.model.input_shape, dtype=np.int32).reshape(3, -1)
        size = channel.size
        nothing = pa.nulls(size, pa.float64())
        shares = [nothing if share is None else (share / sums.count).cpu().numpy() for share in sums.shares]
        std = (sums.std / sums.count).cpu().numpy()
        return pa.table(
            {
                "point_id": pa.repeat(point_id, size),
                "bound": pa.repeat(bound, size),
                "search": pa.array([search] * size, pa.string()),
                "basis": pa.repeat(self._options.basis, size),
                "channel": channel,
                "row": row,
                "column": column,
                "std_bound": nothing if sums.estimate else std,
                "std_estimate": std if sums.estimate else nothing,
                "non_identifiable": shares[0],
                "unresolved": shares[1],
                "n": np.full(size, sums.count, np.int64),
            }
        )

    def _draw(self, point: FittedPoint, geometry: Chunk, bound: Found, complete: Sequence[int]) -> None:
        for row in complete:
            x = geometry.probe.x[row]
            if bound.variance is not None and not bound.estimate:
                (index,) = self._subject.image_indices([geometry.positions[row]])
                generator = stream_generator(
                    seed=point.seed, purpose="bounds-picture-signs", image_index=index
                )
                signs = torch.from_numpy(generator.choice((-1.0, 1.0), size=x.shape)).to(x.device)
                offset = signs * bound.variance[row].sqrt().reshape(x.shape)
                offset = idct(offset) if self._options.basis == "dct" else offset
                self._picture(point, geometry, row, "bound", bound, x + offset)
            if bound.moved is not None:
                self._picture(point, geometry, row, "moved", bound, x + bound.moved[row])

    def _picture(
        self, point: FittedPoint, geometry: Chunk, row: int, kind: str, bound: Found | None, x: Tensor
    ) -> None:
        levels = (x - geometry.probe.low) * geometry.grey_levels
        name = None if bound is None else "_".join(dict.fromkeys(filter(None, (bound.bound, bound.search))))
        (index,) = self._subject.image_indices([geometry.positions[row]])
        self._pictures.append(
            {"point_id": point.point_id, "image_index": index, **picture(kind, levels, name)}
        )


class _ModeSums:
    """Sums over images of what the map over modes shows."""

    def __init__(self) -> None:
        self.count, self.estimate = 0, False
        self.std: Tensor = torch.zeros(())
        self.shares: list[Tensor | None] = [None, None]

    def add(self, bound: Found, rows: Sequence[int]) -> None:
        assert bound.variance is not None
        self.count += len(rows)
        self.estimate = bound.estimate
        self.std = self.std + bound.variance[rows].sqrt().sum(0)
        if bound.shares is not None:
            sums = [share[rows].sum(0) for share in bound.shares]
            self.shares = [
                new if old is None else old + new for old, new in zip(self.shares, sums, strict=True)
            ]


def _columns(bound: Found, geometry: Chunk, options: Bounds) -> dict[str, list[Any]]:
    """Turn a bound into columns of the table, a value per image."""
    n = len(geometry.positions)
    columns = dict[str, Any](bound.columns)
    grey = geometry.grey_levels
    kind = "estimate" if bound.estimate else "bound"
    if bound.variance is not None:
        channels, height, width = geometry.probe.x.shape[1:]
        variance = bound.variance.reshape(n, channels, height, width)
        std = bound.variance.sqrt()
        columns[f"std_{kind}_mean"] = std.mean(1)
        columns[f"std_{kind}_median"] = std.quantile(0.5, dim=1)
        columns[f"mse_{kind}"] = variance.mean((1, 2, 3))
        if not bound.estimate:
            columns["std_bound_max"] = std.amax(1)
            columns["mse_bound_grey"] = (variance * grey.square()).mean((1, 2, 3))
            if options.basis == "dct":
                low = options.low_frequency
                columns["std_bound_low_mean"] = variance[:, :, :low, :low].sqrt().mean((1, 2, 3))
    elif bound.mse is not None:
        columns[f"mse_{kind}"] = bound.mse
        if not bound.estimate:
            # the error in grey levels is at least that of the channel with the fewest grey levels per unit
            least = bound.mse * grey.square().min()
            columns["mse_bound_grey"] = least if bound.mse_grey is None else bound.mse_grey
    return {
        name: value.tolist() if isinstance(value, Tensor) else [value] * n for name, value in columns.items()
    }


def _missing(bound: Found, row: int, values: dict[str, Any]) -> str | None:
    """Say why a row has no number; None if it has."""
    reason = bound.missing if bound.missing is None or isinstance(bound.missing, str) else bound.missing[row]
    if reason is not None:
        return reason
    if any(isinstance(value, float) and not math.isfinite(value) for value in values.values()):
        return "the bound is not finite in float64 at this noise"
    return None
