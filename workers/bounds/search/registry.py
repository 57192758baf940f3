"""The table of searches by the name that a sweep file uses."""

from hushsweep.workers.bounds.search.directions import dct_modes, pixels
from hushsweep.workers.bounds.search.inverse_iteration import inverse_iteration
from hushsweep.workers.bounds.search.jacobian import smallest_directions
from hushsweep.workers.bounds.search.large_step import large_step
from hushsweep.workers.bounds.search.nullspace import null_space_moves
from hushsweep.workers.bounds.search.paper import algorithm_one
from hushsweep.workers.bounds.search.probe import Search
from hushsweep.workers.bounds.search.pseudo_inverse import random_solutions
from hushsweep.workers.bounds.search.two_point import two_point

SEARCHES: dict[str, Search] = {
    "lsqr": Search(algorithm_one),
    "dct": Search(dct_modes),
    "pixel": Search(pixels),
    "inverse_iteration": Search(inverse_iteration),
    "jacobian": Search(smallest_directions, needs_jacobian=True),
    "nullspace": Search(null_space_moves, needs_jacobian=True),
    "large_step": Search(large_step, needs_jacobian=True, per_noise=True),
    "pseudo_inverse": Search(random_solutions),
    "two_point": Search(two_point, per_noise=True),
}
