"""Learning from what was released of every record's activation: it is computed once, and nothing else of it is seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hushsweep.workers.accounting import Ledger, Phase
from hushsweep.workers.devices import autocast, deterministic, in_channels_last, threads
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning.learn import learn
from hushsweep.workers.learning.train import MechanismTraining
from hushsweep.workers.mechanisms.learned import Batch
from hushsweep.workers.mechanisms.private_activations import PrivateActivations, clipped
from hushsweep.workers.models import Trainable
from hushsweep.workers.noise import stream_generator, unit_noise
from hushsweep.workers.progress import Report

_PURPOSE = "release"
_PROBES = 3


class ReleasedTraining(MechanismTraining):
    """One training of the head of a network on the noisy activations of its encoder."""

    mechanism: PrivateActivations
    client: Ledger

    def run(self, checkpoint: Path, report: Report) -> float | None:
        """Release, train the head, and return the validation part's accuracy on clipped activations."""
        self._report = report
        self.mechanism.check_examples(len(self.images))
        before = self._learned_encoder(report) if self.mechanism.encoder == "dp_sgd" else ()
        spending = self.mechanism.spending(self.epochs, len(self.images), before)
        self.client.record(spending)
        self._noise_std = 2 * self.mechanism.clip_norm * spending.query_noise_multiplier
        head = set(head_parameters(self.network))
        for parameter in self.network.parameters():
            parameter.requires_grad_(parameter in head)
        self.network.to(memory_format=torch.channels_last)
        with torch.no_grad(), threads(self.mechanism.training_threads), deterministic():
            self._activations = self._clean()
            if self.mechanism.release == "once":
                self._add_noise()
        self._labels = torch.from_numpy(self._released_labels()).to(self.task.device)
        self._optimisers = {"server": self.mechanism.sgd(self.network)}
        self._mode(training=True)
        history = self._run_epochs({"server": self.network.network}, checkpoint)
        self._mode(training=False)
        return history.scores[-1]

    def released(self, rows: np.ndarray, epoch: int) -> Tensor:
        """What an epoch sees of training records at ``rows``, ``(n, *feature_shape)``."""
        values = self._activations[torch.from_numpy(rows).to(self._activations.device)]
        if self.mechanism.release == "per_epoch":
            values = values + self._noise_std * self._noise(rows, epoch)
        return values

    def _place(self, x: Tensor) -> Tensor:
        return clipped(self.network.features(x), self.mechanism.clip_norm)

    def _learned_encoder(self, report: Report) -> tuple[Phase, ...]:
        """Learn the network by DP-SGD, or find it learned for another point, and take it as it is."""
        mechanism = self.mechanism.encoder_mechanism()
        # without its scores: whoever compares trainings by them would take these epochs for the head's
        found = learn(
            "dp_sgd",
            mechanism,
            "input",
            self.task,
            base_state=lambda: self._base_state,
            models_dir=self._cache_dir / "encoders",
            cache_dir=self._cache_dir,
            decode_threads=self._decode_threads,
            report=lambda progress: report(replace(progress, score=None)),
        )
        assert found.server is not None
        assert isinstance(found.client, Ledger)
        assert found.client.spending is not None
        self.network.network.load_state_dict(found.server)
        return found.client.spending.phases

    def _clean(self) -> Tensor:
        """The clipped activations of all records, in eval mode: nothing of one record moves another's."""
        self._mode(training=False)
        found = torch.empty(len(self.images), *self.network.feature_shape, device=self.task.device)
        for rows, x in self._batches(self.images):
            found[rows] = self._place(x)
        return found

    def _add_noise(self) -> None:
        """Put the one release of every record in the place of its activation."""
        for start in range(0, len(self.images), 256):
            rows = np.arange(start, min(start + 256, len(self.images)))
            self._activations[start : start + 256] += self._noise_std * self._noise(rows, 0)

    def _noise(self, rows: np.ndarray, draw: int) -> Tensor:
        """Of standard deviation 1, from a stream of each record: a training that is repeated releases nothing new."""
        return unit_noise(
            "gaussian",
            self.network.feature_shape,
            seed=self.task.seed,
            purpose=_PURPOSE,
            image_indices=self.images.indices[rows],
            draw=draw,
            device=self.task.device,
        )

    def _released_labels(self) -> np.ndarray:
        labels = np.array(self.images.labels)
        if self.mechanism.label_epsilon is None:
            return labels
        generator = stream_generator(seed=self.task.seed, purpose=f"{_PURPOSE}/labels")
        return randomised_response(labels, self.network.num_classes, self.mechanism.label_epsilon, generator)

    def _before_epoch(self, epoch: int) -> None:
        super()._before_epoch(epoch)
        self._epoch = epoch

    def _step(self, rows: np.ndarray) -> Tensor:
        mechanism = self.mechanism
        values = in_channels_last(self.released(rows, self._epoch))
        with autocast(self.task.device, mechanism.training_precision):
            labels = self._labels[torch.from_numpy(rows).to(self._labels.device)]
            batch = Batch(values, labels, None, self.network.head, self._done)
            loss = mechanism.loss(self.client, batch)
        mechanism.descend(loss, list(self._optimisers.values()))
        self._done += self._per_step
        return loss.detach()


def randomised_response(
    labels: np.ndarray, classes: int, epsilon: float, generator: np.random.Generator
) -> np.ndarray:
    """Answer with a label with the chance e^epsilon / (e^epsilon + classes - 1), else with any other.

    Every answer is at most e^epsilon times as likely under one true label as under another: Warner (1965); Kairouz,
    Oh & Viswanath (2014), arXiv:1407.1338, for more than two classes.

    Args:
        labels: ``(n,)``, 0 to ``classes`` - 1.
        classes: at least 2.
        epsilon: > 0.
        generator: of the draws.

    Returns:
        ``(n,)``, as ``labels``.
    """
    kept = 1 / (1 + (classes - 1) * np.exp(-epsilon))
    truthful = generator.random(len(labels)) < kept
    others = generator.integers(1, classes, len(labels))
    return np.where(truthful, labels, (labels + others) % classes)


def head_parameters(network: Trainable) -> list[nn.Parameter]:
    """Parameters that only what comes after the cut uses: those before it, and shared ones, are the encoder's."""
    probe = torch.zeros(2, *network.input_shape).to(network.mean)
    with torch.enable_grad():
        features = network.features(probe)
        before = _used(features, network)
        after = _used(network.head(features.detach()), network)
    return [p for p in network.parameters() if p in after and p not in before]


def _used(values: Tensor, network: Trainable) -> set[nn.Parameter]:
    parameters = list(network.parameters())
    if not values.requires_grad:
        return set()
    gradients = torch.autograd.grad(values.sum(), parameters, allow_unused=True)
    return {p for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None}


@torch.no_grad()
def check_network(network: Trainable) -> None:
    """Refuse networks whose activations are not one record's each, or that have nothing to learn after the cut.

    Args:
        network: in eval mode.

    Raises:
        PlugInError: as said.
    """
    x = torch.randn(_PROBES, *network.input_shape, generator=torch.Generator().manual_seed(0)).to(
        network.mean
    )
    together, alone = network.features(x), torch.cat([network.features(one[None]) for one in x])
    if not torch.allclose(together, alone, rtol=1e-3, atol=1e-3 * float(together.abs().max())):
        raise PlugInError(
            "what comes before the cut mixes the images of a batch (as batch normalisation without running statistics "
            "does), so an activation is not one record's; choose another network, or an earlier cut"
        )
    if not head_parameters(network):
        raise PlugInError("nothing that comes after the cut is learned; choose an earlier cut")
