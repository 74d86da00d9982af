"""Rewrite an ONNX network of another project to run fast on ONNX Runtime.

Every step is a pass of :mod:`verifykit_export.passes`; none changes what the network computes.
"""

from __future__ import annotations

import onnx

from verifykit.errors import ModelContractError, shown
from verifykit_export.network import OPSET, Network
from verifykit_export.passes import (
    drop_dead,
    drop_identities,
    fold_batch_norm,
    fold_constants,
    fold_scale,
    free_dimensions,
    merge_siblings,
    rewrite_prelu,
    sink_splits,
)


def import_encoder(
    model: onnx.ModelProto,
    name: str,
    *,
    opset: int = OPSET,
    quantised: bool = False,
    free: bool = True,
) -> onnx.ModelProto:
    """Return the same encoder, cleaned and, if ``free``, for any number of images at once.

    A quantised one is not rewritten further: rounding to integers would turn the last bit into a step.
    """
    network = _cleaned(model, opset, dequantize=not quantised)
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ModelContractError(
            "an encoder has one input and one output, this network has inputs "
            f"{shown([item.name for item in network.inputs])} and outputs "
            f"{shown([item.name for item in network.outputs])}"
        )
    if free:
        free_dimensions(network, {0: "batch"})
    ranks = [_rank(item) for item in (*network.inputs, *network.outputs)]
    if ranks != [4, 2]:
        raise ModelContractError(
            "an encoder takes (N, C, H, W) and returns (N, D), this network's input and output have "
            f"{ranks[0]} and {ranks[1]} axes"
        )
    if not quantised:
        fold_scale(network)
        fold_batch_norm(network)
        rewrite_prelu(network)
        drop_dead(network)
    return network.to_model(name)


def import_detector(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return the same fully convolutional detector for any batch, height and width."""
    network = _cleaned(model)
    free_dimensions(network, {0: "batch", 2: "height", 3: "width"})
    fold_scale(network)
    fold_batch_norm(network)
    merge_siblings(network)
    sink_splits(network)
    drop_dead(network)
    return network.to_model(name)


def _cleaned(model: onnx.ModelProto, opset: int = OPSET, *, dequantize: bool = True) -> Network:
    network = Network.from_model(model, opset)
    fold_constants(network, dequantize=dequantize)
    drop_identities(network)
    drop_dead(network)
    return network


def _rank(value: onnx.ValueInfoProto) -> int:
    return len(value.type.tensor_type.shape.dim)
