"""What a trial will roughly cost, in counts that a user knows the price of."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from hushsweep.sweeps.identity import learns
from hushsweep.sweeps.resolve import Setting
from hushsweep.workers.attacks.reconstruction.posterior_mode import CHOSEN_ON
from hushsweep.workers.bounds.search import SEARCHES
from hushsweep.workers.measures import Bounds
from hushsweep.workers.mechanisms import find_mechanism
from hushsweep.workers.trial import MeasureConfig, PointConfig

_PASSES = {"large_step": 2 * 16 * 35, "two_point": 2 * 4 * 200}
"""Per image and noise level of the searches that no other level can use again: there and back, starts, steps."""
_DECODER = ("queries", "masked", "epochs", "batch_size", "learning_rate", "training_precision", "levels")
"""Options that make one decoder another."""
_INVERSE_ITERATION = 2 * 4
"""Solves of a round: both ways for every start."""


@dataclass(frozen=True)
class Estimate:
    """Counts of the work that dominates."""

    image_passes: int = 0
    """Images through the network up to the cut; the features of a cut serve all levels, seeds and draws."""
    head_passes: int = 0
    """Images through the rest of the network: levels times draws, less what a linear head shares."""
    jacobian_rows: int = 0
    """Rows of exact Jacobians: derivative passes up to the cut, each about the price of an image pass."""
    search_passes: int = 0
    """Shifted images up to the cut, or back: what large_step, two_point and the attack map take at every level."""
    solves: int = 0
    """Least-squares solves of searches for shifts: images times restarts times rounds."""
    trainings: int = 0

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def estimate(setting: Setting, points: Sequence[PointConfig]) -> Estimate:
    """Count the work of points that share data, model, weights and cut."""
    size = setting.info.size
    total = Estimate(image_passes=size, head_passes=size, trainings=_trainings(setting, points))
    asking = dict[str, list[PointConfig]]()
    measures = {measure.measure_id: measure for point in points for measure in point.measures}
    for point in points:
        for measure in point.measures:
            asking.setdefault(measure.measure_id, []).append(point)
    total += _shared_by_attacks([(measures[key], own) for key, own in asking.items()], setting)
    return sum((_of_measure(measures[key], own, setting) for key, own in asking.items()), total)


def _shared_by_attacks(
    asked: Sequence[tuple[MeasureConfig, list[PointConfig]]], setting: Setting
) -> Estimate:
    """Count decoders, and the pairs of images of the measure sandwich: several measures use the same ones."""
    decoders, pairs = dict[tuple[Any, ...], int](), dict[tuple[Any, ...], int]()
    for measure, points in asked:
        options = measure.options
        if options.get("attack") == "decoder":
            one_for_all = options["levels"] is not None
            count = len({point.seed for point in points}) if one_for_all else len(points)
            decoders[tuple(str(options[name]) for name in _DECODER)] = count
        if measure.name == "sandwich":
            key = (options["images"], options["distance"], options["queries"])
            pairs[key] = _images(options, setting) * _PASSES["two_point"] * len(points)
    return Estimate(trainings=sum(decoders.values()), search_passes=sum(pairs.values()))


def _of_measure(measure: MeasureConfig, points: Sequence[PointConfig], setting: Setting) -> Estimate:
    """Count what one measure of some points adds."""
    options, levels = measure.options, len(points)
    if measure.name == "accuracy":
        passes = setting.info.size * options["draws"]
        at_input = sum(any(stage.at == "input" for stage in point.stages) for point in points)
        return Estimate(head_passes=passes * levels, image_passes=passes * at_input)
    if measure.name == "secondary":
        return Estimate(trainings=levels)
    if measure.name in ("reconstruction", "sandwich"):
        if options["attack"] != "map":
            return Estimate()
        # of a sandwich the image, the image moved and a blurred one; there and back
        inputs = options["draws"] * (3 if measure.name == "sandwich" else 1)
        chosen_on = 0 if options["total_variation"] is not None else CHOSEN_ON[options["prior"]]
        images = _images(options, setting) * inputs + chosen_on
        return Estimate(search_passes=images * 2 * options["steps"] * levels)
    # most searches are shared by all levels of a seed, Jacobians by all seeds
    solves = _solves(measure.name, options, setting) * len({point.seed for point in points})
    if measure.name != "bounds":
        return Estimate(solves=solves)
    return Estimate(
        solves=solves,
        search_passes=_search_passes(options, setting) * levels,
        jacobian_rows=_jacobian_rows(options, setting),
    )


def _trainings(setting: Setting, points: Sequence[PointConfig]) -> int:
    """Of the model's weights, unless they are learned anew with a mechanism, and of the mechanism."""
    own = setting.model.weights == "train"
    stage = next((stage for stage in points[0].stages if learns(stage)), None)
    if stage is None:
        return int(own)
    mechanism = find_mechanism(stage.name)(**stage.parameters)
    return int(own and mechanism.server != "scratch") + int(mechanism.weights is None)


def jacobian_route(options: dict[str, Any], setting: Setting) -> str | None:
    """Say whether the measure bounds will decompose the exact Jacobian, how large that is, and what is lost without."""
    needing = Bounds(**options).needing_jacobian
    if not needing:
        return None
    size = setting.jacobian
    memory = size.memory_gb(options["precision"])
    shape = f"about {size.rows:,} x {size.inputs:,} per image, {memory:.2g} GiB"
    if _is_exact(options, setting):
        return f"bounds: exact Jacobian, {shape}"
    outcome = []
    if "cramer_rao" in needing:
        same_shifts = [name for name in ("hcr", "barankin") if name in options["bounds"]]
        beside = f", with {' and '.join(same_shifts)} of the same shifts" if same_shifts else ""
        outcome.append(f"cramer_rao is estimated from {options['restarts']} solves per image{beside}")
    asked = {*options["bounds"], *options["shifts"]} - {"cramer_rao"}
    lost = [name for name in needing if name in asked]
    if lost:
        outcome.append(f"not applicable: {', '.join(lost)}")
    limit = f"memory_gb: {options['memory_gb']:g}"
    return f"bounds: the Jacobian is too large ({shape}; {limit}); {'; '.join(outcome)}"


def _is_exact(options: dict[str, Any], setting: Setting) -> bool:
    memory: float = setting.jacobian.memory_gb(options["precision"])
    return memory <= float(options["memory_gb"])


def _images(options: dict[str, Any], setting: Setting) -> int:
    return min(setting.info.size, options["images"] or setting.info.size)


def _solves(name: str, options: dict[str, Any], setting: Setting) -> int:
    if name == "hcr":
        return int(_images(options, setting) * options["restarts"] * options["rounds"])
    if name != "bounds":
        return 0
    searches, restarts, rounds = Bounds(**options).searches, options["restarts"], options["rounds"]
    estimated = "cramer_rao" in options["bounds"] and not _is_exact(options, setting)
    solves = restarts * rounds * ("lsqr" in searches)
    solves += _INVERSE_ITERATION * rounds * ("inverse_iteration" in searches)
    solves += restarts * (estimated or "pseudo_inverse" in searches)
    return int(_images(options, setting) * solves)


def _search_passes(options: dict[str, Any], setting: Setting) -> int:
    exact = _is_exact(options, setting)
    possible = [name for name in Bounds(**options).searches if exact or not SEARCHES[name].needs_jacobian]
    return _images(options, setting) * sum(_PASSES.get(name, 0) for name in possible)


def _jacobian_rows(options: dict[str, Any], setting: Setting) -> int:
    if not Bounds(**options).needing_jacobian or not _is_exact(options, setting):
        return 0
    return _images(options, setting) * setting.jacobian.rows
