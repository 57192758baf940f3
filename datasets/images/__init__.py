"""Input images: loaders, lookup and the decoded cache."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.datasets.images.base import DatasetConfig as DatasetConfig
    from hushsweep.datasets.images.base import DatasetError as DatasetError
    from hushsweep.datasets.images.base import DatasetInfo as DatasetInfo
    from hushsweep.datasets.images.base import ImageSet as ImageSet
    from hushsweep.datasets.images.base import Undecodable as Undecodable
    from hushsweep.datasets.images.cache import load_images as load_images
    from hushsweep.datasets.images.cache import node_cache as node_cache
    from hushsweep.datasets.images.geometry import Geometry as Geometry
    from hushsweep.datasets.images.registry import LOADERS as LOADERS
    from hushsweep.datasets.images.registry import describe_dataset as describe_dataset
    from hushsweep.datasets.images.roots import resolve_root as resolve_root
    from hushsweep.datasets.images.source import ImageSource as ImageSource

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["DatasetConfig", "DatasetError", "DatasetInfo", "ImageSet", "Undecodable"],
        "cache": ["load_images", "node_cache"],
        "geometry": ["Geometry"],
        "registry": ["LOADERS", "describe_dataset"],
        "roots": ["resolve_root"],
        "source": ["ImageSource"],
    },
)
