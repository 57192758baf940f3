"""The loop of every training: epochs that can be killed and taken up again without a trace in the result."""

import logging
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hushsweep.datasets.heartbeat import beat
from hushsweep.datasets.results.files import available, write_atomically
from hushsweep.workers.devices import deterministic, threads
from hushsweep.workers.errors import PlugInError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What the loop itself needs to know.

    Attributes:
        seed: Names the stream of the order of the images and of all that a step draws from torch's generator.
        epochs: Passes over the images.
        batch_size: Images per step.
        threads: On the CPU.
        cosine: Whether learning rates fall to 0 along half a cosine, step by step; else they stay.
    """

    seed: str
    epochs: int
    batch_size: int
    threads: int
    cosine: bool = False


@dataclass
class History:
    """What was seen of a training, one entry per epoch."""

    losses: list[float] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)

    @property
    def best(self) -> int | None:
        """Epoch with the highest score, the first of equals; None without scores."""
        scored = [(score, -epoch) for epoch, score in enumerate(self.scores) if score is not None]
        return -max(scored)[1] if scored else None


def run_epochs(
    modules: Mapping[str, nn.Module],
    optimisers: Mapping[str, Optimizer],
    schedule: Schedule,
    step: Callable[[np.ndarray], Tensor],
    *,
    size: int,
    device: torch.device,
    checkpoint: Path | None,
    before_epoch: Callable[[int], None] = lambda epoch: None,
    after_epoch: Callable[[int], float | None] | None = None,
    after_checkpoint: Callable[[int], None] = lambda epoch: None,
    batches: Callable[[], Sequence[np.ndarray]] | None = None,
    keep_best: bool = False,
) -> History:
    """Train modules in place, from where ``checkpoint`` left off if that file exists.

    Every epoch draws its order, its noise and its dropout from (seed, epoch), so that a checkpoint needs no random
    state.

    Args:
        modules: what is trained or otherwise changes; the caller has put them into train or eval mode.
        optimisers: of their parameters.
        schedule: how long, in what batches.
        step: given ``(batch,)`` positions of images, makes one step and returns the loss, detached.
        size: number of images.
        device: where ``step`` computes.
        checkpoint: written after every epoch under a temporary name, then renamed; None keeps nothing.
        before_epoch: called with the number of epochs done.
        after_epoch: called with the number of epochs done; what it returns is the epoch's score, higher is better.
            It must leave the modules in the modes it found them in.
        after_checkpoint: called with the number of epochs done once they are on the disk; what it raises ends the
            training there, and nothing is lost.
        batches: draws an epoch's batches from torch's generator, in place of all images in a random order.
        keep_best: end with the modules of the epoch of the highest score instead of the last one's.

    Raises:
        PlugInError: a loss was not finite, or the device has no deterministic algorithm for these modules.
    """
    history, best = History(), dict[str, Any]()
    rates = {name: [group["lr"] for group in o.param_groups] for name, o in optimisers.items()}
    with threads(schedule.threads), deterministic():
        for epoch in range(_resume(modules, optimisers, checkpoint, history, best), schedule.epochs):
            before_epoch(epoch)
            try:
                loss = _epoch(
                    optimisers, rates, schedule, step, epoch, batches or (lambda: _shuffled(size, schedule))
                )
            except RuntimeError as error:
                if "deterministic" not in str(error):
                    raise
                reason = str(error).partition("\n")[0]
                raise PlugInError(
                    f"this network cannot be trained repeatably on {device}: {reason}"
                ) from error
            log.info("epoch %d of %d: mean loss %.4f", epoch + 1, schedule.epochs, loss)
            if not math.isfinite(loss):
                raise PlugInError(
                    f"training diverged in epoch {epoch + 1} of {schedule.epochs} (loss {loss}) with "
                    f"{_spelled(rates)}; choose a smaller one"
                )
            history.losses.append(loss)
            history.scores.append(after_epoch(epoch + 1) if after_epoch else None)
            if keep_best and history.best == epoch:
                best = {name: _copy(module) for name, module in modules.items()}
            if checkpoint is not None:
                _save(checkpoint, modules, optimisers, history, best)
            after_checkpoint(epoch + 1)
    for name, state in best.items():
        modules[name].load_state_dict(state)
    return history


def _epoch(
    optimisers: Mapping[str, Optimizer],
    rates: Mapping[str, list[float]],
    schedule: Schedule,
    step: Callable[[np.ndarray], Tensor],
    epoch: int,
    draw: Callable[[], Sequence[np.ndarray]],
) -> float:
    """One pass; returns the mean loss."""
    total = torch.zeros((), dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(int(sha256(f"{schedule.seed}/{epoch}".encode()).hexdigest()[:15], 16))
        batches = draw()
        for number, rows in enumerate(batches):
            if schedule.cosine:
                done = (epoch + number / len(batches)) / schedule.epochs
                _set_rates(optimisers, rates, 0.5 * (1 + math.cos(math.pi * done)))
            loss = step(rows)
            beat()
            total = total.to(loss.device) + loss
    return total.item() / len(batches)


def _shuffled(size: int, schedule: Schedule) -> list[np.ndarray]:
    """All images in a random order."""
    order = torch.randperm(size).numpy()
    batches = [order[start : start + schedule.batch_size] for start in range(0, size, schedule.batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches = batches[:-1]  # batch normalisation has no variance of one image
    return batches


def _set_rates(optimisers: Mapping[str, Optimizer], rates: Mapping[str, list[float]], factor: float) -> None:
    for name, optimiser in optimisers.items():
        for group, rate in zip(optimiser.param_groups, rates[name], strict=True):
            group["lr"] = factor * rate


def _spelled(rates: Mapping[str, list[float]]) -> str:
    """Name the learning rate, or each with what it is of where they differ."""
    firsts = {name: rate[0] for name, rate in rates.items()}
    if len(set(firsts.values())) == 1:
        return f"learning_rate {next(iter(firsts.values())):g}"
    return "learning rates " + ", ".join(f"{rate:g} ({name})" for name, rate in firsts.items())


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _resume(
    modules: Mapping[str, nn.Module],
    optimisers: Mapping[str, Optimizer],
    checkpoint: Path | None,
    history: History,
    best: dict[str, Any],
) -> int:
    """Load the checkpoint, if there is a readable one; returns the number of epochs that are done."""
    if checkpoint is None or not available(checkpoint):
        return 0
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return 0
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
    for name, optimiser in optimisers.items():
        optimiser.load_state_dict(state["optimisers"][name])
    history.losses[:], history.scores[:] = state["losses"], state["scores"]
    best.update(state["best"])
    return len(history.losses)


def _save(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimisers: Mapping[str, Optimizer],
    history: History,
    best: dict[str, Any],
) -> None:
    state = {
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optimisers": {name: optimiser.state_dict() for name, optimiser in optimisers.items()},
        "losses": history.losses,
        "scores": history.scores,
        "best": best,
    }
    write_atomically(path, lambda stream: torch.save(state, stream))
