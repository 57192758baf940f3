"""A network trained to invert the client on what really leaves, with new noise in every batch.

The inverse network of He, Zhang & Lee (ACSAC 2019), told of the noise: trained at the point's own level, or once over a
range of levels and told which one it looks at. What it learns is what the affine attack leaves over, so that it begins
as good as that one, and ends so where nothing more can be learned.
"""

import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from hushsweep.workers.attacks.keeping import identity_of, learned_once, unrepeated
from hushsweep.workers.attacks.reconstruction.base import VERSION, Target
from hushsweep.workers.attacks.reconstruction.decoder_networks import Decoder
from hushsweep.workers.attacks.reconstruction.ridge import (
    Affine,
    Moments,
    chosen_extra,
    known_variance,
    moments_of,
)
from hushsweep.workers.attacks.view import batch_noise
from hushsweep.workers.devices import autocast, in_channels_last, threads
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning.loop import Schedule, run_epochs
from hushsweep.workers.learning.task import derived_seed
from hushsweep.workers.training import store_weights
from hushsweep.workers.trial import content_id

_LARGEST = 2**24
"""Entries of the affine part at most, 64 MiB: where it would be larger, directions of little variance are left out."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a decoder is trained: Adam, mean squared error, a learning rate that falls along half a cosine."""

    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    precision: str = "float32"
    threads: int = 1
    levels: tuple[float, float] | None = None
    """Range of the noise, in units of the features' root mean square, of a decoder for all of it; None: the point's."""


@dataclass(frozen=True)
class TrainedDecoder:
    """The attack on one point."""

    decoder: Decoder
    noise_std: float | None
    """What a decoder for many levels is told."""
    shape: tuple[int, ...]
    digest: str | None

    @torch.no_grad()
    def reconstruct(self, seen: Tensor, inputs: Tensor) -> Tensor:
        """Run the network."""
        std = None if self.noise_std is None else seen.new_full((len(seen), 1), self.noise_std)
        found: Tensor = self.decoder(in_channels_last(seen), std)
        return found.reshape(len(seen), *self.shape)


def fit_decoder(target: Target, training: Training) -> TrainedDecoder:
    """Train the decoder of a point, or find it trained.

    Raises:
        PlugInError: there are too few images, training diverged, or the point's level is outside the levels asked for.
    """
    work = _Work(target, training)
    if training.levels is not None:
        _require_level(target, training.levels)
    cache = target.subject.cache
    if cache is None:
        decoder: Decoder | None = work.learn(None)
    else:
        decoder = learned_once(cache, work.digest, learn=work.learn, store=work.store, load=work.load)
    assert decoder is not None
    std = target.noise_std if training.levels is not None else None
    return TrainedDecoder(decoder.eval(), std, tuple(target.subject.model.input_shape), work.digest)


def _require_level(target: Target, levels: tuple[float, float]) -> None:
    assert target.noise_std is not None  # else the attack is not applicable
    level = target.noise_std / target.subject.rms()
    if not levels[0] * (1 - 1e-3) <= level <= levels[1] * (1 + 1e-3):
        raise PlugInError(
            f"reconstruction: levels: expected a range that has the noise of every point, {level:.4g} times the "
            f"features' root mean square here, got [{levels[0]:g}, {levels[1]:g}]"
        )


class _Work:
    """The training of one decoder."""

    def __init__(self, target: Target, training: Training) -> None:
        self._target, self._training = target, training
        self._knowledge = target.knowledge

    @cached_property
    def digest(self) -> str:
        """Hash of all that the trained decoder depends on."""
        target, training = self._target, self._training
        identity = identity_of(target.view, self._knowledge.parts())
        if training.levels is not None:
            assert target.point.cut_noise is not None
            identity["chain"] = target.point.cut_noise.law  # whichever level is asked for
        return content_id({**identity, "decoder": VERSION, "training": asdict(training)})

    def _fresh(self, moments: Moments | None) -> Decoder:
        """The decoder before it has learned anything, on the device; without moments for weights to be loaded into."""
        target, device = self._target, self._target.subject.activations.device
        scale, extra = 1.0, 0.0
        if moments is not None:
            affine = Affine(_truncated(moments), 0.0).to(device)
            seen, truth = target.validation()
            noise = known_variance(target)
            extra = noise + chosen_extra(affine, moments, noise, seen, truth)
            affine.noise.fill_(extra)
            with torch.random.fork_rng():
                torch.manual_seed(derived_seed("decoder", "scale", target.point.seed))
                rows = np.concatenate(self._knowledge.blocks("train", 1024))
                found = (
                    target.seen("train", rows)
                    if self._training.levels is None
                    else self._knowledge.clean("train", rows, at_cut=True)
                )
                scale = math.sqrt(float(found.double().square().mean()))
            if not math.isfinite(scale):
                raise PlugInError(
                    "reconstruction: what leaves is not finite on some training images; nothing can be learned of it"
                )
        else:
            affine = Affine(self._empty_moments, 0.0).to(device)
        decoder = Decoder(
            affine,
            target.seen_shape,
            target.subject.model.input_shape,
            scale=scale,
            conditioned=self._training.levels is not None,
            seed=derived_seed("decoder", target.point.seed) % 2**32,
        ).to(device)
        return decoder.to(memory_format=torch.channels_last)

    def learn(self, checkpoint: Path | None) -> Decoder:
        """Train it."""
        target, training = self._target, self._training
        with threads(training.threads):
            decoder = self._fresh(moments_of(target)).train()
            optimiser = torch.optim.Adam(decoder.correction.parameters(), lr=training.learning_rate)
            validation = self._validation()
            before = _error(decoder, *validation)
            history = run_epochs(
                {"correction": decoder.correction},
                {"optimiser": optimiser},
                Schedule(
                    seed=f"decoder/{target.point.seed}",
                    epochs=training.epochs,
                    batch_size=training.batch_size,
                    threads=training.threads,
                    cosine=True,
                ),
                lambda rows: self._step(decoder, optimiser, rows),
                size=self._knowledge.size("train"),
                device=target.subject.activations.device,
                checkpoint=checkpoint,
                after_epoch=lambda _: -_error(decoder, *validation),
                keep_best=True,
            )
            assert history.best is not None
            best = history.scores[history.best]
            if best is None or -best >= before:
                decoder.silence()
        return decoder.eval()

    def _step(self, decoder: Decoder, optimiser: torch.optim.Optimizer, rows: np.ndarray) -> Tensor:
        truth = self._knowledge.inputs("train", rows).flatten(1)
        if self._training.levels is None:
            seen, std = self._target.seen("train", rows), None
        else:
            seen, std = self._at_any_level("train", rows)
        optimiser.zero_grad()
        with autocast(self._target.subject.activations.device, self._training.precision):
            found = decoder(in_channels_last(seen), std)
        loss: Tensor = (found.float() - truth).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.detach()

    @torch.no_grad()
    def _at_any_level(self, part: str, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """What leaves at levels drawn evenly on a logarithmic scale, and the noise of each image."""
        noise, levels = self._target.point.cut_noise, self._training.levels
        assert noise is not None
        assert levels is not None
        clean = self._knowledge.clean(part, rows, at_cut=True)
        rms = float(f"{self._target.subject.rms():.4g}")
        low, high = (math.log(level * rms) for level in levels)
        std = torch.empty(len(rows), 1, device=clean.device).uniform_(low, high).exp()
        queries = self._target.view.queries
        drawn = [batch_noise(noise.law, clean.shape, clean.device) for _ in range(queries)]
        unit = torch.stack(drawn).sum(0) / math.sqrt(queries)
        return clean + std.reshape(-1, *(1,) * (clean.dim() - 1)) * unit, std

    def _validation(self) -> tuple[Tensor, Tensor | None, Tensor]:
        if self._training.levels is None:
            seen, truth = self._target.validation()
            return seen, None, truth
        with torch.random.fork_rng():
            torch.manual_seed(derived_seed("decoder", "validation", self._target.point.seed))
            rows = np.concatenate(self._knowledge.blocks("validation", 1000))
            seen, std = self._at_any_level("validation", rows)
        return seen, std, self._knowledge.inputs("validation", rows)

    def store(self, path: Path, decoder: Decoder) -> None:
        """Write the weights."""
        affine = decoder.affine
        sizes = {"rank": len(affine.values), "entries": len(affine.mean_a)}
        settings = {"facts": sizes, "training": asdict(self._training)}
        store_weights(path, unrepeated(decoder.state_dict()), settings)

    def load(self, path: Path) -> Decoder:
        """Read them."""
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["settings"])["facts"]
        state = load_file(path)
        decoder = self._fresh(None)
        decoder.affine = Affine(_zeros(facts["rank"], facts["entries"], len(state["affine.mean_x"])), 0.0)
        decoder.affine.to(self._target.subject.activations.device)
        decoder.load_state_dict(state)
        return decoder

    @property
    def _empty_moments(self) -> Moments:
        return _zeros(
            0, math.prod(self._target.seen_shape), math.prod(self._target.subject.model.input_shape)
        )


def _zeros(rank: int, entries: int, pixels: int) -> Moments:
    return Moments(
        mean_a=torch.zeros(entries),
        mean_x=torch.zeros(pixels),
        values=torch.zeros(rank),
        to_basis=torch.zeros(rank, entries),
        to_image=torch.zeros(pixels, rank),
        variance=0.0,
    )


def _truncated(moments: Moments) -> Moments:
    rank = max(1, _LARGEST // (len(moments.mean_a) + len(moments.mean_x)))
    kept = moments.values.argsort(descending=True)[:rank]
    return moments._replace(
        values=moments.values[kept], to_basis=moments.to_basis[kept], to_image=moments.to_image[:, kept]
    )


@torch.no_grad()
def _error(decoder: Decoder, seen: Tensor, std: Tensor | None, truth: Tensor) -> float:
    """Mean squared error, in eval mode."""
    training = decoder.training
    decoder.eval()
    total = 0.0
    for start in range(0, len(seen), 128):
        part = slice(start, start + 128)
        found = decoder(in_channels_last(seen[part]), None if std is None else std[part])
        total += float((found - truth[part].flatten(1)).double().square().sum())
    decoder.train(training)
    return total / truth.numel()
