"""Reconstruction attacks: programs that make an image of what has left of it."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.workers.attacks.reconstruction.base import Knowledge as Knowledge
    from hushsweep.workers.attacks.reconstruction.base import Reconstructor as Reconstructor
    from hushsweep.workers.attacks.reconstruction.base import Target as Target
    from hushsweep.workers.attacks.reconstruction.bayes import Bayes as Bayes
    from hushsweep.workers.attacks.reconstruction.decoder import Training as Training
    from hushsweep.workers.attacks.reconstruction.decoder import fit_decoder as fit_decoder
    from hushsweep.workers.attacks.reconstruction.image_errors import ImageErrors as ImageErrors
    from hushsweep.workers.attacks.reconstruction.image_errors import image_errors as image_errors
    from hushsweep.workers.attacks.reconstruction.means import Blind as Blind
    from hushsweep.workers.attacks.reconstruction.means import ClassMean as ClassMean
    from hushsweep.workers.attacks.reconstruction.posterior_mode import Descent as Descent
    from hushsweep.workers.attacks.reconstruction.posterior_mode import PosteriorMode as PosteriorMode
    from hushsweep.workers.attacks.reconstruction.ridge import Ridge as Ridge

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["Knowledge", "Reconstructor", "Target"],
        "bayes": ["Bayes"],
        "decoder": ["Training", "fit_decoder"],
        "image_errors": ["ImageErrors", "image_errors"],
        "means": ["Blind", "ClassMean"],
        "posterior_mode": ["Descent", "PosteriorMode"],
        "ridge": ["Ridge"],
    },
)
