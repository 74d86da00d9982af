"""Depthwise convolutions of the parts of a split become one of the whole, before the split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from verifykit_export.network import Network, attributes


def sink_splits(network: Network) -> None:
    """Move ``Split`` by channel behind the depthwise ``Conv`` of the same geometry on all its parts."""
    for split in [node for node in network.nodes if node.op_type == "Split"]:
        readers = [network.only_consumer(name) for name in split.output]
        convs = [node for node in readers if node is not None and node.op_type == "Conv"]
        if len(convs) == len(split.output) and attributes(split).get("axis", 0) == 1:
            _sink(network, split, convs)


def _sink(network: Network, split: onnx.NodeProto, convs: list[onnx.NodeProto]) -> None:
    weights = _depthwise_constants(network, convs, 1)
    biases = _depthwise_constants(network, convs, 2)
    if weights is None or biases is None:
        return
    merged = network.fresh_name(convs[0].output[0])
    conv = helper.make_node(
        "Conv",
        [
            split.input[0],
            network.add_constant(convs[0].input[1], np.concatenate(weights)),
            network.add_constant(convs[0].input[2], np.concatenate(biases)),
        ],
        [merged],
        **{**_geometry(convs[0]), "group": sum(len(part) for part in biases)},
    )
    behind = helper.make_node(
        "Split", [merged, split.input[1]], [node.output[0] for node in convs], axis=1
    )
    for node in convs:
        network.replace_node(node, [])
    network.replace_node(split, [conv, behind])


def _depthwise_constants(
    network: Network, convs: list[onnx.NodeProto], index: int
) -> list[NDArray[Any]] | None:
    """One input of every convolution; None unless all are constant, depthwise and of one geometry."""
    found = []
    for node in convs:
        weight, value = network.constant(node, 1), network.constant(node, index)
        if weight is None or value is None or _geometry(node) != _geometry(convs[0]):
            return None
        if weight.shape[1] != 1 or attributes(node).get("group", 1) != len(weight):
            return None
        found.append(value)
    return found


def _geometry(node: onnx.NodeProto) -> Mapping[str, Any]:
    return {name: value for name, value in attributes(node).items() if name != "group"}
