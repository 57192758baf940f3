"""Shifts along the modes of a fixed basis: cosine modes and single pixels."""

import torch
from torch import Tensor

from hushsweep.workers.bounds.cosine import idct
from hushsweep.workers.bounds.search.probe import Probe, Shifts
from hushsweep.workers.bounds.search.scale import scale_to_step


def dct_modes(probe: Probe) -> Shifts:
    """Shift along the cosine modes of lowest frequency, as many as the count allows."""
    return _along(probe, lowest_modes(probe, probe.count))


def pixels(probe: Probe) -> Shifts:
    """Shift single pixels, spread evenly over the image; all of them where the count allows."""
    return _along(probe, spread_pixels(probe, probe.count))


def spread_pixels(probe: Probe, count: int) -> Tensor:
    """Return single pixels spread evenly over the image, unit norm, ``(m, *input)`` float64, m at most the inputs."""
    m = min(count, probe.inputs)
    places = (torch.arange(m, device=probe.x.device) * probe.inputs + probe.inputs // 2) // m
    return torch.nn.functional.one_hot(places, probe.inputs).double().reshape(m, *probe.x.shape[1:])


def lowest_modes(probe: Probe, count: int) -> Tensor:
    """Return the cosine modes of lowest frequency (row plus column), unit norm, channel by channel.

    Returns:
        ``(m, *input)`` float64, m at most the number of inputs.
    """
    channels, height, width = probe.x.shape[1:]
    index = torch.arange(probe.inputs, device=probe.x.device).reshape(height, width, channels)
    row, column = index[..., 0] // (width * channels), index[..., 0] // channels % width
    order = ((row + column) * height + row).flatten().argsort()
    places = index.flatten(0, 1)[order].flatten()[:count]  # channels vary fastest
    modes = torch.nn.functional.one_hot(places, probe.inputs).double().reshape(-1, height, width, channels)
    return idct(modes.movedim(-1, 1))


def _along(probe: Probe, directions: Tensor) -> Shifts:
    return Shifts(scale_to_step(probe, directions.expand(len(probe.x), *directions.shape)))
