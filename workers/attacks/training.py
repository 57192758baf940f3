"""Train attackers, each once: stored by content, shared by shards, resumed where a kill ended the training."""

import json
import math
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from hushsweep.datasets.images import ImageSet
from hushsweep.workers.attacks.keeping import identity_of, learned_once, unrepeated
from hushsweep.workers.attacks.networks import Attacker, attacker_network
from hushsweep.workers.attacks.view import BLOCK, CleanImages, View
from hushsweep.workers.devices import autocast, in_channels_last, threads
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning import Learning, run_epochs
from hushsweep.workers.learning.task import derived_seed
from hushsweep.workers.training import store_weights
from hushsweep.workers.trial import content_id

VERSION = 1
"""Raise it when the same settings give other attackers."""
_SCALED_ON = 1024
"""Images from which the scale of what leaves is known."""


class Trained(NamedTuple):
    """An attacker, and how good it was on images that it was chosen on.

    Attributes:
        network: In eval mode, on the device.
        digest: Its name in the folder of attackers.
        validation_top1: Fraction of the validation images, at the best epoch; being a maximum it is a little too high.
        validation_images: How many those are.
        epoch: The epoch chosen, from 1.
    """

    network: Attacker
    digest: str
    validation_top1: float
    validation_images: int
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attacker to be trained, and on what."""

    view: View
    kind: str
    """Of its network: see `NETWORKS`."""
    learning: Learning
    train: CleanImages
    """Of ``train_images``, as ``view.clean`` gives them; attacks on several points may share them."""
    train_images: ImageSet
    validation_images: ImageSet

    @cached_property
    def classes(self) -> int:
        """Secondary classes, of all parts."""
        parts = (self.train_images, self.validation_images, self.view.subject.activations.images)
        return max(part.info.secondary_classes or 1 + int(labels_of(part).max(initial=0)) for part in parts)

    @cached_property
    def digest(self) -> str:
        """Hash of all that the trained attacker depends on, but for images that it is only tested on."""
        return content_id(
            {
                **identity_of(self.view, (self.train_images, self.validation_images)),
                "attackers": VERSION,
                "network": self.kind,
                "classes": self.classes,
                # a subclass of Learning may have further fields, which are not about the training
                "full_epochs": self.view.subject.full_epochs,
                "learning": {field.name: getattr(self.learning, field.name) for field in fields(Learning)},
            }
        )

    def fresh(self, scale: float) -> Attacker:
        """Return the attacker before it has learned anything, on the device."""
        view = self.view
        seed = int(sha256(f"attacker/{view.point.seed}".encode()).hexdigest()[:8], 16)
        network = attacker_network(
            self.kind, view.subject, view.point, classes=self.classes, masked=view.masked, seed=seed
        )
        attacker = Attacker(network, scale=scale, masked=view.masked)
        attacker.to(view.subject.activations.device)
        return attacker.to(memory_format=torch.channels_last)  # a third faster to train on CPUs


def labels_of(images: ImageSet) -> np.ndarray:
    """Secondary labels of an image set.

    Raises:
        PlugInError: it has none.
    """
    if images.secondary is None:
        raise PlugInError(
            f"secondary: data set {images.info.name!r} has no secondary labels; give it a task, or a "
            "secondary_column (docs/datasets.md)"
        )
    return images.secondary


def trained_attacker(attack: Attack, *, wait: bool = True) -> Trained | None:
    """Train an attacker, or find it trained.

    Args:
        attack: which one.
        wait: for another worker that trains the same one; else return None at once.

    Raises:
        PlugInError: training diverged, or there are too few images.
    """
    cache = attack.view.subject.cache
    if cache is None:
        return _train(attack, checkpoint=None)
    return learned_once(
        cache,
        attack.digest,
        learn=lambda checkpoint: _train(attack, checkpoint=checkpoint),
        store=lambda path, trained: _store(path, trained, attack.learning),
        load=lambda path: _load(path, attack),
        wait=wait,
    )


def _train(attack: Attack, *, checkpoint: Path | None) -> Trained:
    if len(attack.train_images) < 2 or not len(attack.validation_images):
        raise PlugInError(
            "secondary: an attacker learns from at least 2 images and is chosen on at least 1, but the parts train "
            f"and validation have {len(attack.train_images)} and {len(attack.validation_images)}; raise train_limit, "
            "or take a larger data set"
        )
    # everything that a weight depends on is computed with the training's own number of threads
    with threads(attack.learning.training_threads):
        attacker = attack.fresh(_scale(attack)).train()
        validation = _Validation(attack, attacker)
        optimiser = attack.learning.sgd(attacker)
        history = run_epochs(
            {"attacker": attacker},
            {"optimiser": optimiser},
            attack.learning.schedule(f"attacker/{attack.view.point.seed}", attack.view.subject.full_epochs),
            _Step(attack, attacker, optimiser),
            size=len(attack.train_images),
            device=attack.view.subject.activations.device,
            checkpoint=checkpoint,
            after_epoch=lambda _: validation.top1(),
            keep_best=True,
        )
        attacker.calibrate(validation.logits(), validation.labels)
    best = history.best
    assert best is not None
    score = history.scores[best]
    assert score is not None
    return Trained(attacker.eval(), attack.digest, score, len(attack.validation_images), best + 1)


class _Step:
    """One step of an attacker: images, what leaves of them with new noise, loss, gradient."""

    def __init__(self, attack: Attack, attacker: Attacker, optimiser: torch.optim.Optimizer) -> None:
        self._attack, self._attacker, self._optimiser = attack, attacker, optimiser
        self._device = attack.view.subject.activations.device
        self._labels = torch.from_numpy(np.array(labels_of(attack.train_images))).to(self._device)
        self._view = attack.view.in_training(_few(attack))

    def __call__(self, rows: np.ndarray) -> Tensor:
        learning = self._attack.learning
        seen = self._view.see(self._attack.train.rows(rows), self._view.new_noise)
        with autocast(self._device, learning.training_precision):
            logits = self._attacker(in_channels_last(seen))
        loss = nn.functional.cross_entropy(logits.float(), self._labels[torch.from_numpy(rows)])
        learning.descend(loss, [self._optimiser])
        return loss.detach()


class _Validation:
    """The attacker on the validation part, with the same noise after every epoch."""

    def __init__(self, attack: Attack, attacker: Attacker) -> None:
        self._attack, self._attacker = attack, attacker
        self._clean = attack.view.clean(attack.validation_images, keep=True)
        self._view = attack.view.in_training(_few(attack))
        device = attack.view.subject.activations.device
        self.labels = torch.from_numpy(np.array(labels_of(attack.validation_images))).to(device)

    def top1(self) -> float:
        """Fraction of the images whose label has the largest logit."""
        return float((self.logits().argmax(1) == self.labels).double().mean())

    @torch.no_grad()
    def logits(self) -> Tensor:
        """``(n, classes)`` of all validation images."""
        training = self._attacker.training
        self._attacker.eval()
        with torch.random.fork_rng():
            torch.manual_seed(derived_seed("attacker", "validation", self._view.point.seed))
            blocks = np.array_split(np.arange(len(self._clean)), range(BLOCK, len(self._clean), BLOCK))
            found = [
                self._attacker(
                    in_channels_last(self._view.see(self._clean.rows(block), self._view.new_noise))
                )
                for block in blocks
            ]
        self._attacker.train(training)
        return torch.cat(found)


def _few(attack: Attack) -> Tensor:
    return attack.train.rows(np.arange(min(4, len(attack.train))))


def _scale(attack: Attack) -> float:
    """Root mean square of what leaves, over evenly spaced training images."""
    size, view = len(attack.train), attack.view
    count = min(size, _SCALED_ON)
    chosen = np.arange(count) * size // count
    shape_of_mask = 2 if view.masked else 1
    squares, entries = 0.0, 0
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed("attacker", "scale", view.point.seed))
        for start in range(0, count, BLOCK):
            seen = view.see(attack.train.rows(chosen[start : start + BLOCK]), view.new_noise)
            values = seen.chunk(shape_of_mask, dim=1)[0].double()
            squares, entries = squares + float(values.square().sum()), entries + values.numel()
    scale = math.sqrt(squares / entries)
    if not math.isfinite(scale):
        raise PlugInError(
            "secondary: what leaves is not finite on some training images; nothing can be learned of it"
        )
    return scale


def _store(path: Path, trained: Trained, learning: Learning) -> None:
    facts = {name: getattr(trained, name) for name in ("validation_top1", "validation_images", "epoch")}
    store_weights(
        path, unrepeated(trained.network.state_dict()), {"facts": facts, "learning": asdict(learning)}
    )


def _load(path: Path, attack: Attack) -> Trained:
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["settings"])["facts"]
    attacker = attack.fresh(1.0)
    attacker.load_state_dict(load_file(path), strict=False)  # what is named twice is stored once
    return Trained(network=attacker.eval(), digest=attack.digest, **facts)
