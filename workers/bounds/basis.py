"""The orthonormal basis in which a bound is stated: pixels, the rows of a matrix, or a transform such as the DCT."""

from collections.abc import Callable

import torch
from torch import Tensor

Basis = Tensor | Callable[[Tensor], Tensor] | None
"""``None`` for the inputs themselves, ``(k, inputs)`` with orthonormal rows, or a callable that maps ``(..., inputs)``
to ``(..., k)`` and is warranted to be orthonormal."""

_TOLERANCE = 1e-6


def coordinates(basis: Basis, inputs: int) -> Callable[[Tensor], Tensor]:
    """Return the map of input vectors to their coordinates.

    Args:
        basis: see `Basis`; of a callable only the length that it gives a random vector is checked, at every call.
        inputs: entries of an input.

    Returns:
        A function of ``(..., inputs)``, giving ``(..., k)`` float64 in the unit of its argument, on its device.

    Raises:
        ValueError: ``basis`` has another shape, or its rows are not orthonormal to 1e-6; the function returned
            raises it for a vector of another length, or when a callable turns out not to be orthonormal.
    """
    if basis is None:
        return lambda x: _entries(x, inputs)
    if isinstance(basis, Tensor):
        rows = _orthonormal_rows(basis, inputs)
        return lambda x: _entries(x, inputs) @ rows.to(x.device).T
    return lambda x: _transformed(basis, _entries(x, inputs))


def _entries(x: Tensor, inputs: int) -> Tensor:
    if x.shape[-1:] != (inputs,):
        raise ValueError(f"expected vectors of {inputs} inputs, got shape {tuple(x.shape)}")
    return x.double()


def _orthonormal_rows(basis: Tensor, inputs: int) -> Tensor:
    if basis.dim() != 2 or basis.shape[1] != inputs:
        raise ValueError(f"basis: expected shape (k, {inputs}), got {tuple(basis.shape)}")
    rows = basis.double()
    error = (rows @ rows.T - torch.eye(len(rows), dtype=rows.dtype, device=rows.device)).abs()
    if not bool((error <= _TOLERANCE).all()):
        raise ValueError(
            f"basis: expected orthonormal rows, got inner products off by {float(error.max()):.2g}"
        )
    return rows


def _transformed(basis: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    inputs = x.shape[-1]
    probe = torch.randn(inputs, generator=torch.Generator().manual_seed(0), dtype=x.dtype).to(x.device)
    image = basis(probe)
    if image.dim() != 1 or len(image) > inputs:
        raise ValueError(
            f"basis: expected a map of ({inputs},) to (k,) with k <= {inputs}, got {tuple(image.shape)}"
        )
    ratio = float(image.double().norm() / probe.norm())
    # fewer coordinates than inputs may shorten a vector, none may lengthen it
    if not (abs(ratio - 1) <= _TOLERANCE or (len(image) < inputs and ratio < 1)):
        raise ValueError(f"basis: expected an orthonormal map, got a vector's length changed by {ratio:.6g}")
    return basis(x).double()
