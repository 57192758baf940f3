"""How often any attacker can reconstruct the input, given how often a blind guess does."""

import torch
from torch import Tensor


def rero_bound(prior_success: Tensor | float, distance: Tensor | float) -> Tensor:
    """Upper-bound the chance that any attacker reconstructs the input from Gaussian-noised features.

    ``Phi(Phi^-1(prior_success) + distance)``: by Neyman and Pearson's lemma an event of probability kappa under one
    normal law has at most this probability under another whose mean is ``distance`` standard deviations away. Holds
    for every attacker, whatever it knows, and whatever counts as a reconstruction: if the features of all inputs in
    question are within ``distance`` of one common vector, noise around that vector tells nothing, and its success
    there is that of a blind guess (Balle, Cherubin and Hayes (2022), arXiv:2201.04845; Hayes, Mahloujifar and Balle
    (2023), arXiv:2302.07225).

    Args:
        prior_success: kappa, chance of success of the best guess made without seeing the features, 0 to 1.
        distance: largest Euclidean norm of the difference between the features of an input and that common vector, in
            units of the noise's standard deviation, >= 0; for two inputs half of what separates them.

    Returns:
        Float64 of the shape that both broadcast to, from ``prior_success`` to 1.

    Raises:
        ValueError: ``prior_success`` is outside 0 to 1, ``distance`` is negative, or one is NaN.
    """
    kappa = torch.as_tensor(prior_success, dtype=torch.float64)
    mu = torch.as_tensor(distance, dtype=torch.float64, device=kappa.device)
    if not bool(((kappa >= 0) & (kappa <= 1)).all()):
        raise ValueError("prior_success: expected numbers from 0 to 1")
    if not bool((mu >= 0).all()):
        raise ValueError("distance: expected numbers >= 0, got a negative one or NaN")
    # infinitely far apart (also with kappa = 0, where the sum below would be NaN) nothing protects
    bound = torch.where(mu.isinf(), 1.0, torch.special.ndtr(torch.special.ndtri(kappa) + mu))
    return torch.maximum(bound, kappa)
