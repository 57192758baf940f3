"""Networks as (features, head) at a named cut."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.workers.models.architectures import find_architecture as find_architecture
    from hushsweep.workers.models.check import CheckedModel as CheckedModel
    from hushsweep.workers.models.check import check_model as check_model
    from hushsweep.workers.models.config import InputTransform as InputTransform
    from hushsweep.workers.models.config import ModelConfig as ModelConfig
    from hushsweep.workers.models.files import is_path as is_path
    from hushsweep.workers.models.load import check_cut as check_cut
    from hushsweep.workers.models.load import load_model as load_model
    from hushsweep.workers.models.split import SplitModel as SplitModel
    from hushsweep.workers.models.trainable import Trainable as Trainable
    from hushsweep.workers.models.trainable import starting_state as starting_state
    from hushsweep.workers.models.trainable import trainable as trainable
    from hushsweep.workers.models.transform import input_transform as input_transform

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "architectures": ["find_architecture"],
        "check": ["CheckedModel", "check_model"],
        "config": ["InputTransform", "ModelConfig"],
        "files": ["is_path"],
        "load": ["check_cut", "load_model"],
        "split": ["SplitModel"],
        "trainable": ["Trainable", "starting_state", "trainable"],
        "transform": ["input_transform"],
    },
)
