"""Choose between float32 and bfloat16 by the time that a step takes here.

Which is faster depends on the network and on the machine: bfloat16 halves the time of dense convolutions on a
processor or GPU with instructions for it, and lengthens that of depthwise ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeAlias

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from torch import nn

from verifykit._cpus import available_cpus
from verifykit_training.config import Config
from verifykit_training.errors import TrainingError
from verifykit_training.learner import encoder_of

Measured: TypeAlias = Literal["32-true", "bf16-mixed"]

_STEPS = 3


@dataclass(frozen=True)
class PrecisionTimes:
    """What steps of both precisions took, in milliseconds: the median of three, after one to warm up."""

    float32_ms: float
    bf16_ms: float

    @property
    def faster(self) -> Measured:
        """Return the precision whose step took less time; float32 if neither did."""
        return "bf16-mixed" if self.bf16_ms < self.float32_ms else "32-true"

    @property
    def sentence(self) -> str:
        """Return what was measured, and what follows."""
        return (
            f'run.precision = "auto": a step takes {self.float32_ms:.0f} ms in float32 and '
            f"{self.bf16_ms:.0f} ms in bf16-mixed: {self.faster} is used"
        )


def time_precisions(config: Config, device: torch.device, processes: int = 1) -> PrecisionTimes:
    """Time steps of a network like the run's, on random images of a batch; nothing random is drawn from."""
    devices = [device] if device.type == "cuda" else []
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, available_cpus()))
    try:
        with torch.random.fork_rng(devices=devices):
            encoder = encoder_of(config).to(device).to(memory_format=torch.channels_last).train()
            images = _images(config, device, processes)
            steps: dict[Measured, Callable[[], None]] = {
                "32-true": lambda: _step(encoder, images, bf16=False),
                "bf16-mixed": lambda: _step(encoder, images, bf16=True),
            }
            times: dict[Measured, list[float]] = {name: [] for name in steps}
            for _ in range(1 + _STEPS):  # alternating, so that another load meets both
                for name, step in steps.items():
                    times[name].append(_seconds(step, device))
    finally:
        torch.set_num_threads(threads)
    float32, bf16 = (1e3 * median(times[name][1:]) for name in steps)
    return PrecisionTimes(float32, bf16)


def set_precision(fabric: Fabric, precision: Measured) -> None:
    """Let Fabric, which began in float32, work in a precision from now on; before a module is set up.

    Raises:
        TrainingError: The strategy has its own way of reducing precision.
    """
    strategy = fabric.strategy
    if not isinstance(strategy, (SingleDeviceStrategy, DDPStrategy)):
        raise TrainingError(
            f'run.precision = "auto" is for one process or run.strategy = "ddp", not for '
            f"{type(strategy).__name__}: name a precision"
        )
    if precision == "bf16-mixed":
        strategy.precision = MixedPrecision("bf16-mixed", fabric.device.type)
        fabric._precision = strategy.precision  # noqa: SLF001 - Fabric reads it from there


def _images(config: Config, device: torch.device, processes: int) -> torch.Tensor:
    """Return as many random images as a process has in a batch."""
    sampler = config.sampler
    is_pk = sampler.name == "pk"
    count = sampler.p * (sampler.k + sampler.forgeries) if is_pk else 3 * sampler.triplets
    count = max(2, min(count // processes, config.run.micro_batch or count))
    channels = 1 if config.encoder.color == "grey" else 3
    images = torch.rand(count, channels, config.crop.height_px, config.crop.width_px)
    return images.to(device).contiguous(memory_format=torch.channels_last)


def _step(encoder: nn.Module, images: torch.Tensor, *, bf16: bool) -> None:
    kind = images.device.type
    with torch.autocast(kind, torch.bfloat16) if bf16 else nullcontext():
        embeddings = encoder(images)
    embeddings.float().square().mean().backward()
    encoder.zero_grad(set_to_none=True)


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
