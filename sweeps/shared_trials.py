"""The trials of a run in Ray's object store, where every worker of a node reads the one it was given."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hushsweep.workers.trial import Trial


@dataclass(frozen=True)
class SharedTrials:
    """Trials, each serialised by itself.

    As a list of trials every worker would read all of them for each one that it runs, and hold them: 8 ms a trial and
    1 MiB a worker for a thousand trials of one point, and so on in proportion. Arrays are not even copied: the workers
    of a node share them.

    Attributes:
        content: the trials one after another, shape (bytes,).
        ends: where each ends in it, shape (trials,).
    """

    content: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> Self:
        """Take trials; Ray passes them between processes of one run as it passes everything, nothing is kept."""
        parts = [pickle.dumps(trial) for trial in trials]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        return cls(np.frombuffer(b"".join(parts), dtype=np.uint8), ends)

    def __getitem__(self, index: int) -> Trial:
        start = self.ends[index - 1] if index else 0
        trial: Trial = pickle.loads(self.content[start : self.ends[index]].data)  # noqa: S301 - our own, from Ray
        return trial
