"""What a trial will roughly cost, in counts that a user knows the price of."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from hushsweep.sweeps.resolve import Setting
from hushsweep.workers.trial import PointConfig


@dataclass(frozen=True)
class Estimate:
    """Counts of the work that dominates."""

    image_passes: int = 0
    """Images through the network up to the cut; the features of a cut serve all levels, seeds and draws."""
    head_passes: int = 0
    """Images through the rest of the network: levels times draws, less what a linear head shares."""
    jacobian_rows: int = 0
    """Rows of exact Jacobians: derivative passes up to the cut, each about the price of an image pass."""
    solves: int = 0
    """Least-squares solves of searches for shifts: images times restarts times rounds."""
    trainings: int = 0

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def estimate(setting: Setting, points: Sequence[PointConfig]) -> Estimate:
    """Count the work of points that share data, model, weights and cut."""
    size = setting.info.size
    total = Estimate(image_passes=size, head_passes=size, trainings=int(setting.model.weights == "train"))
    shared = set[tuple[str, int]]()
    for point in points:
        for measure in point.measures:
            options = measure.options
            if measure.name == "accuracy":
                at_input = any(stage.at == "input" for stage in point.stages)
                passes = size * options["draws"]
                total += Estimate(head_passes=passes, image_passes=passes if at_input else 0)
                continue
            # searches are shared by all levels of a seed, Jacobians by all seeds
            if (measure.measure_id, point.seed) not in shared:
                total += _solves(measure.name, options, setting)
            if measure.name == "bounds" and not any(key == measure.measure_id for key, _ in shared):
                total += _jacobians(options, setting)
            shared.add((measure.measure_id, point.seed))
    return total


def jacobian_route(options: dict[str, Any], setting: Setting) -> str | None:
    """Say whether the measure bounds will decompose the exact Jacobian, and how large that is."""
    size = setting.jacobian
    if size is None or not _wants_jacobian(options):
        return None
    memory = size.memory_gb(options["precision"])
    shape = f"about {size.rows:,} x {size.inputs:,} per image, {memory:.2g} GiB"
    if memory <= options["memory_gb"]:
        return f"bounds: exact Jacobian, {shape}"
    return (
        f"bounds: the Jacobian is too large ({shape}; memory_gb: {options['memory_gb']:g}), so cramer_rao is "
        f"estimated from {options['restarts']} solves per image, with hcr and barankin of the same shifts"
    )


def _wants_jacobian(options: dict[str, Any]) -> bool:
    by_search = {"jacobian", "nullspace", "large_step"} & set(options["shifts"])
    return bool({"cramer_rao", "dfil", "mmse"} & set(options["bounds"])) or bool(by_search)


def _is_exact(options: dict[str, Any], setting: Setting) -> bool:
    size = setting.jacobian
    return size is not None and size.memory_gb(options["precision"]) <= options["memory_gb"]


def _images(options: dict[str, Any], setting: Setting) -> int:
    return min(setting.info.size, options["images"] or setting.info.size)


def _solves(name: str, options: dict[str, Any], setting: Setting) -> Estimate:
    if name == "hcr":
        return Estimate(solves=_images(options, setting) * options["restarts"] * options["rounds"])
    if name != "bounds":
        return Estimate()
    solves = options["restarts"] * options["rounds"] * ("lsqr" in options["shifts"])
    estimated = _wants_jacobian(options) and not _is_exact(options, setting)
    solves += options["restarts"] * (estimated or "pseudo_inverse" in options["shifts"])
    return Estimate(solves=_images(options, setting) * solves)


def _jacobians(options: dict[str, Any], setting: Setting) -> Estimate:
    if setting.jacobian is None or not _wants_jacobian(options) or not _is_exact(options, setting):
        return Estimate()
    return Estimate(jacobian_rows=_images(options, setting) * setting.jacobian.rows)
