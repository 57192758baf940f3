"""What a network costs."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hushsweep.workers.models.split import plain_attention


def flops(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Count the floating-point operations of a network on one image.

    Matrix products and convolutions, 2 per multiply-add; not biases, normalisations, activations and resampling,
    which are a few percent. As in eval mode; the module stays as it is.

    Args:
        module: On any device.
        input_shape: ``(channels, height, width)`` of what ``module`` is called with.
    """
    weight = next(module.parameters(), torch.empty(()))
    x = torch.zeros(1, *input_shape, dtype=weight.dtype, device=weight.device)
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad(), plain_attention(), FlopCounterMode(display=False) as counter:
            module(x)
    finally:
        for part in training:
            part.training = True
    return int(counter.get_total_flops())
