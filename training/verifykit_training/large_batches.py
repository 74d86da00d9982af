"""Train with batches that do not fit the memory: recomputed activations, and two passes over micro-batches.

Both run parts of the network twice. Batch norm then counts a batch once, and dropout draws the same twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from verifykit.errors import shown
from verifykit_training.errors import ConfigError


@contextmanager
def norms_held(module: nn.Module) -> Iterator[None]:
    """Normalise by the batch in training mode, but leave the running statistics as they are."""
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm) and each.training]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = (
            None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
        )
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def blocks_of(backbone: nn.Module) -> list[nn.Module]:
    """Return the blocks of a network: members of a chain that have parts and parameters themselves."""
    found: list[nn.Module] = []

    def walk(module: nn.Module) -> None:
        for child in module.children():
            is_block = (
                isinstance(module, nn.Sequential)
                and any(True for _ in child.children())
                and any(True for _ in child.parameters())
            )
            if is_block:
                found.append(child)
            else:
                walk(child)

    walk(backbone)
    return found


def require_blocks(name: str, backbone: nn.Module) -> None:
    """Raise ConfigError for a network that has no blocks to recompute."""
    if not blocks_of(backbone):
        raise ConfigError(
            f"run.recompute_activations: encoder {shown(name)} has no blocks to recompute: set it to false, "
            "or use run.micro_batch"
        )


@contextmanager
def recomputed(backbone: nn.Module) -> Iterator[None]:
    """Keep the inputs of blocks only within this context; backward computes the rest again.

    Chen et al., "Training deep nets with sublinear memory cost", 2016.
    """
    blocks = blocks_of(backbone)
    for block in blocks:
        block.forward = partial(_recomputed, block, block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # the class's own again


def _recomputed(block: nn.Module, forward: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), norms_held(block)

    found: Tensor = checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts)
    return found


class TwoPasses:
    """Embeddings of a batch without a graph, whose gradient then goes back by micro-batches.

    Gao et al., "Scaling deep contrastive learning batch size under memory limited setup", RepL4NLP 2021.

    Attributes:
        embeddings: (N, D), a leaf: ``backward`` of a loss leaves its gradient there.
    """

    def __init__(self, fabric: Fabric, model: nn.Module, images: Tensor, micro_batch: int) -> None:
        """Compute the embeddings of (N, C, H, W) images; processes take equally many passes."""
        self._fabric, self._model = fabric, model
        longest = fabric.all_reduce(torch.tensor(len(images)), reduce_op="max")
        self._parts = images.tensor_split(-(-int(longest) // micro_batch))  # type: ignore[arg-type]
        self._devices = [images.device] if images.device.type == "cuda" else []
        self._states: list[tuple[Tensor, list[Tensor]]] = []
        rows = []
        with torch.no_grad(), norms_held(model):
            for part in self._parts:
                cuda = [torch.cuda.get_rng_state(device) for device in self._devices]
                self._states.append((torch.get_rng_state(), cuda))
                rows.append(model(part))
        self.embeddings = torch.cat(rows).requires_grad_()

    def backward(self, *, sync: bool) -> None:
        """Give the weights their gradient; with ``sync`` processes exchange it after the last micro-batch."""
        gradient = self.embeddings.grad
        if gradient is None:
            raise ConfigError("the loss gives the embeddings no gradient")
        gradients = gradient.tensor_split(len(self._parts))
        for number, (part, given, state) in enumerate(
            zip(self._parts, gradients, self._states, strict=True), 1
        ):
            is_last = sync and number == len(self._parts)
            with (
                torch.random.fork_rng(self._devices),
                self._fabric.no_backward_sync(self._model, enabled=not is_last),  # type: ignore[arg-type]
            ):
                torch.set_rng_state(state[0])
                for device, cuda in zip(self._devices, state[1], strict=True):
                    torch.cuda.set_rng_state(cuda, device)
                self._fabric.backward(self._model(part), given)
