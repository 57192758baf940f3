"""What leaves: images through every stage of a point's chain, with noise from wherever it is wanted."""

from collections.abc import Callable

from torch import Tensor

from hushsweep.workers.measures.base import FittedPoint, FittedStage
from hushsweep.workers.mechanisms import UnitNoise


def leaving(
    point: FittedPoint,
    inputs: Tensor,
    *,
    features: Callable[[Tensor], Tensor],
    noise_of: Callable[[FittedStage, Tensor], UnitNoise],
) -> Tensor:
    """Run a chain.

    Args:
        point: the fitted point.
        inputs: ``(n, *input)`` normalised images.
        features: the network up to the cut.
        noise_of: gives a stage's unit noise for values of the shape of the tensor given.

    Returns:
        ``(n, *input)`` if the last stage acts at the input, else ``(n, *feature)``.
    """
    values = inputs
    for stage in point.stages:
        if stage.at == "input":
            values = stage.mechanism.apply(values, noise_of(stage, values))
    if point.leaves == "input":
        return values
    values = features(values)
    for stage in point.stages:
        if stage.at == "cut":
            values = stage.mechanism.apply(values, noise_of(stage, values))
    return values
