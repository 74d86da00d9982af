"""Measure the activations of a training step: ``python -m benchmarks.training.memory``.

What the backward pass keeps is counted by torch's hooks on saved tensors, on the CPU: the bytes of all
distinct storages that are neither weights nor buffers. A GPU adds weights, gradients, the optimiser's moments
and workspaces; that was not measured, because there was none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from verifykit_training.encoders import build_encoder
from verifykit_training.large_batches import blocks_of


def saved_bytes(network: nn.Module, images: Tensor, precision: str) -> int:
    """Return the bytes that one forward pass keeps for the backward pass."""
    own = {each.untyped_storage().data_ptr() for each in network.state_dict().values()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor  # alive, so that no address comes again
        return tensor

    is_mixed = precision == "bf16-mixed"
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=is_mixed),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        result = network(images)
    del result
    return sum(each.untyped_storage().nbytes() for key, each in kept.items() if key not in own)


def largest_block_bytes(network: nn.Module, images: Tensor, precision: str) -> int:
    """Return the most that recomputing one block keeps."""
    inputs: dict[nn.Module, Tensor] = {}
    blocks = blocks_of(network)
    hooks = [
        block.register_forward_pre_hook(lambda block, given: inputs.update({block: given[0]}))
        for block in blocks
    ]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return max(
        saved_bytes(block, inputs[block].detach().requires_grad_(), precision) for block in blocks
    )


def main() -> None:
    """Print the activations of each way to make one batch."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoder", default="resnet152")
    parser.add_argument("--size", type=int, default=112, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--micro", type=int, default=2, help="images that are computed, and twice as many"
    )
    parser.add_argument(
        "--precision",
        choices=["32-true", "bf16-mixed"],
        nargs="+",
        default=["32-true"],
    )
    options = parser.parse_args()
    title = f"{options.encoder}, {options.size} px: activations kept for the backward pass"
    whole = f"MB, {options.batch} images"
    table = Table("precision", "run", "MB fixed", "MB an image", whole, title=title)
    network = build_encoder(options.encoder, weights="none").train()
    images = torch.rand(2 * options.micro, 3, options.size, options.size)

    def line(kept: Callable[[Tensor], int]) -> tuple[float, float]:
        """Return MB that are fixed, and MB an image, from two sizes of a batch."""
        one, two = (kept(images[: n * options.micro]) / 1e6 for n in (1, 2))
        return 2 * one - two, (two - one) / options.micro

    for precision in options.precision:
        network.recomputes = False
        plain = line(partial(saved_bytes, network, precision=precision))
        network.recomputes = True
        kept = line(partial(saved_bytes, network, precision=precision))
        block = line(partial(largest_block_bytes, network.backbone, precision=precision))
        again = (kept[0] + block[0], kept[1] + block[1])
        for name, (fixed, each), count in (
            ("as it is", plain, options.batch),
            ("recompute_activations", again, options.batch),
            ("micro_batch = 16", plain, 16),
            ("micro_batch = 16 and recompute_activations", again, 16),
        ):
            total = fixed + each * count
            table.add_row(precision, name, f"{fixed:.0f}", f"{each:.1f}", f"{total:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
