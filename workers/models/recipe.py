"""Train a network so that a killed training, started again, ends in the very same weights."""

import logging
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hushsweep.datasets.images import ImageSet
from hushsweep.workers.devices import deterministic, threads
from hushsweep.workers.errors import PlugInError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """AdamW with a constant step, as in arXiv:2404.02866.

    Attributes:
        seed: Of the order of the images and of dropout.
        epochs: Passes over the images.
        batch_size: Images per step.
        learning_rate: AdamW's.
        threads: On the CPU.
    """

    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    threads: int


def train(
    network: nn.Module,
    images: ImageSet,
    recipe: Recipe,
    *,
    prepare: Callable[[Tensor], Tensor],
    device: torch.device,
    checkpoint: Path,
) -> None:
    """Train in place, from where ``checkpoint`` left off if that file exists.

    Every epoch draws its order and its dropout from (seed, epoch), so that a checkpoint needs no random state.

    Args:
        network: With its initial weights.
        images: What to learn.
        recipe: How.
        prepare: Turns uint8 images into the network's input, on the device.
        device: Where.
        checkpoint: Written after every epoch under a temporary name, then renamed.

    Raises:
        PlugInError: the loss became infinite, or the device has no deterministic algorithm for this network.
    """
    network.to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, fused=True)
    with threads(recipe.threads), deterministic():
        for epoch in range(_resume(network, optimiser, checkpoint), recipe.epochs):
            try:
                loss = _train_epoch(network, images, recipe, epoch, optimiser, prepare)
            except RuntimeError as error:
                if "deterministic" not in str(error):
                    raise
                reason = str(error).partition("\n")[0]
                raise PlugInError(
                    f"this network cannot be trained repeatably on {device}: {reason}"
                ) from error
            log.info("epoch %d of %d: mean loss %.4f", epoch + 1, recipe.epochs, loss)
            if not loss < float("inf"):
                raise PlugInError(
                    f"training diverged in epoch {epoch + 1} (loss {loss}) with learning_rate "
                    f"{recipe.learning_rate}; choose a smaller one"
                )
            _save(checkpoint, epoch=epoch + 1, network=network.state_dict(), optimiser=optimiser.state_dict())
    network.eval()


def _train_epoch(
    network: nn.Module,
    images: ImageSet,
    recipe: Recipe,
    epoch: int,
    optimiser: torch.optim.Optimizer,
    prepare: Callable[[Tensor], Tensor],
) -> float:
    """One pass; returns the mean loss."""
    network.train()
    total = torch.zeros((), dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(int(sha256(f"{recipe.seed}/{epoch}".encode()).hexdigest()[:15], 16))
        order = torch.randperm(len(images))
        batches = [
            order[start : start + recipe.batch_size] for start in range(0, len(order), recipe.batch_size)
        ]
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches = batches[:-1]  # batch normalisation has no variance of one image
        for batch in batches:
            rows = batch.numpy()
            x = prepare(torch.from_numpy(images.images[rows]))
            labels = torch.from_numpy(images.labels[rows]).to(x.device)
            output = network(x)
            # GoogLeNet and Inception give the outputs of auxiliary heads beside the logits.
            logits = output if isinstance(output, Tensor) else output.logits
            loss = nn.functional.cross_entropy(logits, labels)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total = total.to(x.device) + loss.detach()
    return total.item() / len(batches)


def _resume(network: nn.Module, optimiser: torch.optim.Optimizer, checkpoint: Path) -> int:
    """Load the checkpoint, if there is a readable one; returns the number of epochs that are done."""
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return 0
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["epoch"])


def _save(path: Path, **state: Any) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
