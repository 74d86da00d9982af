"""Small convolutions that read the same tensor become one."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import onnx
from onnx import helper

from verifykit_export.network import Network, attributes


def merge_siblings(network: Network) -> None:
    """Merge the 1x1 ``Conv`` nodes that read one tensor into one ``Conv`` and a ``Split``.

    A detector's heads have 1, 1, 4 and 10 channels, and ONNX Runtime computes each as a block of 16.
    """
    pointwise = [node for node in network.nodes if _is_pointwise(network, node)]
    pointwise.sort(key=lambda node: node.input[0])
    for source, group in groupby(pointwise, key=lambda node: node.input[0]):
        siblings = list(group)
        if len(siblings) > 1:
            _merge(network, source, siblings)


def _is_pointwise(network: Network, node: onnx.NodeProto) -> bool:
    weight, bias = network.constant(node, 1), network.constant(node, 2)
    if node.op_type != "Conv" or weight is None or bias is None or weight.shape[2:] != (1, 1):
        return False
    values = attributes(node)
    return (
        values.get("group", 1) == 1
        and set(values.get("strides", [1])) == {1}
        and set(values.get("pads", [0])) == {0}
        and values.get("auto_pad", b"NOTSET") == b"NOTSET"
    )


def _merge(network: Network, source: str, siblings: list[onnx.NodeProto]) -> None:
    weights = [network.constants[node.input[1]] for node in siblings]
    biases = [network.constants[node.input[2]] for node in siblings]
    merged = network.fresh_name(siblings[0].output[0])
    conv = helper.make_node(
        "Conv",
        [
            source,
            network.add_constant(siblings[0].input[1], np.concatenate(weights)),
            network.add_constant(siblings[0].input[2], np.concatenate(biases)),
        ],
        [merged],
        kernel_shape=[1, 1],
    )
    sizes = network.add_constant(
        f"{merged}_split", np.array([len(part) for part in biases], dtype=np.int64)
    )
    split = helper.make_node(
        "Split", [merged, sizes], [node.output[0] for node in siblings], axis=1
    )
    first = min(
        siblings, key=lambda node: next(i for i, n in enumerate(network.nodes) if n is node)
    )
    for node in siblings:
        network.replace_node(node, [conv, split] if node is first else [])
