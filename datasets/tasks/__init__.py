"""Tasks by name: a primary and a secondary label for every image, and parts to learn from, choose on and report."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.datasets.tasks.class_counts import shuffled_class_counts as shuffled_class_counts
    from hushsweep.datasets.tasks.floor import SecondaryEntropy as SecondaryEntropy
    from hushsweep.datasets.tasks.floor import blind_floor as blind_floor
    from hushsweep.datasets.tasks.floor import secondary_entropy as secondary_entropy
    from hushsweep.datasets.tasks.parts import training_part as training_part
    from hushsweep.datasets.tasks.parts import validation_part as validation_part
    from hushsweep.datasets.tasks.registry import TASKS as TASKS
    from hushsweep.datasets.tasks.registry import ClassTask as ClassTask
    from hushsweep.datasets.tasks.registry import ColumnTask as ColumnTask

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "class_counts": ["shuffled_class_counts"],
        "floor": ["SecondaryEntropy", "blind_floor", "secondary_entropy"],
        "parts": ["training_part", "validation_part"],
        "registry": ["TASKS", "ClassTask", "ColumnTask"],
    },
)
