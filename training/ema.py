"""An exponential moving average of weights and buffers, by torch's ``AveragedModel``.

Buffers are averaged too: the average of the weights with the last batch's statistics of a batch
normalisation is neither one network nor the other.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["build_average"]

_Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]


def build_average(module: nn.Module, decay: float) -> AveragedModel:
    """Begin an average at the weights of a module.

    At update n the decay is ``min(decay, (1 + n) / (10 + n))``, as in TensorFlow's
    ``ExponentialMovingAverage(num_updates=n)``, so that a short run is not an average of its start.

    Args:
        module: What is averaged; copied.
        decay: In (0, 1).

    Returns:
        Its ``module`` holds the average; ``update_parameters(module)`` takes one step.
    """

    @torch.no_grad()
    def mix(averaged: _Tensors, current: _Tensors, updates: Tensor | int) -> None:
        if averaged[0].is_floating_point():
            now = min(decay, (1 + int(updates)) / (10 + int(updates)))
            torch._foreach_lerp_(averaged, current, 1.0 - now)
        else:
            for old, new in zip(averaged, current, strict=True):
                old.copy_(new)

    return AveragedModel(module, multi_avg_fn=mix, use_buffers=True).eval()
