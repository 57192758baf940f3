"""Train a network so that a killed training, started again, ends in the very same weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hushsweep.datasets.images import ImageSet
from hushsweep.workers.learning.loop import Schedule, run_epochs


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

    Args:
        network: With its initial weights.
        images: What to learn.
        recipe: How.
        prepare: Turns uint8 images into the network's input, on the device.
        device: Where.
        checkpoint: Written after every epoch.

    Raises:
        PlugInError: the loss became infinite, or the device has no deterministic algorithm for this network.
    """
    network.to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, fused=True)

    def step(rows: np.ndarray) -> Tensor:
        x = prepare(torch.from_numpy(images.images[rows]))
        labels = torch.from_numpy(images.labels[rows]).to(x.device)
        output = network(x)
        # GoogLeNet and Inception give the outputs of auxiliary heads beside the logits.
        logits = output if isinstance(output, Tensor) else output.logits
        loss = nn.functional.cross_entropy(logits, labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.detach()

    schedule = Schedule(
        seed=str(recipe.seed), epochs=recipe.epochs, batch_size=recipe.batch_size, threads=recipe.threads
    )
    run_epochs(
        {"network": network},
        {"optimiser": optimiser},
        schedule,
        step,
        size=len(images),
        device=device,
        checkpoint=checkpoint,
    )
    network.eval()
