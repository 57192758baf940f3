"""Confidentiality bounds: pure functions in float64."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from hushsweep.workers.bounds.barankin import barankin_from_gram as barankin_from_gram
    from hushsweep.workers.bounds.barankin import barankin_variance_bound as barankin_variance_bound
    from hushsweep.workers.bounds.basis import Basis as Basis
    from hushsweep.workers.bounds.channel import Moments as Moments
    from hushsweep.workers.bounds.channel import chi_square_channel as chi_square_channel
    from hushsweep.workers.bounds.channel import fisher_map as fisher_map
    from hushsweep.workers.bounds.chi_square import chi_square_anisotropic as chi_square_anisotropic
    from hushsweep.workers.bounds.chi_square import chi_square_gaussian as chi_square_gaussian
    from hushsweep.workers.bounds.chi_square import chi_square_laplace as chi_square_laplace
    from hushsweep.workers.bounds.cosine import dct as dct
    from hushsweep.workers.bounds.cosine import idct as idct
    from hushsweep.workers.bounds.cramer_rao import CramerRao as CramerRao
    from hushsweep.workers.bounds.cramer_rao import Decomposition as Decomposition
    from hushsweep.workers.bounds.cramer_rao import cramer_rao_variance_bound as cramer_rao_variance_bound
    from hushsweep.workers.bounds.cramer_rao import decompose as decompose
    from hushsweep.workers.bounds.fisher import dfil as dfil
    from hushsweep.workers.bounds.fisher import van_trees_mse_bound as van_trees_mse_bound
    from hushsweep.workers.bounds.gaussian_mmse import linear_gaussian_mmse as linear_gaussian_mmse
    from hushsweep.workers.bounds.hcr import hcr_std_bound as hcr_std_bound
    from hushsweep.workers.bounds.heteroscedastic import (
        chi_square_heteroscedastic as chi_square_heteroscedastic,
    )
    from hushsweep.workers.bounds.monte_carlo import ChiSquareEstimate as ChiSquareEstimate
    from hushsweep.workers.bounds.monte_carlo import chi_square_monte_carlo as chi_square_monte_carlo
    from hushsweep.workers.bounds.pseudo_inverse import cramer_rao_estimate as cramer_rao_estimate
    from hushsweep.workers.bounds.pseudo_inverse import pseudo_inverse_samples as pseudo_inverse_samples
    from hushsweep.workers.bounds.rero import rero_bound as rero_bound
    from hushsweep.workers.bounds.shifts import FeatureMap as FeatureMap
    from hushsweep.workers.bounds.shifts import ShiftBounds as ShiftBounds
    from hushsweep.workers.bounds.shifts import bound_modes as bound_modes
    from hushsweep.workers.bounds.two_point import indistinguishability_radius as indistinguishability_radius
    from hushsweep.workers.bounds.two_point import two_point_mse_bound as two_point_mse_bound
    from hushsweep.workers.bounds.two_point import two_point_mse_bound_laplace as two_point_mse_bound_laplace

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "barankin": ["barankin_from_gram", "barankin_variance_bound"],
        "basis": ["Basis"],
        "channel": ["Moments", "chi_square_channel", "fisher_map"],
        "chi_square": ["chi_square_anisotropic", "chi_square_gaussian", "chi_square_laplace"],
        "cosine": ["dct", "idct"],
        "cramer_rao": ["CramerRao", "Decomposition", "cramer_rao_variance_bound", "decompose"],
        "fisher": ["dfil", "van_trees_mse_bound"],
        "gaussian_mmse": ["linear_gaussian_mmse"],
        "hcr": ["hcr_std_bound"],
        "heteroscedastic": ["chi_square_heteroscedastic"],
        "monte_carlo": ["ChiSquareEstimate", "chi_square_monte_carlo"],
        "pseudo_inverse": ["cramer_rao_estimate", "pseudo_inverse_samples"],
        "rero": ["rero_bound"],
        "shifts": ["FeatureMap", "ShiftBounds", "bound_modes"],
        "two_point": ["indistinguishability_radius", "two_point_mse_bound", "two_point_mse_bound_laplace"],
    },
)
