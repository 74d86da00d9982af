"""Compute what does not depend on the input: quantised weights become float32 constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from verifykit.errors import shown
from verifykit_export.network import Network, attributes


def fold_constants(network: Network, *, dequantize: bool = True) -> None:
    """Replace ``Constant``, and ``DequantizeLinear`` and ``Reshape`` of constants, by their values.

    ONNX Runtime refuses the block-wise ``DequantizeLinear`` of some files; no runtime is helped by
    weights that are unpacked at every start. A network that computes on integers needs its weights as
    integers: ``dequantize=False``.
    """
    for node in list(network.nodes):
        if node.op_type == "DequantizeLinear" and not dequantize:
            continue
        value = _value(network, node)
        if value is not None:
            network.constants[node.output[0]] = value
            network.replace_node(node, [])


def _value(network: Network, node: onnx.NodeProto) -> NDArray[Any] | None:
    if node.op_type == "Constant":
        return _constant(node)
    names = [name for name in node.input if name]
    if any(name not in network.constants for name in names):
        return None
    values = [network.constants[name] for name in names]
    if node.op_type == "DequantizeLinear":
        return _dequantized(node, *values)
    if node.op_type == "Reshape" and not attributes(node).get("allowzero", 0):
        data, shape = values
        sizes = [data.shape[i] if size == 0 else int(size) for i, size in enumerate(shape)]
        return data.reshape(sizes)
    return None


def _constant(node: onnx.NodeProto) -> NDArray[Any]:
    values = attributes(node)
    if "value" in values:
        return numpy_helper.to_array(values["value"])
    for name, dtype in (("value_float", np.float32), ("value_int", np.int64)):
        for key in (name, f"{name}s"):
            if key in values:
                return np.array(values[key], dtype=dtype)
    raise ValueError(f"Constant {shown(node.output[0])}: only dense numbers are supported")


def _dequantized(
    node: onnx.NodeProto,
    quantised: NDArray[Any],
    scale: NDArray[Any],
    zero_point: NDArray[Any] | None = None,
) -> NDArray[np.float32]:
    """``(q - zero_point) * scale`` per tensor, per axis or per block of an axis (ONNX, opset 21)."""
    zero_point = np.zeros(scale.shape, np.int32) if zero_point is None else zero_point
    axis, block = attributes(node).get("axis", 1), attributes(node).get("block_size", 0)
    spread = [_spread(part, quantised.shape, axis, block) for part in (scale, zero_point)]
    steps = quantised.astype(np.int32) - spread[1].astype(np.int32)
    return np.asarray(steps.astype(np.float32) * spread[0], dtype=np.float32)


def _spread(part: NDArray[Any], shape: tuple[int, ...], axis: int, block: int) -> NDArray[Any]:
    if block:
        return np.repeat(part, block, axis=axis).take(range(shape[axis]), axis=axis)
    if part.size == 1:
        return part.reshape(())
    return part.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
