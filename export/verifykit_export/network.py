"""An ONNX network open for rewriting: nodes in order, constants as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

# Pinned, so that the file does not change with onnx's version. Old enough for every onnxruntime that
# verifykit runs on, and the newest that every node of the face model is valid in.
OPSET = 17
IR_VERSION = 8


@dataclass
class Network:
    """A network that :mod:`verifykit_export.passes` change in place.

    Attributes:
        nodes: In topological order.
        constants: Name to value.
        inputs: What is fed at run time, and in some files also the constants' names.
        outputs: What is returned.
    """

    nodes: list[onnx.NodeProto]
    constants: dict[str, NDArray[Any]]
    inputs: list[onnx.ValueInfoProto]
    outputs: list[onnx.ValueInfoProto]
    _fresh: int = field(default=0, repr=False)

    @classmethod
    def from_model(cls, model: onnx.ModelProto) -> Network:
        """Open a copy of a model; metadata, names and shapes in between are left behind."""
        graph = model.graph
        foreign = sorted({node.domain for node in graph.node} - {"", "ai.onnx"})
        if foreign or model.functions or graph.sparse_initializer:
            raise ValueError(
                "only plain ONNX operators and dense constants are supported; the model has "
                f"operator domains {foreign}, {len(model.functions)} local functions and "
                f"{len(graph.sparse_initializer)} sparse constants"
            )
        return cls(
            nodes=[_copy(node) for node in graph.node],
            constants={item.name: numpy_helper.to_array(item) for item in graph.initializer},
            inputs=[_copy(item) for item in graph.input],
            outputs=[_copy(item) for item in graph.output],
        )

    def to_model(
        self, name: str, *, opset: int = OPSET, ir_version: int = IR_VERSION
    ) -> onnx.ModelProto:
        """Return a checked model."""
        graph = helper.make_graph(
            self.nodes,
            name,
            self.inputs,
            self.outputs,
            [numpy_helper.from_array(value, key) for key, value in sorted(self.constants.items())],
        )
        model = helper.make_model(
            graph,
            producer_name="verifykit",
            ir_version=ir_version,
            opset_imports=[helper.make_opsetid("", opset)],
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def producer(self, tensor: str) -> onnx.NodeProto | None:
        """Return the node that computes a tensor; None for inputs and constants."""
        return next((node for node in self.nodes if tensor in node.output), None)

    def consumers(self, tensor: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a tensor."""
        return [node for node in self.nodes if tensor in node.input]

    def only_consumer(self, tensor: str) -> onnx.NodeProto | None:
        """Return the one node that reads a tensor; None if several do, or if it is also an output."""
        readers = self.consumers(tensor)
        is_output = any(item.name == tensor for item in self.outputs)
        return readers[0] if len(readers) == 1 and not is_output else None

    def constant(self, node: onnx.NodeProto, index: int) -> NDArray[Any] | None:
        """Return the value of a node's input, if it has one there and it is constant."""
        return self.constants.get(node.input[index]) if index < len(node.input) else None

    def add_constant(self, near: str, value: NDArray[Any]) -> str:
        """Store a value under a new name that begins with ``near``."""
        name = self.fresh_name(near)
        self.constants[name] = value
        return name

    def fresh_name(self, near: str) -> str:
        """Return a tensor name that is not taken; the same for the same passes on the same model."""
        taken = set(self.constants) | {item.name for item in self.inputs}
        taken |= {name for node in self.nodes for name in node.output}
        while True:
            self._fresh += 1
            name = f"{near}__{self._fresh}"
            if name not in taken:
                return name

    def replace_node(self, node: onnx.NodeProto, by: Sequence[onnx.NodeProto]) -> None:
        """Put other nodes, or none, in a node's place."""
        index = next(i for i, other in enumerate(self.nodes) if other is node)
        self.nodes[index : index + 1] = by

    def read_instead(self, old: str, new: str) -> None:
        """Let every node that reads one tensor read another."""
        for node in self.nodes:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new


def attributes(node: onnx.NodeProto) -> Mapping[str, Any]:
    """Return a node's attributes as Python values; strings as bytes."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def _copy(proto: Any) -> Any:
    fresh = type(proto)()
    fresh.CopyFrom(proto)
    return fresh
