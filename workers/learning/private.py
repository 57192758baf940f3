"""The training of DP-SGD: Poisson batches, private steps, and a ledger of what they spend."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from opacus.utils.uniform_sampler import UniformWithReplacementSampler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from hushsweep.workers.accounting import Ledger, Spending
from hushsweep.workers.devices import deterministic, in_channels_last, threads
from hushsweep.workers.learning.crops import Crops, cropped, draw_crops
from hushsweep.workers.learning.frozen import frozen_features
from hushsweep.workers.learning.oversampling import oversample
from hushsweep.workers.learning.per_example import PrivateSteps
from hushsweep.workers.learning.private_networks import select
from hushsweep.workers.learning.task import derived_seed
from hushsweep.workers.learning.train import MechanismTraining
from hushsweep.workers.mechanisms.dp_sgd import DpSgd
from hushsweep.workers.progress import Report

Tensors = tuple[Tensor, ...] | list[Tensor]


class PrivateTraining(MechanismTraining):
    """One training by DP-SGD.

    An epoch draws its batches, crops and noise from (seed, epoch). After a kill the epoch that was begun is repeated
    with the same ones, so that nothing further is released; the ledger, kept with the weights, has its steps once.
    """

    mechanism: DpSgd
    client: Ledger

    def run(self, checkpoint: Path, report: Report) -> float | None:
        """Train, and return the validation part's accuracy after the last epoch."""
        mechanism, network = self.mechanism, self.network.network
        self._report = report
        mechanism.check_examples(len(self.images))
        copies = 1
        if mechanism.oversample != "none":
            seed = derived_seed("oversample", self.task.seed) % 2**32
            self.images, copies = oversample(self.images, mechanism.oversample, seed)
        self._phase = mechanism.phase(len(self.images), self.epochs, copies)
        self.network.to(memory_format=torch.channels_last)
        self._averages = _averages(network, mechanism.ema)
        select(self.network, mechanism.trained)
        computed_once = mechanism.trained == "head" and mechanism.augmentations == 1
        self._features = self._all_features() if computed_once else None
        self._mode(training=True)
        optimiser = mechanism.sgd(self.network)
        self._steps = self._steps_of(optimiser)
        modules = {"client": self.client, "server": network}
        if self._averages is not None:
            modules["averages"] = self._averages
        self._optimisers = {"server": optimiser}
        history = self._run_epochs(modules, checkpoint, self._poisson_batches)
        assert self.client.spending == self._spending(self._phase.steps)
        self._mode(training=False)
        if self._averages is not None:
            network.load_state_dict(self._averages.module.state_dict())
        return history.scores[-1]

    def _steps_of(self, optimiser: Optimizer) -> "_Steps":
        mechanism = self.mechanism
        if mechanism.clips is None:
            return _PlainSteps(optimiser, mechanism.batch_size, mechanism.physical_batch)
        return PrivateSteps(
            self.network.network,
            optimiser,
            noise_multiplier=self._phase.noise_multiplier,
            clip_norm=mechanism.clips,
            batch_size=mechanism.batch_size,
            physical_batch=mechanism.physical_batch,
            gradients=mechanism.gradients,
            copies=mechanism.augmentations,
        )

    def _poisson_batches(self) -> list[np.ndarray]:
        steps = self.mechanism.steps_per_epoch(len(self.images))
        sampler = UniformWithReplacementSampler(
            num_samples=len(self.images), sample_rate=self._phase.sampling_rate, steps=steps
        )
        return [np.array(rows, dtype=np.int64) for rows in sampler]

    def _step(self, rows: np.ndarray) -> Tensor:
        # drawn for the whole batch, so that its parts get the same however many there are
        crops = self._crops(len(rows))

        def losses(places: np.ndarray) -> Tensor:
            drawn = None if crops is None else Crops(*(part[torch.from_numpy(places)] for part in crops))
            copies = self.mechanism.augmentations
            labels = torch.from_numpy(self.images.labels[rows[places]]).to(self.task.device)
            found = nn.functional.cross_entropy(
                self._outputs(rows[places], drawn).float(), labels.repeat_interleave(copies), reduction="none"
            )
            return found.reshape(-1, copies).mean(1)

        total = self._steps.step(len(rows), losses)
        if self._averages is not None:
            self._averages.update_parameters(self.network.network)
        self._taken += 1
        return total / self.mechanism.batch_size

    def _crops(self, images: int) -> Crops | None:
        mechanism = self.mechanism
        if mechanism.augmentations == 1:
            return None
        return draw_crops(
            images, mechanism.augmentations, padding=mechanism.crop_padding, flip=mechanism.flip
        )

    def _outputs(self, rows: np.ndarray, crops: Crops | None) -> Tensor:
        """Logits of images, or of their copies."""
        if self._features is not None:
            values = torch.from_numpy(self._features[rows]).to(self.task.device)
            return self.network.head(in_channels_last(values))
        pixels = torch.from_numpy(self.images.images[rows])
        if crops is not None:
            pixels = cropped(pixels, crops)
        x = in_channels_last(self.network.normalise(pixels.to(self.task.device)))
        if self.mechanism.trained == "network":
            found: Tensor = self.network(x)
            return found
        self._mode(training=False)
        with torch.no_grad():
            values = self.network.features(x)
        self._mode(training=True)
        return self.network.head(values)

    def _all_features(self) -> np.ndarray:
        """What the frozen part makes of all images, computed once for all trainings of the head."""
        with threads(self.mechanism.training_threads), deterministic():
            return frozen_features(
                self.network, self.images.images, self._normalised, self._cache_dir / "frozen"
            )

    def _before_epoch(self, epoch: int) -> None:
        spent = self.client.spending
        self._taken = 0 if spent is None else spent.phases[0].steps

    def _after_epoch(self, epoch: int) -> float | None:
        self.client.record(self._spending(self._taken))
        with self._averaged():
            return super()._after_epoch(epoch)

    def _spending(self, steps: int) -> Spending:
        return Spending(phases=(replace(self._phase, steps=steps),), delta=self.mechanism.delta)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Let the network have the averages for a while."""
        if self._averages is None:
            yield
            return
        network = self.network.network
        weights = copy.deepcopy(network.state_dict())
        network.load_state_dict(self._averages.module.state_dict())
        yield
        network.load_state_dict(weights)


class _Steps(Protocol):
    """Makes the steps of a training."""

    def step(self, images: int, losses: Callable[[np.ndarray], Tensor]) -> Tensor:
        """Make one on so many images, whose losses it asks for by their places; return the sum of these."""
        ...


class _PlainSteps:
    """Steps of the same batches that clip nothing and add nothing."""

    def __init__(self, optimiser: Optimizer, batch_size: int, physical_batch: int | None) -> None:
        self._optimiser, self._batch_size, self._physical_batch = optimiser, batch_size, physical_batch

    def step(self, images: int, losses: Callable[[np.ndarray], Tensor]) -> Tensor:
        total = torch.zeros(())
        self._optimiser.zero_grad()
        parts = -(-images // (self._physical_batch or max(1, images)))
        for places in np.array_split(np.arange(images), max(1, parts)):
            if len(places):
                loss = losses(places).sum()
                (loss / self._batch_size).backward()  # type: ignore[no-untyped-call]
                total = total.to(loss.device) + loss.detach()
        self._optimiser.step()
        return total


def _averages(network: nn.Module, decay: float | None) -> AveragedModel | None:
    """A moving average of the weights, which a short training does not begin with its fresh ones.

    De et al. (2022), arXiv:2204.13650: min(decay, (1 + t) / (10 + t)) after t steps; the first step's weights begin it.
    """
    if decay is None:
        return None

    def update(averages: Tensors, weights: Tensors, steps: Tensor | int) -> None:
        kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
        torch._foreach_lerp_(averages, weights, 1 - kept)

    return AveragedModel(network, multi_avg_fn=update)
