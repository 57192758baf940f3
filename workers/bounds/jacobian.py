"""The exact Jacobian of a feature map: rows of its active features, or columns of the active inputs if fewer.

A feature that is dead (a ReLU at 0) has a row of zeros, which needs no computing: of the 784 features of an MNIST
network about 90 are active per image.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hushsweep.workers.bounds.search.linearise import Linearisation, linearisation_bytes
from hushsweep.workers.bounds.shifts import FeatureMap

_MAX_ITEMS = 256
"""Points linearised at once: fewer leave matrix products small, more fall out of the cache and gain nothing."""
_POINTS_PER_IMAGE = 8
"""Copies of an image at least, where memory allows: one forward pass then serves that many times fewer products."""


class Active(NamedTuple):
    """Which entries of the features and of the inputs the Jacobians of ``n`` images touch at all."""

    features: Tensor  # (n, q) bool: the row is not zero
    inputs: Tensor  # (n, p) bool: the column is not zero


class _Task(NamedTuple):
    """Products still to be made for one image, all by rows or all by columns."""

    image: int
    entries: Tensor  # (count,) int64, features or inputs, flattened
    others: Tensor  # the active entries of the other side


def active_entries(model: FeatureMap, x: Tensor, *, memory: int | None = None) -> Active:
    """Find the rows and columns of the Jacobians that are not zero, by one random product from either side.

    A row of zeros gives an exact 0; any other row does so with probability 0. A feature that *is* zero may still have
    a row.

    Args:
        model: the network in the precision of ``x``.
        x: normalised images ``(n, *input)``.
        memory: bytes to work in; None: all images at once.

    Raises:
        ValueError: ``memory`` is too small for one image.
    """
    parts = [x]
    if memory is not None:
        parts = list(torch.split(x, _items(linearisation_bytes(model.features, x[:1]), memory, 0)))
    found = [_active(model, part) for part in parts]
    return Active(*(torch.cat(side) for side in zip(*found, strict=True)))


def jacobian(model: FeatureMap, x: Tensor, *, memory: int, active: Active | None = None) -> list[Tensor]:
    """Return every image's Jacobian over its active features, exact up to the rounding of the model's precision.

    Each image is copied so that about 256 points are linearised together, and that one graph serves all products;
    copies are shared out by what each image needs. Batching the products with ``vmap`` instead is no faster for an
    MLP, and 5 times slower for convolutions on a CPU; it also needs a batching rule for every operator.

    Args:
        model: the network in the precision of ``x``, which is that of the Jacobian.
        x: normalised images ``(n, *input)``; a row of the features depends on that row of the input alone.
        memory: bytes for the Jacobians and for working on them, beyond the network itself.
        active: what `active_entries` found, if at hand.

    Returns:
        Per image ``(active features, p)`` in the dtype of ``x``, in the order of the features.

    Raises:
        ValueError: ``memory`` is too small; the message says how much is needed.
    """
    if len(x) == 0:
        return []
    if active is None:
        active = active_entries(model, x, memory=memory)
    sizes = [(int(rows), active.inputs.shape[1]) for rows in active.features.sum(1)]
    held = sum(rows * inputs for rows, inputs in sizes) * x.element_size()
    items = min(_MAX_ITEMS, _items(linearisation_bytes(model.features, x[:1]), memory, held))
    jacobians = [x.new_zeros(size) for size in sizes]
    by_row, by_column = _tasks(active)
    for tasks, rows in ((by_row, True), (by_column, False)):
        for group in _groups(tasks, max(1, items // _POINTS_PER_IMAGE)):
            _fill(model, x, jacobians, group, items, rows)
    return jacobians


def _active(model: FeatureMap, x: Tensor) -> Active:
    linear = Linearisation(model.features, x)
    features = linear.matvec(_random(x.flatten(1).shape, x)) != 0
    return Active(features, linear.rmatvec(_random(features.shape, x)) != 0)


def _random(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return the same random numbers for every image, so that the batch's make-up decides nothing."""
    numbers = torch.randn(shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return numbers.to(like).expand(shape)


def _items(per_item: int, memory: int, held: int) -> int:
    if held + per_item > memory:
        raise ValueError(
            f"the exact Jacobian does not fit: expected memory of at least {held + per_item} bytes, got {memory}"
        )
    return (memory - held) // per_item


def _tasks(active: Active) -> tuple[list[_Task], list[_Task]]:
    by_row, by_column = list[_Task](), list[_Task]()
    for image, (features, inputs) in enumerate(zip(*active, strict=True)):
        rows, columns = features.nonzero().flatten(), inputs.nonzero().flatten()
        if len(columns) < len(rows):
            by_column.append(_Task(image, columns, rows))
        else:
            by_row.append(_Task(image, rows, columns))
    return by_row, by_column


def _groups(tasks: Sequence[_Task], size: int) -> Iterator[Sequence[_Task]]:
    tasks = [task for task in tasks if len(task.entries)]
    for start in range(0, len(tasks), size):
        yield tasks[start : start + size]


def _fill(
    model: FeatureMap, x: Tensor, jacobians: list[Tensor], tasks: Sequence[_Task], items: int, rows: bool
) -> None:
    """Make all products of some images: round by round, so many copies of each image as its products need."""
    counts = [len(task.entries) for task in tasks]
    rounds = next(
        n for n in range(1, max(counts) + 1) if sum(-(-c // n) for c in counts) <= max(items, len(tasks))
    )
    copies = [-(-count // rounds) for count in counts]
    images = torch.tensor([task.image for task in tasks], device=x.device)
    points = x[images.repeat_interleave(torch.tensor(copies, device=x.device))]
    product, size = _product(model, points, rows)
    for number in range(rounds):
        chunks = [task.entries[number * n : (number + 1) * n] for task, n in zip(tasks, copies, strict=True)]
        units, start = x.new_zeros((len(points), size)), 0
        for chunk, n in zip(chunks, copies, strict=True):
            units[torch.arange(start, start + len(chunk), device=x.device), chunk] = 1
            start += n
        products, start = product(units), 0
        for task, chunk, n in zip(tasks, chunks, copies, strict=True):
            found, first = products[start : start + len(chunk)], number * n
            if rows:
                jacobians[task.image][first : first + len(chunk)] = found
            else:
                jacobians[task.image][:, chunk] = found[:, task.others].T
            start += n


def _product(model: FeatureMap, points: Tensor, rows: bool) -> tuple[Callable[[Tensor], Tensor], int]:
    """Return the map of unit vectors to rows or columns at the points, and how long such a vector is."""
    if not rows:
        return Linearisation(model.features, points).matvec, points[0].numel()
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        values = model.features(points)

    def rmatvec(u: Tensor) -> Tensor:
        (product,) = torch.autograd.grad(values, points, u.reshape(values.shape), retain_graph=True)
        return product.flatten(1)

    return rmatvec, values[0].numel()
