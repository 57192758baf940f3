"""Every bound of some images under noise whose size depends on the image, at one point."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hushsweep.workers.bounds import dct as to_dct
from hushsweep.workers.bounds import hcr_std_bound, van_trees_mse_bound
from hushsweep.workers.measures.channel_geometry import ChannelGeometry
from hushsweep.workers.measures.channel_shifts import channel_shifts
from hushsweep.workers.measures.decomposed import flat_dct
from hushsweep.workers.measures.noise_level import Found, from_decompositions

if TYPE_CHECKING:
    from hushsweep.workers.measures.bounds import Bounds

_SEARCHES = ("jacobian", "dct", "pixel")
_SUPPRESSED = "nothing that depends on the image leaves: the mechanism suppresses every entry"
_BLIND = "what leaves does not depend on this image at all: no unbiased estimator exists"
_ONE_SIZE = (
    "proved only for noise whose size does not depend on the image; hcr and cramer_rao are proved for both"
)
_CENTRES = "its reader compares distances from one centre, in units of noise that has one size for all images"
_NO_SEARCH = (
    "this search is for noise of one size; jacobian, dct and pixel serve noise that depends on the image"
)


def channel_bounds(options: Bounds, geometry: ChannelGeometry) -> list[Found]:
    """Return every bound asked for."""
    if geometry.channel.entries == 0:
        return [Found(name, missing=_SUPPRESSED) for name in options.bounds]
    return [found for name in options.bounds for found in _BOUNDS[name](options, geometry)]


def _cramer_rao(options: Bounds, geometry: ChannelGeometry) -> Iterator[Found]:
    decomposed = geometry.decomposed
    assert decomposed is not None
    # an entry is active if the image moves its mean or its size
    active = decomposed.active.features.reshape(len(geometry.positions), 2, -1).any(1).sum(1)
    if decomposed.too_large is not None:
        yield Found("cramer_rao", missing=decomposed.too_large, columns={"active_features": active})
        return
    found = from_decompositions(decomposed.images, 1.0, {"active_features": active})
    shares = found.shares
    assert shares is not None
    # what the reader is told is identified, though its columns of the Jacobian are zero
    open_ = (shares[0] - _known_share(options, geometry)).clamp(min=0)
    yield replace(
        found,
        columns={**found.columns, "non_identifiable": open_.mean(1)},
        shares=(open_, shares[1]),
        missing=[
            None if image.rank else (_all_told(told) if told else _BLIND)
            for image, told in zip(decomposed.images, _told(geometry), strict=True)
        ],
        notes=_notes(geometry),
    )


def _known_share(options: Bounds, geometry: ChannelGeometry) -> Tensor:
    """Return the share of each coordinate's energy in inputs that count as known, ``(n, k)``."""
    known = geometry.known.double()
    if options.basis == "pixel":
        return known
    shares = torch.zeros_like(known)
    basis = flat_dct(geometry.probe.x.shape[1:])
    for row, of in enumerate(geometry.known):
        for places in torch.split(of.nonzero().flatten(), 512):
            units = torch.nn.functional.one_hot(places, known.shape[1]).double()
            shares[row] += basis(units).square().sum(0)
    return shares


def _told(geometry: ChannelGeometry) -> list[int]:
    told: list[int] = geometry.known.sum(1).tolist()
    return told


def _all_told(told: int) -> str:
    return f"entries leave without noise, and all that leaves depends on nothing beyond the {told} inputs behind them"


def _notes(geometry: ChannelGeometry) -> list[str | None]:
    inputs = geometry.probe.inputs
    note = "entries leave without noise: the {} of {} inputs that they depend on count as known, with a bound of 0"
    return [note.format(told, inputs) if told else None for told in _told(geometry)]


def _hcr(options: Bounds, geometry: ChannelGeometry) -> Iterator[Found]:
    for search in options.shifts:
        if search == "nullspace":
            continue  # its moves leave features as they are, and bound nothing
        if search not in _SEARCHES:
            yield Found("hcr", search, missing=_NO_SEARCH)
            continue
        try:
            shifts = channel_shifts(geometry, search)
        except ValueError as error:
            yield Found("hcr", search, missing=str(error))
            continue
        modes = to_dct(shifts.input_shift) if options.basis == "dct" else shifts.input_shift
        still, infinite = shifts.still.sum(1), shifts.infinite.sum(1)
        told = shifts.chi_square.isfinite().sum(1)
        yield Found(
            "hcr",
            search,
            variance=hcr_std_bound(modes.flatten(2), shifts.chi_square).amax(1).square(),
            columns={"shifts": told, "still_shifts": still, "infinite_shifts": infinite},
            missing=[
                None if some else _no_shift(*rest)
                for some, *rest in zip(told.tolist(), still.tolist(), infinite.tolist(), strict=True)
            ],
        )


def _no_shift(still: int, infinite: int) -> str:
    return (
        f"no shift of this search has a finite bound: {still} move nothing that leaves, and {infinite} have an "
        "infinite chi-square, at every length"
    )


def _dfil(options: Bounds, geometry: ChannelGeometry) -> Iterator[Found]:
    decomposed = geometry.decomposed
    assert decomposed is not None
    if decomposed.too_large is not None:
        yield Found("dfil", missing=decomposed.too_large)
        return
    trace = geometry.known.new_tensor(
        [image.squared_norm for image in decomposed.images], dtype=torch.float64
    )
    # the mean of q inverse diagonals is at least q over the trace; the p - q known inputs add no error
    unknown = geometry.probe.inputs - geometry.known.sum(1)
    yield Found(
        "dfil",
        mse=unknown.square() / (geometry.probe.inputs * trace),
        missing=[
            None if value > 0 else (_all_told(told) if told else _BLIND)
            for value, told in zip(trace.tolist(), _told(geometry), strict=True)
        ],
        notes=_notes(geometry),
    )


def _van_trees(options: Bounds, geometry: ChannelGeometry) -> Iterator[Found]:
    information = geometry.information
    assert information is not None
    finite = information.isfinite().all(1)
    numbers = torch.where(finite[:, None], information, 0.0)
    # two standard errors up, as under noise of one size
    trace = numbers.mean(1) + 2 * numbers.std(1) / math.sqrt(numbers.shape[1])
    infinite = "entries leave a blurred image without noise: their Fisher information is infinite, and the bound is 0"
    yield Found(
        "van_trees",
        mse=van_trees_mse_bound(trace / geometry.probe.inputs, 1 / options.prior_std**2),
        missing=[None if some else infinite for some in finite.tolist()],
    )


def _without(name: str, reason: str) -> Callable[[Bounds, ChannelGeometry], Iterator[Found]]:
    def found(options: Bounds, geometry: ChannelGeometry) -> Iterator[Found]:
        yield Found(name, missing=reason)

    return found


_BOUNDS: dict[str, Callable[[Bounds, ChannelGeometry], Iterator[Found]]] = {
    "cramer_rao": _cramer_rao,
    "barankin": _without("barankin", _ONE_SIZE),
    "hcr": _hcr,
    "dfil": _dfil,
    "van_trees": _van_trees,
    "two_point": _without("two_point", _ONE_SIZE),
    "mmse": _without(
        "mmse", "the linear-Gaussian level is that of noise whose size does not depend on the image"
    ),
    "rero": _without("rero", _CENTRES),
}
