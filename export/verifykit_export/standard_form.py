"""Bring the networks of other projects to one form: (N, C, H, W) float32 to (N, D) float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from verifykit_export.network import sort_nodes, subgraphs
from verifykit_export.original import Contract

_WIDE = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_QUANTISED = {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"}


def in_order(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose nodes come after those that they read from, as ONNX requires."""
    fresh = onnx.ModelProto()
    fresh.CopyFrom(model)
    nodes = sort_nodes(list(model.graph.node))
    del fresh.graph.node[:]
    fresh.graph.node.extend(nodes)
    return fresh


def is_quantised(model: onnx.ModelProto) -> bool:
    """Return whether a network computes on integers, and not only stores its weights as such."""
    return any(node.op_type in _QUANTISED for node in model.graph.node)


def is_half(model: onnx.ModelProto) -> bool:
    """Return whether a network computes in float16 or bfloat16."""
    half = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    return any(tensor.data_type in half for tensor in model.graph.initializer) or any(
        item.t.data_type in half for node in model.graph.node for item in node.attribute
    )


def to_standard_form(
    model: onnx.ModelProto,
    contract: Contract,
    size: int,
    names: tuple[str, str] = ("input", "embedding"),
) -> None:
    """Change a model in place: float32, channels first, one output of ``size`` values an image."""
    graph = model.graph
    del graph.value_info[:]
    _to_float32(graph)
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    source, target = (_free_name(name, taken) for name in names)
    first = _first_nodes(contract, source)
    last = helper.make_node("Flatten", [contract.output], [target], axis=1)
    nodes = [*first, *graph.node, last]
    del graph.node[:]
    graph.node.extend(nodes)
    batch = contract.batch or "batch"
    image = [
        contract.channels or "channels",
        contract.height or "height",
        contract.width or "width",
    ]
    weights = {item.name for item in graph.initializer}
    others = [item for item in graph.input if item.name in weights]
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info(source, TensorProto.FLOAT, [batch, *image]))
    graph.input.extend(others)
    graph.output.append(helper.make_tensor_value_info(target, TensorProto.FLOAT, [batch, size]))


def _first_nodes(contract: Contract, source: str) -> list[onnx.NodeProto]:
    """Return the nodes from a float32 image to the file's own input."""
    nodes, name = [], source
    if contract.layout == "nhwc":
        nodes.append(helper.make_node("Transpose", [name], [f"{source}_nhwc"], perm=[0, 2, 3, 1]))
        name = f"{source}_nhwc"
    if contract.takes_pixels:
        nodes.append(helper.make_node("Cast", [name], [contract.input], to=contract.dtype))
    else:
        nodes.append(helper.make_node("Identity", [name], [contract.input]))
    return nodes


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _to_float32(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _widen(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in _WIDE:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for item in node.attribute:
            if item.HasField("t"):
                _widen(item.t)
            elif item.name in ("to", "dtype") and item.i in _WIDE:
                item.i = TensorProto.FLOAT
        for inner in subgraphs(node):
            _to_float32(inner)


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type not in _WIDE:
        return
    limits = np.finfo(np.float32)
    value = numpy_helper.to_array(tensor).astype(np.float64)
    # Masks are filled with float64's lowest number.
    finite = np.where(np.isfinite(value), np.clip(value, limits.min, limits.max), value)
    tensor.CopyFrom(numpy_helper.from_array(finite.astype(np.float32), tensor.name))
