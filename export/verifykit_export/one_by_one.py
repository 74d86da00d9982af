"""Run a network of one image on several, one after the other."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from verifykit_export.network import Network


def one_by_one(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return a network for any number of images, whose ``Scan`` runs one for a single image.

    For networks with the number of images inside: in constants, or in shapes that are computed from them.
    One image takes as long as before; several are not faster than one by one.
    """
    inner = Network.from_model(model, model.opset_import[0].version)
    (image,), (row,) = inner.inputs, inner.outputs
    shape = [dim.dim_value or dim.dim_param for dim in image.type.tensor_type.shape.dim]
    size = row.type.tensor_type.shape.dim[1].dim_value
    first = inner.add_constant("axis", np.zeros(1, np.int64))
    single, answer = inner.fresh_name("image"), inner.fresh_name("row")
    inner.nodes.insert(0, helper.make_node("Unsqueeze", [single, first], [image.name]))
    inner.nodes.append(helper.make_node("Squeeze", [row.name, first], [answer]))
    body = helper.make_graph(
        inner.nodes,
        "one_image",
        [helper.make_tensor_value_info(single, TensorProto.FLOAT, shape[1:])],
        [helper.make_tensor_value_info(answer, TensorProto.FLOAT, [size])],
        inner.initializers(),
    )
    images, rows = inner.fresh_name("images"), inner.fresh_name("embeddings")
    scan = helper.make_node("Scan", [images], [rows], body=body, num_scan_inputs=1)
    outer = Network(
        [scan],
        {},
        [helper.make_tensor_value_info(images, TensorProto.FLOAT, ["batch", *shape[1:]])],
        [helper.make_tensor_value_info(rows, TensorProto.FLOAT, ["batch", size])],
        inner.opset,
    )
    return outer.to_model(name)
