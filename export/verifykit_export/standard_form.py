"""Bring the networks of other projects to one form: (N, C, H, W) float32 to (N, D) float32."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from verifykit.errors import ModelContractError
from verifykit_export.float32 import to_float32
from verifykit_export.network import sort_nodes, subgraphs
from verifykit_export.original import Contract

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


def require_plain_operators(graph: onnx.GraphProto) -> None:
    """Raise ModelContractError if a network has operators that ONNX does not define."""
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise ModelContractError(
                f"operator {node.op_type} is of the domain {node.domain}, which ONNX does not define: export "
                "the network without the optimisations of one runtime"
            )
        for inner in subgraphs(node):
            require_plain_operators(inner)


def to_standard_form(
    model: onnx.ModelProto,
    contract: Contract,
    size: int,
    names: tuple[str, str] = ("input", "embedding"),
) -> None:
    """Change a model in place: float32, channels first, one output of ``size`` values an image."""
    graph = model.graph
    to_float32(graph)
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
