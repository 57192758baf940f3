"""The estimator behind published mutual informations, for comparison with them only: it is biased.

Formulas of the ITE toolbox's ``MIShannon_DKL`` and ``BDKL_KnnK`` (Szabo 2014, JMLR 15:283), written anew.
"""

import numpy as np

K = 3


def kl_knn(first: np.ndarray, second: np.ndarray, k: int = K) -> float:
    """Estimate KL(p || q) from samples of p and q by the distance to the k-th neighbour; **biased** in many dimensions.

    ``d mean ln(nu_k / rho_k) + ln(n_2 / (n_1 - 1))``: rho_k from each point of ``first`` to its k-th neighbour
    among the others of ``first``, nu_k to that in ``second``, Euclidean (Wang, Kulkarni, Verdu 2009, IEEE Trans. Inf.
    Theory 55(5)). The densities are taken to be constant within these balls.

    Args:
        first: sample of p, ``(n_1, d)``, any unit.
        second: sample of q, ``(n_2, d)``, same unit.
        k: number of the neighbour, >= 1.

    Returns:
        Nats; may be negative.

    Raises:
        ValueError: too few points, dimensions differ, or points so equal that a distance is 0.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(f"samples of shape {first.shape} and {second.shape}: expected the same entries")
    if k < 1 or len(first) <= k or len(second) < k:
        raise ValueError(f"{len(first)} and {len(second)} points have no neighbour number {k}: give more")
    inside, across = _distances(first, None, k), _distances(first, second, k)
    if not (inside.min() > 0 and across.min() > 0):
        raise ValueError(
            f"{k} or more points are equal: the estimator takes the logarithm of a distance of 0"
        )
    ratio = float(np.log(across / inside).mean())
    return float(first.shape[1] * ratio + np.log(len(second) / (len(first) - 1)))


def ite_knn(first: np.ndarray, second: np.ndarray, rng: np.random.Generator, k: int = K) -> float:
    """Estimate I(X; Y) as the papers on learned noise did; **biased**: meaningless at the size of images.

    KL between the joint sample, (x, y) of the first half of the pairs, and a sample of the product of the marginals,
    the x and the y of the second half permuted separately. With Y = X it is what those papers call the entropy of X,
    though that is infinite. For nobody to rely on: bias and controls are in docs/information.md.

    Args:
        first: x of each pair, ``(n, d)``, any unit. No entry is scaled.
        second: y of each pair, ``(n, d')``, any unit.
        rng: draws the two permutations.
        k: number of the neighbour, >= 1.

    Returns:
        Nats; may be negative.

    Raises:
        ValueError: numbers of points differ, or as `kl_knn`.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} points: expected pairs")
    half = len(first) // 2
    joint = np.concatenate([first[:half], second[:half]], axis=1)
    shuffled = [values[half + rng.permutation(half)] for values in (first, second)]
    return kl_knn(joint, np.concatenate(shuffled, axis=1), k)


def _distances(points: np.ndarray, among: np.ndarray | None, k: int) -> np.ndarray:
    """Distance of each point to its k-th neighbour in ``among``, or among the other points, float64."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k).fit(points if among is None else among)
    found = search.kneighbors(None if among is None else points, return_distance=False)[:, -1]
    distances = np.empty(len(points))
    for start in range(0, len(points), 256):
        part = slice(start, start + 256)
        there = (points if among is None else among)[found[part]]
        # anew from the points themselves: the search may have expanded the square
        distances[part] = np.linalg.norm(points[part].astype(np.float64) - there, axis=1)
    return distances
