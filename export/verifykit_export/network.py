"""An ONNX network open for rewriting: nodes in order, constants as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

# Of the face model and of converted files, so that they do not change with onnx's version: the newest that
# every node of the face model is valid in.
OPSET = 17


@dataclass
class Network:
    """A network that :mod:`verifykit_export.passes` change in place.

    Attributes:
        nodes: In topological order.
        constants: Name to value.
        inputs: What is fed at run time, and in some files also the constants' names.
        outputs: What is returned.
        opset: The operator set that the nodes are of.
    """

    nodes: list[onnx.NodeProto]
    constants: dict[str, NDArray[Any]]
    inputs: list[onnx.ValueInfoProto]
    outputs: list[onnx.ValueInfoProto]
    opset: int = OPSET
    _fresh: int = field(default=0, repr=False)

    @classmethod
    def from_model(cls, model: onnx.ModelProto, opset: int = OPSET) -> Network:
        """Open a copy of a model; metadata, names and shapes in between are left behind.

        The opset is not read from the model: the face model's file states a newer one than its nodes need.
        """
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
            opset=opset,
        )

    def to_model(self, name: str) -> onnx.ModelProto:
        """Return a checked model."""
        opset = helper.make_opsetid("", self.opset)
        graph = helper.make_graph(
            self.nodes,
            name,
            self.inputs,
            self.outputs,
            self.initializers(),
        )
        model = helper.make_model(
            graph,
            producer_name="verifykit",
            ir_version=helper.find_min_ir_version_for([opset]),
            opset_imports=[opset],
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def initializers(self) -> list[onnx.TensorProto]:
        """Return the constants as ONNX stores them, in the order of their names."""
        return [
            numpy_helper.from_array(value, key) for key, value in sorted(self.constants.items())
        ]

    def producer(self, tensor: str) -> onnx.NodeProto | None:
        """Return the node that computes a tensor; None for inputs and constants."""
        return next((node for node in self.nodes if tensor in node.output), None)

    def consumers(self, tensor: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a tensor, in their subgraphs too."""
        return [node for node in self.nodes if tensor in reads(node)]

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
            rename_reads(node, old, new)


def attributes(node: onnx.NodeProto) -> Mapping[str, Any]:
    """Return a node's attributes as Python values; strings as bytes."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs that a node runs: branches of ``If``, bodies of ``Loop`` and ``Scan``."""
    graphs = [item.g for item in node.attribute if item.type == onnx.AttributeProto.GRAPH]
    several = [item.graphs for item in node.attribute if item.type == onnx.AttributeProto.GRAPHS]
    return [*graphs, *(graph for some in several for graph in some)]


def reads(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node reads: its inputs, and what its subgraphs take from outside."""
    names = set(node.input)
    for graph in subgraphs(node):
        inside = {item.name for item in (*graph.input, *graph.initializer)}
        inside |= {name for inner in graph.node for name in inner.output}
        names |= {item.name for item in graph.output} - inside
        for inner in graph.node:
            names |= reads(inner) - inside
    return names - {""}


def rename_reads(node: onnx.NodeProto, old: str, new: str) -> None:
    """Let a node, and the nodes of its subgraphs, read another tensor; ONNX forbids names of two meanings."""
    for index, name in enumerate(node.input):
        if name == old:
            node.input[index] = new
    for graph in subgraphs(node):
        for inner in graph.node:
            rename_reads(inner, old, new)
        for output in graph.output:
            if output.name == old:
                output.name = new


def sort_nodes(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return nodes after those that they read from; in order already, they keep it."""
    known = {name for node in nodes for name in node.output if name}
    waiting, ordered = [(node, reads(node)) for node in nodes], []
    while waiting:
        later = []
        for node, needed in waiting:
            if needed & known:
                later.append((node, needed))
            else:
                ordered.append(node)
                known -= set(node.output)
        if len(later) == len(waiting):
            raise ValueError(
                f"the nodes that compute {sorted(known)[:3]} read each other in a circle"
            )
        waiting = later
    return ordered


def _copy(proto: Any) -> Any:
    fresh = type(proto)()
    fresh.CopyFrom(proto)
    return fresh
