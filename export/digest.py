"""What identifies a network: its operators and weights, not the bytes of a file."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["weights_digest"]


def weights_digest(model: onnx.ModelProto) -> str:
    """SHA-256 over a network's operators, their attributes and connections, and its constants.

    It does not depend on the version of onnx or protobuf, on the names of nodes, on the order of
    attributes and constants, or on metadata.

    Args:
        model: Only plain operators; no subgraphs, no data in other files.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: An attribute is neither number, text nor tensor.
    """
    digest = hashlib.sha256()
    graph = model.graph
    domains = sorted((item.domain or "ai.onnx", item.version) for item in model.opset_import)
    _feed(digest, ["opset", domains])
    for kind, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            _feed(digest, [kind, value.name, value.type.tensor_type.elem_type])
    for node in graph.node:
        attributes = sorted((item.name, _attribute(item)) for item in node.attribute)
        name = [node.domain or "ai.onnx", node.op_type]
        _feed(digest, ["node", name, list(node.input), list(node.output), attributes])
    for tensor in sorted(graph.initializer, key=lambda item: item.name):
        _feed(digest, ["constant", tensor.name, *_tensor(tensor)])
    return digest.hexdigest()


def _feed(digest: Any, record: list[Any]) -> None:
    digest.update(json.dumps(record, separators=(",", ":"), ensure_ascii=True).encode() + b"\n")


def _attribute(item: onnx.AttributeProto) -> list[Any]:
    value = helper.get_attribute_value(item)
    if item.type in (onnx.AttributeProto.FLOAT, onnx.AttributeProto.FLOATS):
        floats = np.atleast_1d(np.asarray(value, dtype="<f4"))
        return ["float", floats.tobytes().hex()]
    if item.type in (onnx.AttributeProto.INT, onnx.AttributeProto.INTS):
        return ["int", np.atleast_1d(value).tolist()]
    if item.type == onnx.AttributeProto.STRING:
        return ["text", value.decode()]
    if item.type == onnx.AttributeProto.STRINGS:
        return ["text", [part.decode() for part in value]]
    if item.type == onnx.AttributeProto.TENSOR:
        return ["tensor", *_tensor(value)]
    raise ValueError(f"attribute {item.name!r} is neither number, text nor tensor")


def _tensor(tensor: onnx.TensorProto) -> list[Any]:
    """Type, shape and the digest of the values as little-endian bytes."""
    value = numpy_helper.to_array(tensor)
    little = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
    return [tensor.data_type, list(value.shape), hashlib.sha256(little.tobytes()).hexdigest()]
