"""Gradients of single images, clipped, summed and noised by Opacus."""

import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_handlers = logging.root.handlers[:]
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping  # noqa: E402
from opacus.grad_sample.functorch import ft_compute_per_sample_gradient  # noqa: E402
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping  # noqa: E402
from opacus.utils.batch_memory_manager import BatchSplittingSampler  # noqa: E402
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping  # noqa: E402

logging.root.handlers[:] = _handlers  # Opacus adds one of its own when it is imported

Sampler = Callable[[Any, list[Tensor], Tensor], dict[nn.Parameter, Tensor]]


class PrivateSteps:
    """Steps of an optimiser that know the batch only as clipped gradients of its images, and noise.

    Every image may come as several copies: its gradient is then that of their mean loss.
    """

    def __init__(
        self,
        network: nn.Module,
        optimiser: Optimizer,
        *,
        noise_multiplier: float,
        clip_norm: float,
        batch_size: int,
        physical_batch: int | None,
        gradients: Literal["per_sample", "ghost"],
        copies: int,
    ) -> None:
        """Attach to a network, in train mode and in place; only parameters with ``requires_grad`` take part.

        Args:
            network: Whatever runs its modules counts, not only its own ``forward``.
            optimiser: Of its parameters.
            noise_multiplier: Standard deviation of the noise in clip norms.
            clip_norm: Largest norm of an image's gradient.
            batch_size: Images that are expected in a step, by which the sum is divided.
            physical_batch: Most images that go through the network at once; None: all.
            gradients: How they are clipped.
            copies: Of each image, side by side in what the network gets.

        Raises:
            NotImplementedError: Opacus cannot do it for a module of the network.
        """
        ghost = gradients == "ghost"
        settings: dict[str, Any] = {
            "noise_multiplier": noise_multiplier,
            "max_grad_norm": clip_norm,
            "expected_batch_size": batch_size,
        }
        if ghost:
            self.module = GradSampleModuleFastGradientClipping(
                network, loss_reduction="sum", max_grad_norm=clip_norm
            )
            self.optimiser = DPOptimizerFastGradientClipping(optimiser, **settings)
            self.module.NORM_SAMPLERS = {
                nn.Linear: _of_examples(self.module.NORM_SAMPLERS[nn.Linear], copies)
            }
        else:
            self.module = GradSampleModule(network, loss_reduction="sum")
            self.optimiser = DPOptimizer(optimiser, **settings)
        self._physical_batch = physical_batch
        self.module.GRAD_SAMPLERS = {
            type(module): _of_examples(
                self.module.GRAD_SAMPLERS.get(type(module), ft_compute_per_sample_gradient), copies
            )
            for module in self.module.iterate_submodules(network)
        }

    def step(self, images: int, losses: Callable[[np.ndarray], Tensor]) -> Tensor:
        """Make one step.

        Args:
            images: In the batch, >= 0; without any, the step is noise alone.
            losses: Gives the losses, ``(n,)``, of the images at ``(n,)`` places in the batch.

        Returns:
            The sum of the losses, detached.
        """
        total = torch.zeros((), device=self.optimiser.params[0].device)
        for places in self._parts(images):
            if len(places):
                found = losses(places)
                self.differentiate(found)
                total = total + found.detach().sum()
            else:
                for parameter in self.optimiser.params:  # not every module takes a batch of no images
                    parameter.grad_sample = parameter.new_zeros(0, *parameter.shape)
                    parameter.grad = torch.zeros_like(parameter)
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
        return total

    def _parts(self, images: int) -> Iterator[np.ndarray]:
        if self._physical_batch is None:
            return iter([np.arange(images)])
        # what Opacus' BatchMemoryManager puts around a loader: it tells the optimiser which part is the last
        parts = BatchSplittingSampler(
            sampler=[range(images)], max_batch_size=self._physical_batch, optimizer=self.optimiser
        )
        return (np.array(part, dtype=np.int64) for part in parts)

    def differentiate(self, losses: Tensor) -> None:
        """Find the gradients of losses, ``(n,)``: each image's, or for ghost their clipped sum."""
        with warnings.catch_warnings():
            # of the first layer, whose input no gradient is wanted of
            warnings.filterwarnings("ignore", "Full backward hook is firing")
            if isinstance(self.module, GradSampleModuleFastGradientClipping):
                DPTensorFastGradientClipping(self.module, self.optimiser, losses, "sum").backward()
            else:
                losses.sum().backward()  # type: ignore[no-untyped-call]


def _of_examples(sampler: Sampler, copies: int) -> Sampler:
    """Make what finds gradients, or norms, of the rows of a batch find those of images with several rows."""

    def sample(layer: nn.Module, activations: list[Tensor], backprops: Tensor) -> dict[nn.Parameter, Tensor]:
        # Opacus reads images as if there were no other layout than the default one, and else finds other gradients; of
        # a single pixel contiguous() keeps any strides, and padding then follows them
        activations = [values.contiguous().flatten().view(values.shape) for values in activations]
        examples = len(backprops) // copies
        layer.max_batch_len = examples  # type: ignore[assignment] # Opacus' own
        if isinstance(layer, nn.Linear) and (copies > 1 or backprops.ndim > 2):
            # sums over all that stands between an example and its features; norms do so for one dimension only
            activations = [values.reshape(examples, -1, values.shape[-1]) for values in activations]
            return sampler(layer, activations, backprops.reshape(examples, -1, backprops.shape[-1]))
        found = sampler(layer, activations, backprops)
        if copies == 1:
            return found
        return {p: rows.reshape(examples, copies, *p.shape).sum(1) for p, rows in found.items()}

    return sample
