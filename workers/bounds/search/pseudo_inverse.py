"""Shifts that random displacements of the features ask for, solved to convergence."""

import math

import torch

from hushsweep.workers.bounds.pseudo_inverse import pseudo_inverse_samples
from hushsweep.workers.bounds.search.probe import Probe, Shifts
from hushsweep.workers.bounds.search.scale import replace_zeros

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-5}


def random_solutions(probe: Probe) -> Shifts:
    """Shift by ``t J^+ w`` for unit normal w, with the same ``t = step * reference_std / sqrt(features)`` for all.

    Divided by t their squares average to the Cramer-Rao variance for unit noise. An image whose features do not depend
    on it gets short uniform shifts.

    Options: ``solve_tolerance`` (1e-8, or 1e-5 in float32) and ``max_iterations`` (None: twice the number of inputs).
    """
    found = pseudo_inverse_samples(
        probe.model,
        probe.x.to(probe.dtype),
        probe.noise("pseudo-inverse", probe.count).to(probe.dtype),
        tolerance=probe.options.get("solve_tolerance", _TOLERANCE[probe.dtype]),
        max_iterations=probe.options.get("max_iterations") or 2 * probe.inputs,
        max_items=probe.max_items,
    )
    scale = probe.target / math.sqrt(probe.features)
    return Shifts(replace_zeros(probe, scale * found.shift.double()), found.iterations, found.residual)
