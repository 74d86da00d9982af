"""A factor on the way into a convolution becomes part of its weights."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from verifykit_export.network import Network


def fold_scale(network: Network) -> None:
    """Fold ``Mul`` by a constant number into the ``Conv`` that alone reads it.

    The convolution's padding adds zeros, and a multiple of zero is zero: the result is the same. An
    offset is another matter (the padding would have to be of the offset's value): ``Sub`` and ``Add``
    stay where they are.
    """
    for node in [node for node in network.nodes if node.op_type == "Mul"]:
        conv = network.only_consumer(node.output[0])
        factor, source = _factor(network, node)
        if conv is None or conv.op_type != "Conv" or factor is None:
            continue
        weight = network.constant(conv, 1)
        if weight is None or conv.input[0] != node.output[0]:
            continue
        scaled = weight.astype(np.float64) * factor
        conv.input[1] = network.add_constant(conv.input[1], scaled.astype(np.float32))
        conv.input[0] = source
        network.replace_node(node, [])


def _factor(network: Network, node: onnx.NodeProto) -> tuple[NDArray[np.float64] | None, str]:
    for index in (0, 1):
        value = network.constant(node, index)
        if value is not None and value.size == 1:
            return value.astype(np.float64).reshape(()), node.input[1 - index]
    return None, ""
