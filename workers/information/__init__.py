"""How much of the images is in what leaves: bounds of a known Gaussian channel, and the published estimator."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.workers.information.channel import informative_entries as informative_entries
    from hushsweep.workers.information.contrastive import Contrast as Contrast
    from hushsweep.workers.information.contrastive import contrast as contrast
    from hushsweep.workers.information.contrastive import log_densities as log_densities
    from hushsweep.workers.information.gaussian import upper_diagonal as upper_diagonal
    from hushsweep.workers.information.gaussian import upper_full as upper_full
    from hushsweep.workers.information.held_out import upper_held_out as upper_held_out
    from hushsweep.workers.information.labels import label_entropy as label_entropy
    from hushsweep.workers.information.labels import label_entropy_given as label_entropy_given
    from hushsweep.workers.information.labels import label_information as label_information
    from hushsweep.workers.information.nearest import ite_knn as ite_knn
    from hushsweep.workers.information.nearest import kl_knn as kl_knn

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "channel": ["informative_entries"],
        "contrastive": ["Contrast", "contrast", "log_densities"],
        "gaussian": ["upper_diagonal", "upper_full"],
        "held_out": ["upper_held_out"],
        "labels": ["label_entropy", "label_entropy_given", "label_information"],
        "nearest": ["ite_knn", "kl_knn"],
    },
)
