"""PRelu as convolutions, which ONNX Runtime keeps in its blocked memory layout."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from verifykit_export.network import Network


def rewrite_prelu(network: Network) -> None:
    """Replace ``PRelu`` with one slope a channel by depthwise 1x1 convolutions, ``Relu`` and ``Add``.

    With slope a, PRelu(x) = a x + (1 - a) relu(x). ONNX Runtime's CPU provider keeps convolutions, and
    the ``Relu`` and ``Add`` that it fuses into them, in a layout of 16 channels a block; PRelu it computes
    outside of it, on one thread, with two passes over memory to leave the layout and come back.

    Where no slope is above 1, (1 - a) relu(x) = relu((1 - a) x), and the Relu costs no pass of its own.
    """
    for node in [node for node in network.nodes if node.op_type == "PRelu"]:
        slope = _slope(network, node)
        if slope is not None:
            network.replace_node(node, _replacement(network, node, slope))


def _slope(network: Network, node: onnx.NodeProto) -> NDArray[np.float64] | None:
    """(C,) slopes of a PRelu over (N, C, H, W); None if it is another kind."""
    slope = network.constant(node, 1)
    if slope is None or slope.ndim != 3 or slope.shape[1:] != (1, 1):
        return None
    return slope.astype(np.float64).reshape(-1)


def _replacement(
    network: Network, node: onnx.NodeProto, slope: NDArray[np.float64]
) -> list[onnx.NodeProto]:
    x, y = node.input[0], node.output[0]
    linear, bent, middle = (network.fresh_name(y) for _ in range(3))
    nodes = [_scaled(network, x, linear, slope)]
    if (slope <= 1.0).all():
        nodes.append(_scaled(network, x, middle, 1.0 - slope))
        nodes.append(helper.make_node("Relu", [middle], [bent]))
    else:
        nodes.append(helper.make_node("Relu", [x], [middle]))
        nodes.append(_scaled(network, middle, bent, 1.0 - slope))
    nodes.append(helper.make_node("Add", [linear, bent], [y]))
    return nodes


def _scaled(
    network: Network, source: str, target: str, factor: NDArray[np.float64]
) -> onnx.NodeProto:
    """A depthwise 1x1 convolution: every channel times its factor."""
    weight = factor.astype(np.float32).reshape(-1, 1, 1, 1)
    name = network.add_constant(f"{target}_factor", weight)
    return helper.make_node(
        "Conv", [source, name], [target], group=len(factor), kernel_shape=[1, 1]
    )
