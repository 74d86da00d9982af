"""Batch normalisation is folded into the convolution or matrix product next to it."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from verifykit_export.network import Network, attributes

Affine: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(C,) factor and (C,) offset."""


def fold_batch_norm(network: Network) -> None:
    """Fold ``BatchNormalization`` into the ``Conv`` or ``Gemm`` before it, or the ``Gemm`` after it.

    Computed in float64 by operations that IEEE 754 defines to the last bit, in a fixed order: the same
    weights on every machine. A normalisation with neither neighbour stays.
    """
    for node in [node for node in network.nodes if node.op_type == "BatchNormalization"]:
        affine = _affine(network, node)
        if affine is not None and not _fold_back(network, node, affine):
            _fold_forward(network, node, affine)


def _affine(network: Network, node: onnx.NodeProto) -> Affine | None:
    parts = [network.constant(node, index) for index in range(1, 5)]
    if any(part is None for part in parts) or attributes(node).get("training_mode", 0):
        return None
    scale, offset, mean, variance = (np.asarray(part, dtype=np.float64) for part in parts)
    factor = scale / np.sqrt(variance + float(attributes(node).get("epsilon", 1e-5)))
    return factor, offset - mean * factor


def _fold_back(network: Network, node: onnx.NodeProto, affine: Affine) -> bool:
    source = network.producer(node.input[0])
    if source is None or network.only_consumer(node.input[0]) is None:
        return False
    weight = network.constant(source, 1)
    bias = network.constant(source, 2)
    has_bias = len(source.input) > 2 and bool(source.input[2])
    if weight is None or (has_bias and bias is None):
        return False
    factor, offset = affine
    if source.op_type == "Conv":
        axis = 0
    elif source.op_type == "Gemm" and _is_plain(source):
        axis = 0 if attributes(source).get("transB", 0) else 1
    else:
        return False
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    before = np.zeros(()) if bias is None else bias.astype(np.float64)
    _set_weights(
        network, source, weight.astype(np.float64) * factor.reshape(shape), before * factor + offset
    )
    source.output[0] = node.output[0]
    network.replace_node(node, [])
    return True


def _fold_forward(network: Network, node: onnx.NodeProto, affine: Affine) -> None:
    flatten = network.only_consumer(node.output[0])
    if flatten is None or flatten.op_type != "Flatten" or attributes(flatten).get("axis", 1) != 1:
        return
    gemm = network.only_consumer(flatten.output[0])
    if gemm is None or gemm.op_type != "Gemm" or not _is_plain(gemm):
        return
    weight, bias = network.constant(gemm, 1), network.constant(gemm, 2)
    if weight is None or bias is None or gemm.input[0] != flatten.output[0]:
        return
    transposed = bool(attributes(gemm).get("transB", 0))
    rows = weight.astype(np.float64) if transposed else weight.T.astype(np.float64)
    factor, offset = (np.repeat(part, rows.shape[1] // len(part)) for part in affine)
    # accumulate adds one after the other; sum's order would depend on the machine.
    shift = np.add.accumulate(rows * offset, axis=1)[:, -1]
    scaled = rows * factor
    _set_weights(network, gemm, scaled if transposed else scaled.T, bias.astype(np.float64) + shift)
    network.replace_node(node, [])
    network.read_instead(node.output[0], node.input[0])


def _is_plain(gemm: onnx.NodeProto) -> bool:
    values = attributes(gemm)
    return (
        values.get("alpha", 1.0) == 1.0
        and values.get("beta", 1.0) == 1.0
        and not values.get("transA", 0)
    )


def _set_weights(
    network: Network, node: onnx.NodeProto, weight: NDArray[np.float64], bias: NDArray[np.float64]
) -> None:
    inputs = [node.input[0], network.add_constant(node.input[1], weight.astype(np.float32))]
    near = node.input[2] if len(node.input) > 2 and node.input[2] else f"{node.output[0]}_bias"
    inputs.append(network.add_constant(near, bias.astype(np.float32)))
    del node.input[:]
    node.input.extend(inputs)
