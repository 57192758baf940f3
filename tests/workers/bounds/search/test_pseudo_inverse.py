"""Random converged solves: squares that average to the Cramer-Rao variance."""

import math

import torch
from bounds_support import Linear, normal
from searches_support import probe_of

from hushsweep.workers.bounds.search.pseudo_inverse import random_solutions


def test_shifts_are_the_pseudo_inverse_of_their_noise() -> None:
    weight = normal(12, 20)
    probe = probe_of(Linear(weight), normal(2, 1, 4, 5))
    found = random_solutions(probe)
    scale = probe.step * probe.reference_std / math.sqrt(12)
    expected = probe.noise("pseudo-inverse", 5).double() @ torch.linalg.pinv(weight).T * scale
    assert torch.allclose(found.input_shift.flatten(2), expected, rtol=1e-5, atol=1e-9)
    assert found.iterations is not None
    assert bool((found.iterations <= 13).all())


def test_their_squares_average_to_the_cramer_rao_variance() -> None:
    weight = normal(20, 10) @ normal(10, 9, seed=1)
    probe = probe_of(Linear(weight), normal(1, 1, 3, 3), count=4000, max_items=4000)
    samples = random_solutions(probe).input_shift.flatten(2) / (probe.target / math.sqrt(20))
    expected = torch.linalg.inv(weight.T @ weight).diag()
    # relative standard error sqrt(2 / 4000) = 0.022: nine at once exceed 5 of them once in 10^5 runs
    assert torch.allclose(samples.square().mean(1)[0], expected, rtol=0.11)
