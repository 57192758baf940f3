"""Pictures of a sweep: accuracy and bounds against noise, maps and histograms of modes, images under noise."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.dashboards.figures.attacks import attacks_figure as attacks_figure
    from hushsweep.dashboards.figures.bounds import bounds_figure as bounds_figure
    from hushsweep.dashboards.figures.epsilons import draw_epsilons as draw_epsilons
    from hushsweep.dashboards.figures.epsilons import epsilons_figure as epsilons_figure
    from hushsweep.dashboards.figures.frontier import frontier_figure as frontier_figure
    from hushsweep.dashboards.figures.frontier import read_settings as read_settings
    from hushsweep.dashboards.figures.masks import masks_figure as masks_figure
    from hushsweep.dashboards.figures.masks import read_masks as read_masks
    from hushsweep.dashboards.figures.modes import histogram_figure as histogram_figure
    from hushsweep.dashboards.figures.modes import map_figure as map_figure
    from hushsweep.dashboards.figures.modes import middle_point as middle_point
    from hushsweep.dashboards.figures.modes import read_maps as read_maps
    from hushsweep.dashboards.figures.pictures import pictures_figure as pictures_figure
    from hushsweep.dashboards.figures.pictures import read_pictures as read_pictures
    from hushsweep.dashboards.figures.privacy import draw_privacy as draw_privacy
    from hushsweep.dashboards.figures.privacy import privacy_figures as privacy_figures
    from hushsweep.dashboards.figures.style import save_figure as save_figure
    from hushsweep.dashboards.figures.tradeoff import draw_tradeoff as draw_tradeoff
    from hushsweep.dashboards.figures.tradeoff import tradeoff_figure as tradeoff_figure

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attacks": ["attacks_figure"],
        "bounds": ["bounds_figure"],
        "epsilons": ["draw_epsilons", "epsilons_figure"],
        "frontier": ["frontier_figure", "read_settings"],
        "masks": ["masks_figure", "read_masks"],
        "modes": ["histogram_figure", "map_figure", "middle_point", "read_maps"],
        "pictures": ["pictures_figure", "read_pictures"],
        "privacy": ["draw_privacy", "privacy_figures"],
        "style": ["save_figure"],
        "tradeoff": ["draw_tradeoff", "tradeoff_figure"],
    },
)
