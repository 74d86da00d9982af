"""Bring networks of other floating point types to float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from verifykit_export.network import subgraphs

_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_OTHER = (*_HALF, TensorProto.DOUBLE)


def is_half(model: onnx.ModelProto) -> bool:
    """Return whether a network has weights in float16 or bfloat16."""
    return _has(model, _HALF)


def is_double(model: onnx.ModelProto) -> bool:
    """Return whether a network has weights in float64."""
    return _has(model, (TensorProto.DOUBLE,))


def _has(model: onnx.ModelProto, kinds: tuple[int, ...]) -> bool:
    return any(tensor.data_type in kinds for tensor in model.graph.initializer) or any(
        item.t.data_type in kinds for node in model.graph.node for item in node.attribute
    )


def to_float32(graph: onnx.GraphProto) -> None:
    """Change weights, inputs, outputs and casts of float16, bfloat16 and float64 in place."""
    del graph.value_info[:]
    for tensor in graph.initializer:
        _convert(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _OTHER:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for item in node.attribute:
            if item.HasField("t"):
                _convert(item.t)
            elif item.name in ("to", "dtype") and item.i in _OTHER:
                item.i = TensorProto.FLOAT
        for inner in subgraphs(node):
            to_float32(inner)


def _convert(tensor: onnx.TensorProto) -> None:
    if tensor.data_type not in _OTHER:
        return
    limits = np.finfo(np.float32)
    value = numpy_helper.to_array(tensor).astype(np.float64)
    # Masks are filled with float64's lowest number.
    finite = np.where(np.isfinite(value), np.clip(value, limits.min, limits.max), value)
    tensor.CopyFrom(numpy_helper.from_array(finite.astype(np.float32), tensor.name))
