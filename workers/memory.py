"""Batches that do not fit into the device's memory: halved until they do.

Batch size is execution, so no number changes with it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

log = logging.getLogger(__name__)

Found = TypeVar("Found")
Part = TypeVar("Part", range, Sequence[int])
_SAID = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
"""What errors say that are a lack of memory without being torch's own: main memory's, and those of CUDA's libraries."""


class BatchMemoryError(ValueError):
    """Not even one image fits into the device's memory."""


class BatchLimit:
    """The most images that fit at once, as far as it has been found out.

    One for all that a trial computes in batches, so that what did not fit is tried once, not in every pass.
    """

    def __init__(self) -> None:
        self.images: int | None = None
        """None as long as everything has fitted."""

    def pieces(self, part: Part, compute: Callable[[Part], Found]) -> Iterator[tuple[Part, Found]]:
        """Compute a batch at once or, where the memory does not suffice, in pieces.

        Args:
            part: images, consecutive ones of an image set or any.
            compute: what to do with some of them; tried again with fewer, so it keeps nothing of a try that failed.

        Yields:
            The pieces in order, each with what was computed of it.

        Raises:
            BatchMemoryError: one image alone does not fit.
        """
        while part:
            piece = part[: self.images]
            found = self._attempt(piece, compute)
            if found is not None:
                part = part[len(piece) :]
                yield piece, found[0]

    def _attempt(self, piece: Part, compute: Callable[[Part], Found]) -> tuple[Found] | None:
        try:
            return (compute(piece),)
        except (MemoryError, RuntimeError) as error:
            if not is_lack_of_memory(error):
                raise
            if len(piece) == 1:
                raise BatchMemoryError(_reason(error)) from error
            self.images = len(piece) // 2
        # only here is what the failed try had allocated gone, together with its traceback
        log.info("no memory for a batch of %d images; going on with %d", len(piece), self.images)
        torch.cuda.empty_cache()  # does nothing where no GPU is in use
        return None


def is_lack_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory was lacking, of a device or of the machine."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)


def _reason(error: BaseException) -> str:
    said = str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
    return (
        f"no memory for a batch of 1 image, down to which execution.batch_size was halved ({said}); run fewer trials "
        "at once (execution.gpus_per_trial: 1, max_concurrent_trials: 1), take a device with more memory, or a "
        "smaller input_size"
    )
