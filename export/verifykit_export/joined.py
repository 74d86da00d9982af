"""Join several encoders into one network, so that specification, digest and runtime are those of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper

from verifykit_export.network import Network

_BACKWARD_END = np.iinfo(np.int64).min


@dataclass(frozen=True, eq=False)
class Part:
    """An encoder, and the part of the crop that it sees.

    Attributes:
        encoder: (N, C, H, W) to (N, D), any N.
        top_px: First row of its window in the crop.
        left_px: First column.
        height_px: Rows of the window; resized to H.
        width_px: Columns of the window; resized to W.
    """

    encoder: onnx.ModelProto
    top_px: int
    left_px: int
    height_px: int
    width_px: int


def join_encoders(
    parts: Sequence[Part], height_px: int, width_px: int, name: str
) -> onnx.ModelProto:
    """Return a network whose cosines are the mean of its encoders' cosines.

    Each encoder sees its window and the mirror image of that; its embedding is the mean of both, at unit
    length. The embeddings, one after the other, are divided by the root of their number.
    """
    image = helper.make_tensor_value_info(
        "input", TensorProto.FLOAT, ["batch", 3, height_px, width_px]
    )
    joined = Network([], {}, [image], [])
    rows = [_embedded(joined, part, f"part{n}_", len(parts)) for n, part in enumerate(parts)]
    joined.nodes.append(helper.make_node("Concat", rows, ["embedding"], axis=1))
    size = sum(_dims(part.encoder.graph.output[0])[1] for part in parts)
    joined.outputs.append(
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", size])
    )
    return joined.to_model(name)


def _embedded(joined: Network, part: Part, prefix: str, count: int) -> str:
    """Add a part's nodes; return the tensor of its share of the embedding."""
    encoder = Network.from_model(compose.add_prefix(part.encoder, prefix))
    source, target = encoder.inputs[0], encoder.outputs[0]

    def add(operator: str, *inputs: str | NDArray[Any], **attributes: Any) -> str:
        names = [
            each if isinstance(each, str) else joined.add_constant(prefix + "value", each)
            for each in inputs
        ]
        output = joined.fresh_name(prefix + operator.lower())
        joined.nodes.append(helper.make_node(operator, names, [output], **attributes))
        return output

    ends = part.top_px + part.height_px, part.left_px + part.width_px
    starts = np.array([part.top_px, part.left_px], np.int64)
    view = add("Slice", "input", starts, np.array(ends, np.int64), np.array([2, 3], np.int64))
    height, width = _dims(source)[2:]
    if (height, width) != (part.height_px, part.width_px):
        scales = np.array([1, 1, height / part.height_px, width / part.width_px], np.float32)
        view = add(
            "Resize", view, "", scales, mode="linear", coordinate_transformation_mode="half_pixel"
        )
    backward = [np.array([value], np.int64) for value in (-1, _BACKWARD_END, 3, -1)]
    both = add("Concat", view, add("Slice", view, *backward), axis=0)
    joined.constants.update(encoder.constants)
    encoder.read_instead(source.name, both)
    joined.nodes.extend(encoder.nodes)

    def unit(rows: str) -> str:
        return add("Div", rows, add("ReduceL2", rows, axes=[1], keepdims=1))

    size = _dims(target)[1]
    pairs = add("Reshape", unit(target.name), np.array([2, -1, size], np.int64))
    row = unit(add("ReduceSum", pairs, np.array([0], np.int64), keepdims=0))
    return add("Mul", row, np.array(1 / math.sqrt(count), np.float32))


def _dims(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
