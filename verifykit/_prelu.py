"""PRelu put back into a network whose export wrote it as convolutions.

The export writes PRelu(x) as a x + relu((1 - a) x), or as a x + (1 - a) relu(x), with depthwise 1x1
convolutions, which ONNX Runtime's own CPU provider keeps in its blocked layout
(verifykit_export.passes.rewrite_prelu). OpenVINO computes PRelu inside the convolution before it: there
the four nodes cost time and, in bfloat16, a rounding each. The model file and its digest stay as they are;
the network is rewritten in memory, without the package onnx, which the runtime does not need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verifykit._protobuf import Field, bytes_field, integer_field, integers, read_fields

# Field numbers of onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_CONSTANT = 1, 5
_GRAPH_ENDS = (11, 12)  # inputs and outputs
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER, _ATTRIBUTE_INTEGERS = 1, 3, 8
_TENSOR_SIZE, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_BYTES = 1, 2, 8, 9
_VALUE_NAME = 1
_FLOAT = 1

_ROUNDING = 1e-6  # of a and 1 - a in float32, whose sum is to be 1


@dataclass(frozen=True)
class _Node:
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class _Scaled:
    """A depthwise 1x1 convolution: every channel of ``source`` times its value in ``constant``."""

    source: str
    constant: str
    factor: NDArray[np.float32]


@dataclass(frozen=True)
class _Joined:
    """A PRelu, and what it replaces: the nodes by their outputs, and a constant."""

    source: str
    slope: str
    replaced: tuple[str, ...]
    unused: str


def with_prelu(model: bytes) -> bytes:
    """Return an ONNX model with PRelu in place of the nodes that compute it; without any, as it is."""
    try:
        fields = list(read_fields(model))
        at, graph = next(
            (index, field.value)
            for index, field in enumerate(fields)
            if field.number == _MODEL_GRAPH and isinstance(field.value, bytes)
        )
        rewritten = _rewritten(graph)
    except (ValueError, StopIteration):  # no ONNX: onnxruntime says what is wrong with it
        return model
    if rewritten is None:
        return model
    before, after = model[: fields[at].start], model[fields[at].end :]
    return before + bytes_field(_MODEL_GRAPH, rewritten) + after


def _rewritten(graph: bytes) -> bytes | None:
    """Return a graph with its PRelu joined; None if it has none."""
    fields = list(read_fields(graph))
    nodes = {i: _node(f) for i, f in enumerate(fields) if f.number == _GRAPH_NODE}
    network = _Network(
        {node.outputs[0]: node for node in nodes.values() if len(node.outputs) == 1},
        Counter(name for node in nodes.values() for name in node.inputs)
        + Counter(_texts(_parts(f), _VALUE_NAME)[0] for f in fields if f.number in _GRAPH_ENDS),
        dict(_factors([f for f in fields if f.number == _GRAPH_CONSTANT])),
    )
    joined = {
        index: found for index, node in nodes.items() if (found := network.joined(node)) is not None
    }
    if not joined:
        return None
    replaced = {name for each in joined.values() for name in each.replaced}
    unused = {each.unused for each in joined.values()}
    slopes = {each.slope for each in joined.values()}
    parts = []
    for index, field in enumerate(fields):
        if index in joined:
            parts.append(_prelu(joined[index], nodes[index].outputs[0]))
        elif index in nodes and set(nodes[index].outputs) <= replaced:
            continue
        elif field.number != _GRAPH_CONSTANT or _tensor_name(field) not in slopes | unused:
            parts.append(graph[field.start : field.end])
    parts += [_slope(name, network.constants[name]) for name in sorted(slopes)]
    return b"".join(parts)


@dataclass(frozen=True)
class _Network:
    """What looks for a PRelu: nodes by output, how often each name is read, and (C, 1, 1, 1) constants."""

    producers: Mapping[str, _Node]
    reads: Mapping[str, int]
    constants: Mapping[str, NDArray[np.float32]]

    def joined(self, node: _Node) -> _Joined | None:
        """Return the PRelu that ends in a node; None if it does not end one."""
        if node.operator != "Add" or len(node.inputs) != 2:
            return None
        linear = self._scaled(node.inputs[0])
        bent = self.producers.get(node.inputs[1])
        if linear is None or bent is None or not bent.inputs:
            return None
        inner = bent.inputs[0]
        if bent.operator == "Relu":
            scaled = self._scaled(inner)
            source = scaled.source if scaled else None
        else:
            scaled = self._scaled(node.inputs[1])
            relu = self.producers.get(inner)
            source = relu.inputs[0] if relu and relu.operator == "Relu" else None
        if scaled is None or source is None or source != linear.source:
            return None
        if linear.factor.shape != scaled.factor.shape:
            return None
        between = (*node.inputs, inner, linear.constant, scaled.constant)
        if any(self.reads[name] != 1 for name in between):
            return None
        if not np.allclose(linear.factor + scaled.factor, 1.0, rtol=0.0, atol=_ROUNDING):
            return None
        return _Joined(source, linear.constant, (*node.inputs, inner), scaled.constant)

    def _scaled(self, name: str) -> _Scaled | None:
        node = self.producers.get(name)
        if node is None or node.operator != "Conv" or len(node.inputs) != 2:
            return None
        source, constant = node.inputs
        factor = self.constants.get(constant)
        if factor is None:
            return None
        plain = {"group": (len(factor),), "kernel_shape": (1, 1)}
        return _Scaled(source, constant, factor) if node.attributes == plain else None


def _parts(field: Field) -> list[Field]:
    return list(read_fields(field.value)) if isinstance(field.value, bytes) else []


def _texts(parts: Sequence[Field], number: int) -> tuple[str, ...]:
    return tuple(
        part.value.decode()
        for part in parts
        if part.number == number and isinstance(part.value, bytes)
    )


def _node(field: Field) -> _Node:
    parts = _parts(field)
    attributes = (_attribute(part) for part in parts if part.number == _NODE_ATTRIBUTE)
    return _Node(
        "".join(_texts(parts, _NODE_OPERATOR)),
        _texts(parts, _NODE_INPUT),
        _texts(parts, _NODE_OUTPUT),
        dict(attributes),
    )


def _tensor_name(field: Field) -> str:
    return "".join(_texts(_parts(field), _TENSOR_NAME))


def _integers(parts: Sequence[Field], *numbers: int) -> tuple[int, ...]:
    return tuple(each for part in parts if part.number in numbers for each in integers(part.value))


def _attribute(field: Field) -> tuple[str, tuple[int, ...]]:
    """Return the name and the integers of an attribute; no integers for one of another type."""
    parts = _parts(field)
    (name,) = _texts(parts, _ATTRIBUTE_NAME)
    return name, _integers(parts, _ATTRIBUTE_INTEGER, _ATTRIBUTE_INTEGERS)


def _factors(fields: Sequence[Field]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the name and the values of each constant that is (C, 1, 1, 1) float32."""
    for field in fields:
        parts = _parts(field)
        size, data = _integers(parts, _TENSOR_SIZE), _last_bytes(parts, _TENSOR_BYTES)
        is_factor = len(size) == 4 and size[1:] == (1, 1, 1) and len(data) == 4 * size[0]
        if is_factor and _integers(parts, _TENSOR_TYPE) == (_FLOAT,):
            yield "".join(_texts(parts, _TENSOR_NAME)), np.frombuffer(data, "<f4")


def _last_bytes(parts: Sequence[Field], number: int) -> bytes:
    found = [p.value for p in parts if p.number == number and isinstance(p.value, bytes)]
    return found[-1] if found else b""


def _prelu(joined: _Joined, output: str) -> bytes:
    texts = (
        (_NODE_INPUT, joined.source),
        (_NODE_INPUT, joined.slope),
        (_NODE_OUTPUT, output),
        (_NODE_OPERATOR, "PRelu"),
    )
    node = b"".join(bytes_field(number, text.encode()) for number, text in texts)
    return bytes_field(_GRAPH_NODE, node)


def _slope(name: str, factor: NDArray[np.float32]) -> bytes:
    tensor = [
        *(integer_field(_TENSOR_SIZE, size) for size in (len(factor), 1, 1)),
        integer_field(_TENSOR_TYPE, _FLOAT),
        bytes_field(_TENSOR_NAME, name.encode()),
        bytes_field(_TENSOR_BYTES, factor.astype("<f4").tobytes()),
    ]
    return bytes_field(_GRAPH_CONSTANT, b"".join(tensor))
