"""Into how many parts it pays to cut the images of a trial."""

from collections.abc import Sequence

from hushsweep.sweeps.identity import learns
from hushsweep.sweeps.resolve import Setting
from hushsweep.workers.features import BLOCK
from hushsweep.workers.measures.reconstruction import BLOCK as ATTACKED_TOGETHER
from hushsweep.workers.trial import PointConfig

_COSTLY = ("bounds", "hcr")
"""Measures that take a second and more per image, of some of the images."""
_COSTLY_IMAGES = 4
"""Of theirs that are worth a worker: it loads the model first."""


def useful_shards(setting: Setting, points: Sequence[PointConfig]) -> int:
    """Return the largest number of parts that keep their workers busy, 1 where the work is a training.

    Activations are computed and kept in blocks, so a part smaller than one would wait for its neighbour's.
    """
    if any(learns(stage) for stage in points[0].stages):
        return 1
    size = setting.info.size
    asked = (m.options["images"] for point in points for m in point.measures if m.name in _COSTLY)
    costly = max((min(size, images or size) for images in asked), default=0)
    attacked = (
        m.options["images"] for point in points for m in point.measures if m.options.get("attack") == "map"
    )
    descents = max((min(size, images) for images in attacked), default=0)
    return max(1, size // BLOCK, costly // _COSTLY_IMAGES, descents // ATTACKED_TOGETHER)
